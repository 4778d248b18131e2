import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from frostline.features.content import file_content
from frostline.features.images.batches import default_workers, load_batches
from frostline.features.images.decoding import decode
from frostline.features.sources import open_source
from frostline.features.spec import Transform
from frostline.features.table import FAILED, NO_STAMP, OK, ImageSource, ImageTable, make_stamp
from frostline.testing import encode, photo
from tests.helpers.images import write_folder

TRANSFORM = Transform(
    resize=20,
    resize_mode="shortest",
    crop=(16, 18),
    interpolation="bilinear",
    mean=(0.5,) * 3,
    std=(0.5,) * 3,
)


def stamp(data, row):
    return make_stamp(len(data), 1000 + row)


class MemorySource(ImageSource):
    """Images held in memory: bytes, or an exception that reading raises."""

    def __init__(self, files):
        n = len(files)
        self.files = files
        self.root = "/memory"
        self.reads = []
        self.table = ImageTable(
            ids=np.array([f"{row:06}" for row in range(n)], np.bytes_),
            labels=np.full(n, -1),
            classes=(),
            split=np.zeros(n, np.uint8),
            groups=np.zeros(n, "S1"),
            stamps=np.zeros((n, 16), np.uint8),
        )

    def read(self, row):
        self.reads.append(row)
        data = self.files[row]
        if isinstance(data, BaseException):
            raise data
        return data, stamp(data, row)


class WaitingSource(MemorySource):
    """Reads wait until they are let go."""

    def __init__(self, files):
        super().__init__(files)
        self.go = threading.Event()

    def read(self, row):
        answer = super().read(row)
        self.go.wait()
        return answer


@pytest.fixture(scope="module")
def files():
    return [encode(photo(24 + seed, 30, seed=seed)) for seed in range(23)]


def load(source, rows=None, transform=TRANSFORM, **options):
    rows = np.arange(len(source.table)) if rows is None else np.asarray(rows)
    return load_batches(
        source, rows, transform, **{"batch_size": 4, "workers": 2, "block_rows": 100} | options
    )


def decode_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def decoded(data):
    out = np.empty((16, 18, 3), np.uint8)
    decode(data, TRANSFORM, out)
    return out


@pytest.mark.parametrize("workers", [1, 2, 7])
@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_every_image_arrives_once_in_order_with_its_metadata(files, workers, batch_size):
    batches = list(load(MemorySource(files), workers=workers, batch_size=batch_size))
    assert np.concatenate([batch.rows for batch in batches]).tolist() == list(range(23))
    for batch in batches:
        k = len(batch.rows)
        assert batch.pixels.shape == (batch_size, 16, 18, 3)
        assert (batch.content.shape, batch.stamps.shape, batch.status.shape) == ((k, 16), (k, 16), (k,))
        assert (batch.pixels.dtype, batch.content.dtype, batch.status.dtype) == (np.uint8, np.uint8, np.uint8)
        assert (batch.rows.dtype, batch.stamps.dtype) == (np.int64, np.uint8)
        assert batch.errors == ("",) * k
        assert (batch.status == OK).all()
        assert not batch.pixels[k:].any()
        for position, row in enumerate(batch.rows):
            np.testing.assert_array_equal(batch.pixels[position], decoded(files[row]))
            assert batch.content[position].tobytes() == file_content(files[row])
            assert batch.stamps[position].tobytes() == stamp(files[row], row)


def test_no_batch_crosses_a_block(files):
    batches = load(MemorySource(files), block_rows=10)
    assert [batch.rows.tolist() for batch in batches] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9],
        [10, 11, 12, 13],
        [14, 15, 16, 17],
        [18, 19],
        [20, 21, 22],
    ]


def test_resumed_run_forms_the_same_batches(files):
    whole = [batch.rows.tolist() for batch in load(MemorySource(files), block_rows=10)]
    rest = [batch.rows.tolist() for batch in load(MemorySource(files), np.arange(10, 23), block_rows=10)]
    assert rest == whole[3:]


def test_rows_with_gaps_and_blocks_left_out(files):
    batches = load(MemorySource(files), [1, 3, 4, 7, 9, 21, 22], block_rows=5, batch_size=2)
    assert [batch.rows.tolist() for batch in batches] == [[1, 3], [4], [7, 9], [21, 22]]


def test_nothing_to_load(files):
    source = MemorySource(files)
    assert list(load(source, np.empty(0, np.int64))) == []
    assert source.reads == []


def test_failed_images_shift_no_other(files):
    damaged = files[5][: len(files[5]) // 2]
    broken = {
        2: FileNotFoundError(2, "No such file or directory", "x.png"),
        3: OSError("disk on fire"),
        5: damaged,
        6: b"",
        22: TimeoutError(),
    }
    source = MemorySource([broken.get(row, data) for row, data in enumerate(files)])
    batches = list(load(source))
    errors = {
        row: error for batch in batches for row, error in zip(batch.rows.tolist(), batch.errors, strict=True)
    }
    assert errors[2] == "No such file or directory"
    assert errors[3] == "disk on fire"
    assert errors[5].startswith("damaged image: ")
    assert errors[6] == "empty file"
    assert errors[22] == "TimeoutError"
    assert {row for row, error in errors.items() if error} == broken.keys()
    for batch in batches:
        for position, row in enumerate(batch.rows.tolist()):
            if row not in broken:
                assert batch.status[position] == OK
                np.testing.assert_array_equal(batch.pixels[position], decoded(files[row]))
                continue
            assert batch.status[position] == FAILED
            assert not batch.pixels[position].any()
            read = row in {5, 6}
            assert batch.content[position].tobytes() == (file_content(broken[row]) if read else bytes(16))
            assert batch.stamps[position].tobytes() == (stamp(broken[row], row) if read else NO_STAMP)


def test_other_exceptions_propagate_and_stop_the_threads(files):
    class PluginError(Exception):
        pass

    source = MemorySource([*files[:9], PluginError("in a plugin"), *files[10:]])
    batches = load(source)
    assert [len(next(batches).rows) for _ in range(2)] == [4, 4]
    with pytest.raises(PluginError, match="in a plugin"):
        next(batches)
    assert not decode_threads()


def test_work_ahead_is_bounded(files):
    source = MemorySource(files * 20)
    batches = load(source, batch_size=2, workers=2)
    next(batches)
    while len(source.reads) < 8:
        time.sleep(0.01)
    time.sleep(0.1)  # time in which more would be read if anything allowed it
    assert len(source.reads) == 8  # the batch that was taken, and three that are ahead
    batches.close()


def test_all_workers_are_busy_even_with_small_batches(files):
    source = WaitingSource(files)
    batches = load(source, batch_size=1, workers=6)
    consumer = threading.Thread(target=lambda: next(batches, None), daemon=True)
    consumer.start()
    while len(source.reads) < 6:  # for ever, if fewer threads were at work
        time.sleep(0.01)
    source.go.set()
    consumer.join()
    batches.close()
    assert not decode_threads()


def test_closing_early_stops_the_threads(files):
    source = MemorySource(files * 20)
    batches = load(source)
    next(batches)
    batches.close()
    assert not decode_threads()
    read = len(source.reads)
    assert read < 40
    time.sleep(0.05)
    assert len(source.reads) == read


def test_closing_waits_only_for_images_in_progress(files, monkeypatch):
    source = WaitingSource(files * 4)
    source.go.set()
    batches = load(source, batch_size=30, workers=2)
    next(batches)
    source.go.clear()
    while decode_threads() and len(source.reads) < 32:  # until both threads wait, in batches to come
        time.sleep(0.01)
    read = len(source.reads)
    shutdown = ThreadPoolExecutor.shutdown

    def let_go_and_shut_down(pool, **options):
        source.go.set()
        shutdown(pool, **options)

    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", let_go_and_shut_down)
    batches.close()
    assert len(source.reads) <= read + 2


def test_loading_starts_with_first_requested_batch(files):
    source = MemorySource(files)
    load(source)
    assert source.reads == []
    assert not decode_threads()


@pytest.mark.parametrize("name", ["batch_size", "workers", "block_rows"])
def test_sizes_below_one_are_an_error_at_once(files, name):
    with pytest.raises(ValueError, match=f"{name}: got 0, expected at least 1"):
        load(MemorySource(files), **{name: 0})


def test_workers_are_chosen_for_the_machine(files):
    assert default_workers() >= 1
    assert sum(len(batch.rows) for batch in load(MemorySource(files), workers=None)) == 23


def test_reads_an_image_folder(tmp_path):
    write_folder(tmp_path, ["a/1.png", "a/2.jpg", "b/3.webp"])
    (tmp_path / "b" / "4.png").write_bytes(b"not an image")
    source = open_source(tmp_path)
    (batch,) = load(source, workers=None)
    assert batch.status.tolist() == [OK, OK, OK, FAILED]
    np.testing.assert_array_equal(batch.stamps, source.table.stamps)
    np.testing.assert_array_equal(batch.pixels[1], decoded((tmp_path / "a" / "2.jpg").read_bytes()))


def test_threads_that_decode_many_formats_at_once_agree_with_one():
    image = Image.fromarray(np.asarray(photo(40, 30)))
    files = [
        encode(image, kind) for kind in ("PNG", "WEBP", "JPEG", "GIF", "TIFF", "BMP", "PPM", "JPEG2000")
    ] * 8
    (alone,) = load(MemorySource(files), batch_size=64, workers=1)
    (together,) = load(MemorySource(files), batch_size=64, workers=8)
    assert (alone.status == OK).all()
    np.testing.assert_array_equal(alone.pixels, together.pixels)


def test_requested_decoder_is_used():
    source = MemorySource([encode(photo(150, 120, seed=seed)) for seed in range(4)])
    (exact,), (fast,) = load(source), load(source, decoder="fast")
    assert (exact.pixels != fast.pixels).any()
    assert np.abs(exact.pixels.astype(int) - fast.pixels).max() <= 3


def test_views_follow_each_other_and_depend_on_seed_and_bytes_alone():
    files = [encode(photo(40, 30, seed=seed)) for seed in range(5)]
    source = MemorySource(files)

    def load(rows, seed=0, **options):
        batches = load_batches(
            source, np.array(rows), TRANSFORM, batch_size=7, block_rows=100, views=3, seed=seed, **options
        )
        return list(batches)

    batches = load(range(5))
    assert [len(batch.rows) for batch in batches] == [2, 2, 1]  # whole images: 7 // 3
    assert {batch.views for batch in batches} == {3}
    pixels = np.concatenate([batch.pixels[: 3 * len(batch.rows)] for batch in batches])
    for row, data in enumerate(files):
        plain = np.empty((16, 18, 3), np.uint8)
        decode(data, TRANSFORM, plain)
        assert np.array_equal(pixels[3 * row], plain)
        assert not np.array_equal(pixels[3 * row + 1], plain)
        assert not np.array_equal(pixels[3 * row + 1], pixels[3 * row + 2])
    assert not batches[-1].pixels[3:].any()
    (alone,) = load([3], workers=1)
    assert np.array_equal(alone.pixels[:3], pixels[9:12])
    assert np.array_equal(load([3], seed=1)[0].pixels[0], pixels[9])
    assert not np.array_equal(load([3], seed=1)[0].pixels[1], pixels[10])


def test_parts_of_an_image_cover_it_and_are_mirrored_half_of_the_time():
    ramp = np.zeros((64, 64, 3), np.uint8)
    ramp[..., 0] = np.arange(64)[None, :] * 4
    ramp[..., 1] = np.arange(64)[:, None] * 4
    source = MemorySource([encode(Image.fromarray(ramp))])
    transform = Transform(64, "shortest", (64, 64), "bilinear", (0.5,) * 3, (0.5,) * 3)
    (batch,) = load_batches(source, np.array([0]), transform, batch_size=200, block_rows=1, views=200)
    parts = batch.pixels[1:].astype(float)
    across = parts[:, 32, -1, 0] - parts[:, 32, 0, 0]
    down = parts[:, -1, 32, 1] - parts[:, 0, 32, 1]
    assert 70 < (across < 0).sum() < 130
    assert (down > 0).all()
    area = np.abs(across) * down / 252**2
    assert 0.3 < area.min() < 0.45
    assert 0.8 < area.max() <= 1.0


def test_more_views_than_a_batch_holds_are_refused():
    source = MemorySource([encode(photo(40, 30))])
    with pytest.raises(ValueError, match="views: got 9, expected at most the batch size, 8"):
        next(load_batches(source, np.array([0]), TRANSFORM, batch_size=8, block_rows=1, views=9))
