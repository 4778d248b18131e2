import re
import struct

import h5py
import numpy as np
import pytest

from frostline.features.cache import FeatureCache, open_writer
from frostline.features.cache.file.layout import TABLE, table_digest
from frostline.features.cache.file.mapped import MappedFile
from frostline.features.errors import CacheFormatError
from tests.features.cache.synthetic import SPEC, extract, source

ROWS = 300


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    path = tmp_path_factory.mktemp("original") / "c.h5"
    return extract(path, SPEC, source(ROWS))[0].path


@pytest.fixture
def path(original, tmp_path):
    copy = tmp_path / "c.h5"
    copy.write_bytes(original.read_bytes())
    return copy


def replaced(name, dtype=None, **options):
    """An edit that gives a dataset the same values in another form."""

    def edit(file):
        values = file[name][()]
        del file[name]
        file.create_dataset(name, data=values.astype(dtype or values.dtype), **options)

    return edit


def soft_link(file):
    file.move("labels", "hidden")
    file["labels"] = h5py.SoftLink("/hidden")


def soft_link_inside(file):
    del file["labels"]
    file["labels"] = h5py.SoftLink("/split")


def external_link(file):
    del file["labels"]
    file["labels"] = h5py.ExternalLink("/etc/passwd", "/labels")


def external_link_to_features(file):
    del file["features"]
    file["features"] = h5py.ExternalLink("other.h5", "/features")


def external_storage(file):
    del file["labels"]
    file.create_dataset("labels", (ROWS,), "<i8", external=[("/etc/passwd", 0, 8 * ROWS)])


def virtual(file):
    del file["labels"]
    layout = h5py.VirtualLayout((ROWS,), "<i8")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (ROWS,))
    file.create_virtual_dataset("labels", layout)


def not_allocated(file):
    del file["labels"]
    file.create_dataset("labels", (ROWS,), "<i8")


def same_place(file):
    del file["groups"]
    file["groups"] = file["ids"]


def missing(name):
    def edit(file):
        del file[name]

    return edit


def extra(file):
    file["more"] = np.zeros(3)


def extra_layer(file):
    file["features/more"] = np.zeros((ROWS, 1, 3), np.float32)


def group_for_dataset(file):
    del file["labels"]
    file.create_group("labels")


def dataset_for_group(file):
    del file["features"]
    file["features"] = np.zeros(3)


def text_of_any_length(file):
    values = file["ids"].asstr()[()].astype(object)
    del file["ids"]
    file.create_dataset("ids", data=values, dtype=h5py.string_dtype())


def scalar(file):
    del file["labels"]
    file["labels"] = np.int64(1)


def empty(file):
    del file["labels"]
    file["labels"] = h5py.Empty("<i8")


def no_rows(file):
    del file["ids"]
    file.create_dataset("ids", (0,), "S4")


def attribute(name, value, item="/"):
    def edit(file):
        file[item].attrs[name] = value

    return edit


def without_attribute(name, item="/"):
    def edit(file):
        del file[item].attrs[name]

    return edit


def specification(old, new):
    def edit(file):
        text = file["spec"][0].replace(old, new)
        digest = file["spec"].attrs["digest"]
        del file["spec"]
        file.create_dataset("spec", data=[text], dtype=h5py.string_dtype("utf-8", len(text)))
        file["spec"].attrs["digest"] = digest

    return edit


HOSTILE = {
    "soft link": (soft_link, "SoftLink|unexpected entries"),
    "soft link to another dataset": (soft_link_inside, "SoftLink"),
    "external link": (external_link, "ExternalLink"),
    "external link to features": (external_link_to_features, "ExternalLink"),
    "external storage": (external_storage, "external storage"),
    "virtual dataset": (virtual, "virtual, chunked or compact"),
    "chunked": (replaced("labels", chunks=(10,)), "virtual, chunked or compact"),
    "compressed": (replaced("features/embedding", compression="gzip"), "virtual, chunked or compact"),
    "no place in the file": (not_allocated, "at None"),
    "two datasets in one place": (same_place, "overlap"),
    "missing dataset": (missing("stat"), r"missing entries \['stat'\]"),
    "missing layer": (missing("features/embedding"), r"missing entries \['embedding'\]"),
    "missing specification": (missing("spec"), "/spec is not a dataset"),
    "extra dataset": (extra, r"unexpected entries \['more'\]"),
    "extra layer": (extra_layer, r"unexpected entries \['more'\]"),
    "group for a dataset": (group_for_dataset, "/labels is not a dataset"),
    "dataset for a group": (dataset_for_group, "/features is not a group"),
    "labels of another type": (replaced("labels", dtype="<i4"), "/labels has type int32"),
    "labels the other way round": (replaced("labels", dtype=">i8"), "/labels has type >i8"),
    "features of another type": (replaced("features/embedding", dtype="<f8"), "has type float64"),
    "ids of any length": (text_of_any_length, "/ids has type object"),
    "scalar": (scalar, r"/labels has shape \(\)"),
    "empty": (empty, "/labels has shape None"),
    "no rows": (no_rows, "no images"),
    "another format": (attribute("format", np.bytes_("anndata")), "not a Frostline cache"),
    "no format": (without_attribute("format"), "not a Frostline cache"),
    "format of any length": (attribute("format", "frostline-cache"), "not a fixed-length string"),
    "newer version": (attribute("format_version", np.int64(4)), "format version 4, .* reads up to 3; update"),
    "older version": (attribute("format_version", np.int64(0)), "format version 0; expected 1"),
    "version as text": (attribute("format_version", np.bytes_("1")), "not an integer"),
    "no block size": (without_attribute("block_rows"), "block_rows"),
    "blocks of no rows": (attribute("block_rows", np.int64(0)), "blocks of 0 rows"),
    "blocks of other rows": (attribute("block_rows", np.int64(16)), "/blocks has shape"),
    "another digest": (attribute("digest", np.bytes_("0" * 64), "spec"), "/spec has digest"),
    "another specification": (specification(b'"seed":0', b'"seed":5'), "/spec has digest"),
    "specification of another layer": (specification(b'"dim":20', b'"dim":21'), "/spec has digest"),
    "specification that is none": (specification(b"{", b"["), "/spec is not a specification"),
    "deep specification": (specification(b'{"backbone"', b'{"x":' + b"[" * 100_000), "/spec is not a specification"),
    "another number format": (attribute("dtype", np.bytes_("float16"), "features/embedding"), "has dtype float16"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_a_file_that_can_not_be_trusted_is_refused(path, case):
    edit, message = HOSTILE[case]
    with h5py.File(path, "r+", libver="latest") as file:
        edit(file)
    with pytest.raises(CacheFormatError, match=message) as refusal:
        FeatureCache.open(path)
    assert str(path) in str(refusal.value)
    before = path.read_bytes()
    with pytest.raises(CacheFormatError):
        open_writer(path, SPEC, source(ROWS))
    assert path.read_bytes() == before


def test_a_partial_of_a_newer_version_is_kept_unless_overwritten(path):
    with h5py.File(path, "r+", libver="latest") as file:
        file.attrs["format_version"] = np.int64(4)
    partial = path.rename(path.with_name("c.h5.partial"))
    before = partial.read_bytes()
    with pytest.raises(CacheFormatError, match="update Frostline"):
        open_writer(path, SPEC, source(ROWS))
    assert partial.read_bytes() == before
    assert extract(path, SPEC, source(ROWS), overwrite=True)[1] == ROWS


def classic(original, path):
    """The same cache in HDF5's first format, whose headers have no checksums."""
    aligned = {"alignment_threshold": 1, "alignment_interval": 8}  # for arrays to be read in place
    with h5py.File(original) as old, h5py.File(path, "w", libver="earliest", **aligned) as new:
        for name, value in old.attrs.items():
            new.attrs[name] = value
        names = [
            *(name for name in old if name != "features"),
            *(f"features/{name}" for name in old["features"]),
        ]
        for name in names:
            new.create_dataset(name, data=old[name][()], dtype=old[name].dtype)
            for attribute_, value in old[name].attrs.items():
                new[name].attrs[attribute_] = value


def test_the_writing_tool_does_not_matter(original, path):
    classic(original, path)
    assert FeatureCache.open(path).verify().ok


@pytest.mark.parametrize("offset", [2**40, 2**63, 1, 0])
def test_offset_outside_the_file_is_refused(original, path, offset):
    classic(original, path)
    old = MappedFile.open(path).layout.extents["labels"].offset
    data = path.read_bytes()
    assert len(re.findall(re.escape(struct.pack("<QQ", old, 8 * ROWS)), data)) == 1
    path.write_bytes(data.replace(struct.pack("<QQ", old, 8 * ROWS), struct.pack("<QQ", offset, 8 * ROWS)))
    with pytest.raises(CacheFormatError):
        FeatureCache.open(path)


@pytest.mark.parametrize("length", [0, 1, 100, 5000, -1])
def test_a_truncated_file_is_refused(path, length):
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(CacheFormatError, match="not an HDF5 file, or a damaged one"):
        FeatureCache.open(path)


def test_random_damage_to_the_header_is_refused_or_harmless(path):
    draw = np.random.default_rng(0)
    data = path.read_bytes()
    cache = FeatureCache.open(path)
    held = np.zeros(len(data), bool)
    for extent in cache.file.layout.extents.values():
        held[extent.offset : extent.offset + extent.nbytes] = True
    header = np.flatnonzero(~held)
    refused = 0
    for _ in range(150):
        damaged = bytearray(data)
        for position in draw.choice(header, draw.integers(1, 4)).tolist():
            damaged[position] ^= int(draw.integers(1, 256))
        path.write_bytes(damaged)
        try:
            damaged_cache = FeatureCache.open(path)
        except CacheFormatError:
            refused += 1
        else:
            np.testing.assert_array_equal(damaged_cache.features("embedding"), cache.features("embedding"))
            assert damaged_cache.ids.tolist() == cache.ids.tolist()
    assert refused > 20


def test_labels_beyond_the_classes_are_refused(path):
    with h5py.File(path, "r+", libver="latest") as file:
        file["labels"][3] = 1
    with pytest.raises(OSError, match="are damaged"):
        FeatureCache.open(path)


@pytest.mark.parametrize("what", ["missing.h5", "."])
def test_unreadable_file_raises_os_error(tmp_path, what):
    with pytest.raises(OSError, match=r"missing\.h5|directory"):
        FeatureCache.open(tmp_path / what)


@pytest.mark.parametrize(("name", "told"), [("classes", "class"), ("ids", "ids"), ("groups", "groups")])
def test_texts_that_are_not_utf_8_are_refused_although_their_digest_is_right(path, name, told):
    with h5py.File(path, "r+", libver="latest") as file:
        values = file[name][...]
        values[0] = b"\xff"
        file[name][...] = values
        file.attrs["table_digest"] = np.bytes_(table_digest({each: file[each][...] for each in TABLE}))
    with pytest.raises(CacheFormatError, match=f"{told}.* is not UTF-8"):
        FeatureCache.open(path).verify()
