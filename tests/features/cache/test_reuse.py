import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frostline.features.cache import FeatureCache, open_writer
from frostline.features.cache.file.mapped import MappedFile
from frostline.features.content import file_content
from frostline.features.errors import SourceError
from frostline.features.table import OK
from tests.features.cache.synthetic import (
    LONG_AGO,
    SPEC,
    MemorySource,
    contents,
    extract,
    fill,
    images,
    interrupted,
    labelled,
    labels_of,
    names,
    source,
    spec,
)

ROWS = 700


@pytest.fixture
def path(tmp_path):
    extract(tmp_path / "c.h5", SPEC, source(ROWS))
    return tmp_path / "c.h5"


def reopen(path, images_, specification=SPEC):
    """Ids that a second run computes, after checking that it ends as one from scratch would."""
    writer = open_writer(path, specification, images_)
    if isinstance(writer, FeatureCache):
        return None
    with writer:
        assert writer.resumed + writer.copied + len(writer.todo) == writer.rows
        fill(writer, specification, images_)
        cache = writer.finish()
    fresh, _ = extract(path.with_name("fresh.h5"), specification, images_)
    assert contents(cache) == contents(fresh)
    fresh.path.unlink()
    return [images_.table.ids[row].decode() for row in writer.todo.tolist()]


def test_an_unchanged_set_is_recognised_without_reading_an_image(path):
    before, images_ = path.read_bytes(), source(ROWS)
    assert isinstance(open_writer(path, SPEC, images_), FeatureCache)
    assert images_.reads == 0
    assert path.read_bytes() == before
    assert names(path.parent) == ["c.h5"]


def test_the_same_images_elsewhere_are_unchanged(path):
    assert reopen(path, source(ROWS, root="/moved")) is None


def test_sixty_thousand_unchanged_images_are_few_steps(fast_path):
    small, many = spec(layers=SPEC.layers[1:]), source(60_000)
    with open_writer(fast_path / "c.h5", small, many) as writer:
        count = len(many.table.ids)
        content = np.frombuffer(b"".join(map(file_content, many.files)), np.uint8).reshape(count, 16)
        writer.put(
            np.arange(count),
            {"blocks.4:avg": np.zeros((count, 1, 6), np.float32)},
            content=content,
            stamps=many.table.stamps,
            status=np.ones(count, np.uint8),
            errors=[""] * count,
        )
        writer.finish()
    assert isinstance(open_writer(fast_path / "c.h5", small, many), FeatureCache)
    assert many.reads == 0


def test_added_images_alone_are_computed(path):
    added = images(50, start=10_000)
    new = labelled(images(ROWS) | added)
    assert reopen(path, new) == sorted(added)
    assert new.reads == 50 + (
        ROWS + 50
    )  # to be computed, here and from scratch: no known image has their size


def test_changed_images_alone_are_computed(path):
    files = images(ROWS)
    changed = [sorted(files)[row] for row in (0, 255, 256, 699)]
    files |= dict.fromkeys(changed, b"another picture")
    assert reopen(path, labelled(files)) == changed


def test_a_change_of_the_same_size_shows_in_the_time(path):
    files = images(ROWS)
    files["class/000100.jpg"] = b"imagE 100"
    assert reopen(path, labelled(files, mtimes={"class/000100.jpg": LONG_AGO + 1})) == ["class/000100.jpg"]


@pytest.mark.parametrize("edit", ["renamed", "removed", "relabelled", "touched", "regrouped"])
def test_nothing_is_computed_where_all_images_are_known(path, edit):
    files, mtimes = images(ROWS), {}
    labels = labels_of(files)
    if edit == "renamed":
        files = {name.replace("class/0003", "class/x3"): data for name, data in files.items()}
        labels = labels_of(files)
    elif edit == "removed":
        files = {name: data for name, data in files.items() if not name.endswith("7.jpg")}
    elif edit == "relabelled":
        labels["class/000007.jpg"] = "another"
    elif edit == "touched":
        mtimes = dict.fromkeys(list(files)[::3], LONG_AGO + 5)
    images_ = MemorySource(files, labels=labels, mtimes=mtimes)
    if edit == "regrouped":
        images_.table.groups[:] = b"g"
    writer = open_writer(path, SPEC, images_)
    writer.close()
    assert writer.copied == len(files)
    assert images_.reads == {"renamed": 100, "touched": 234}.get(edit, 0)
    assert reopen(path, images_) == []


def test_an_image_written_while_it_was_read_is_not_trusted_by_its_stat(tmp_path):
    """Within one tick of a file system's clock, a file may change and keep its size and time."""
    path, now = tmp_path / "c.h5", time.time_ns()
    mtimes = dict.fromkeys(images(ROWS), now - 10**9) | {"class/000001.jpg": now - 60 * 10**9}
    extract(path, SPEC, labelled(images(ROWS), mtimes=mtimes))
    same = labelled(images(ROWS), mtimes=mtimes)
    assert isinstance(open_writer(path, SPEC, same), FeatureCache)
    assert same.reads == ROWS - 1
    changed = labelled(images(ROWS) | {"class/000005.jpg": b"imagE 5"}, mtimes=mtimes)
    assert reopen(path, changed) == ["class/000005.jpg"]


def test_rehash_reads_every_image_and_keeps_the_features_of_those_that_are_the_same(path):
    images_ = source(ROWS)
    assert isinstance(open_writer(path, SPEC, images_, rehash=True), FeatureCache)
    assert images_.reads == ROWS


@pytest.mark.parametrize("option", ["rehash", "overwrite"])
def test_rehash_and_overwrite_find_an_image_that_changed_under_its_stamp(path, option):
    changed = labelled(images(ROWS) | {"class/000100.jpg": b"imagE 100"})
    assert isinstance(open_writer(path, SPEC, changed), FeatureCache)
    cache, computed = extract(path, SPEC, changed, **{option: True})
    assert computed == 1
    assert contents(cache) == contents(extract(path.with_name("fresh.h5"), SPEC, changed)[0])


def test_an_interrupted_run_is_rehashed_as_well(tmp_path):
    path = tmp_path / "c.h5"
    interrupted(path, SPEC, source(ROWS), batches=17)
    changed = labelled(images(ROWS) | {"class/000100.jpg": b"imagE 100"})
    cache, _ = extract(path, SPEC, changed, rehash=True)
    assert contents(cache) == contents(extract(tmp_path / "fresh.h5", SPEC, changed)[0])


def test_images_of_equal_size_and_time_that_change_names_keep_their_own_features(path):
    """A stamp proves nothing of an image under another name."""
    files = images(ROWS)
    one, other = "class/000100.jpg", "class/000200.jpg"
    swapped = labelled(files | {one: files[other], other: files[one]})
    for name in (one, other):
        swapped.table.stamps.view("<i8")[sorted(files).index(name), 1] += 1
    assert reopen(path, swapped) == []


def test_a_resumed_run_does_not_keep_an_image_that_changed(tmp_path):
    path = tmp_path / "c.h5"
    interrupted(path, SPEC, source(ROWS), batches=17)
    files = images(ROWS) | {"class/000100.jpg": b"another picture"}
    with open_writer(path, SPEC, labelled(files)) as writer:
        assert writer.resumed == 0
        assert writer.copied == 511
        np.testing.assert_array_equal(writer.todo, [100, *range(512, ROWS)])
    assert reopen(path, labelled(files)) is not None


def test_decoding_failures_are_copied_and_reading_failures_retried(tmp_path):
    path, files = tmp_path / "c.h5", images(ROWS)
    files["class/000003.jpg"], files["class/000004.jpg"] = b"bad", OSError(5, "Input/output error")
    extract(path, SPEC, labelled(files))
    unchanged = labelled(files)
    assert reopen(path, unchanged) is None
    assert unchanged.reads == 1  # it still can't be read
    files |= images(1, start=ROWS)
    assert reopen(path, labelled(files)) == ["class/000004.jpg", "class/000700.jpg"]
    files["class/000004.jpg"] = b"image 4, at last"
    assert reopen(path, labelled(files)) == ["class/000004.jpg"]
    assert FeatureCache.open(path).errors == {3: "not an image"}


def test_progress_reports_number_of_images_read(path):
    told = []
    files = images(ROWS)
    open_writer(
        path,
        SPEC,
        labelled(files, mtimes=dict.fromkeys(files, LONG_AGO + 1)),
        progress=lambda done, total: told.append((done, total)),
    ).close()
    assert told == [(ROWS, ROWS)]


def test_no_images_are_refused(tmp_path):
    with pytest.raises(SourceError, match="/images: no images"):
        open_writer(tmp_path / "c.h5", SPEC, MemorySource({}))
    assert not names(tmp_path)


@pytest.mark.parametrize("ids", [[b"b", b"a", b"c"], [b"a", b"a", b"b"]])
def test_ids_out_of_order_are_refused(tmp_path, ids):
    images_ = source(3)
    images_.table.ids[:] = ids
    with pytest.raises(SourceError, match="ids must be unique and ascending"):
        open_writer(tmp_path / "c.h5", SPEC, images_)


edits = st.lists(
    st.tuples(
        st.sampled_from(["add", "change", "rename", "remove", "touch", "relabel", "break", "mend"]),
        st.integers(0, 2**32),
        st.integers(1, 120),
    ),
    min_size=1,
    max_size=4,
)
runs = st.lists(st.tuples(edits, st.one_of(st.none(), st.integers(0, 30))), min_size=1, max_size=5)


class Folder:
    """An image folder under edits."""

    def __init__(self):
        self.files, self.labels, self.mtimes, self.tick = {}, {}, {}, LONG_AGO
        self.edit("add", 0, 280)

    def edit(self, kind, seed, count):
        rng = np.random.default_rng(seed)
        chosen = [str(name) for name in rng.permutation(sorted(self.files))[:count]]
        getattr(self, f"_{kind}")(chosen, [int(n) for n in rng.integers(0, 10**6, count)])
        if not self.files:
            self._write("last.jpg", b"last")

    def source(self):
        return MemorySource(self.files, labels=self.labels, mtimes=self.mtimes)

    def _write(self, name, data):
        self.tick += 10**9
        self.files[name], self.mtimes[name] = data, self.tick
        self.labels.setdefault(name, f"class {len(name) % 3}")

    def _add(self, _, numbers):
        for number in numbers:  # few enough different images for some to be equal
            self._write(
                f"{number:06d}.jpg", b"%d bad" % number if number % 11 == 0 else b"%d" % (number % 997)
            )

    def _change(self, chosen, numbers):
        for name, number in zip(chosen, numbers, strict=False):
            self._write(name, b"%d" % number)

    def _rename(self, chosen, numbers):
        for name, number in zip(chosen, numbers, strict=False):
            new = f"{number}-{name[-10:]}"
            self.files[new], self.mtimes[new] = self.files.pop(name), self.mtimes.pop(name)
            self.labels[new] = self.labels.pop(name)

    def _remove(self, chosen, _):
        for name in chosen:
            del self.files[name], self.mtimes[name], self.labels[name]

    def _touch(self, chosen, _):
        for name in chosen:
            self._write(name, self.files[name])

    def _relabel(self, chosen, _):
        self.labels |= dict.fromkeys(chosen, "another class")

    def _break(self, chosen, _):
        for name in chosen[:5]:
            self._write(name, OSError(5, "Input/output error"))

    def _mend(self, _, numbers):
        for name in [name for name, data in self.files.items() if isinstance(data, OSError)]:
            self._write(name, b"mended %d" % numbers[0])


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(runs)
def test_after_any_edits_and_interruptions_the_cache_equals_one_from_scratch(fast_path, history):
    path = fast_path / "c.h5"
    folder = Folder()
    extract(path, SPEC, folder.source())
    for changes, batches in history:
        for kind, seed, count in changes:
            folder.edit(kind, seed, count)
        known = known_images(fast_path)
        images_ = folder.source()
        writer = open_writer(path, SPEC, images_)
        if isinstance(writer, FeatureCache):
            continue
        with writer:
            computed = [images_.files[row] for row in writer.todo.tolist()]
            assert not known & {file_content(data) for data in computed if isinstance(data, bytes)}
            fill(writer, SPEC, images_, batches=batches)
            if batches is None:
                writer.finish()
    images_ = folder.source()
    cache, _ = extract(path, SPEC, images_)
    assert contents(cache) == contents(extract(fast_path / "fresh.h5", SPEC, images_, overwrite=True)[0])
    assert cache.verify().ok
    assert names(fast_path) == ["c.h5", "fresh.h5"]
    (fast_path / "fresh.h5").unlink()
    path.unlink()


def known_images(folder):
    """Digests of the readable images that any file, finished or not, has committed."""
    digests = set()
    for path in folder.iterdir():
        file = MappedFile.open(path)
        rows = file.rows_of(file.valid_blocks()) & (file.array("status") == OK)
        digests |= {row.tobytes() for row in file.array("content")[rows]}
    return digests
