"""Images that were read for an earlier call are not read again, unless they may have changed since."""

import numpy as np
import pytest

from frostline.features.spec import Transform
from frostline.pipeline.inputs.scanned_images import check_images
from frostline.pipeline.progress import SILENT
from frostline.testing import encode, photo
from tests.helpers.sources import DigestSource

TRANSFORM = Transform(
    resize=8, resize_mode="shortest", crop=(8, 8), interpolation="bicubic", mean=(0.5,) * 3, std=(0.25,) * 3
)


def files(first=0):
    return {f"a/{index}.png": encode(photo(10, 10, seed=first + index)) for index in range(4)}


def checked(images, known):
    return check_images(images, TRANSFORM, known=known, workers=1, report=SILENT)


def test_images_with_a_known_stamp_are_not_read_again(tmp_path):
    first = checked(DigestSource(files()), tmp_path / "known.npz")
    again = DigestSource(files())
    second = checked(again, tmp_path / "known.npz")
    assert again.reads == 0
    np.testing.assert_array_equal(second.content, first.content)


@pytest.mark.parametrize("unsettled", [True, False])
def test_images_that_may_have_changed_under_their_stamp_are_read_again(tmp_path, monkeypatch, unsettled):
    known = tmp_path / "known.npz"
    first = checked(DigestSource(files()), known)
    monkeypatch.setattr(
        DigestSource, "unsettled", lambda source, _since: np.full(len(source.table), unsettled)
    )
    changed = DigestSource(files(first=9))
    changed.table.stamps[:] = DigestSource(files()).table.stamps
    second = checked(changed, known)
    assert changed.reads == (4 if unsettled else 0)
    assert (second.content != first.content).any(axis=1).tolist() == [unsettled] * 4


def test_results_of_an_earlier_version_are_read_anew(tmp_path):
    known = tmp_path / "known.npz"
    checked(DigestSource(files()), known)
    with np.load(known) as file:
        arrays = {name: file[name] for name in ("ids", "stamps", "content", "ok")}
    np.savez(known, **arrays)
    again = DigestSource(files())
    checked(again, known)
    assert again.reads == 4


CHANGED = {
    "other names": {"ids": np.arange(4)},
    "fewer rows": {"ok": np.ones(2, bool)},
    "another shape": {"stamps": np.zeros((4, 3), np.uint8)},
    "another type": {"content": np.zeros((4, 16), np.int64)},
    "a list of times": {"begun": np.arange(3)},
    "a time of text": {"begun": np.array("now")},
}


@pytest.mark.parametrize("change", CHANGED)
def test_results_of_another_shape_are_read_anew(tmp_path, change):
    known = tmp_path / "known.npz"
    checked(DigestSource(files()), known)
    with np.load(known) as file:
        np.savez(known, **{**{name: file[name] for name in file}, **CHANGED[change]})
    again = DigestSource(files())
    checked(again, known)
    assert again.reads == 4


@pytest.mark.parametrize("kind", ["a bomb", "a folder", "truncated", "empty"])
def test_results_that_are_no_archive_are_read_anew(tmp_path, kind):
    known = tmp_path / "known.npz"
    checked(DigestSource(files()), known)
    with np.load(known) as file:
        arrays = {name: file[name] for name in file}
    data = known.read_bytes()
    if kind == "a bomb":
        np.savez_compressed(known, **arrays, more=np.zeros(10_000_000))
    elif kind == "a folder":
        known.unlink()
        known.mkdir()
    else:
        known.write_bytes(data[:-20] if kind == "truncated" else b"")
    again = DigestSource(files())
    if kind == "a folder":
        with pytest.raises(OSError, match="known"):
            checked(again, known)  # which can't be written either
        known.rmdir()
        return
    checked(again, known)
    assert again.reads == 4
