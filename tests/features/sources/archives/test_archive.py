"""Archives as image sources."""

import gzip
import io
import json
import os
import struct
import tarfile
import tracemalloc
import zipfile

import pytest

from frostline.features.errors import SourceError
from frostline.features.sources import open_source, summarise
from frostline.splits import Split
from frostline.testing import ImageSourceKindContract
from frostline.testing.images import encode, photo
from tests.helpers.sources import write_tar, write_zip


@pytest.fixture(scope="module")
def images():
    """Bytes of six images by path, in two classes."""
    return {f"{kind}/{n}.png": encode(photo(12, 10, seed=n)) for n, kind in enumerate(["cat", "dog"] * 3)}


class ArchiveContract(ImageSourceKindContract):
    """Tests of the source of one archive. Subclasses define `suffix` and `rewritten`, which writes the archive."""

    kind = "archive"
    alone = False

    @pytest.fixture
    def files(self, images):
        return images

    @pytest.fixture
    def source(self, files, tmp_path):
        return open_source(self.rewritten(tmp_path / f"set{self.suffix}", files))

    def contents(self, source):
        return {id_.decode(): source.read(row)[0] for row, id_ in enumerate(source.table.ids)}

    def write(self, source, row, data):
        name = source.table.ids[row].decode()
        self.rewritten(source.root, {**self.contents(source), name: data})

    def remove(self, source, row):
        files = self.contents(source)
        del files[source.table.ids[row].decode()]
        self.rewritten(source.root, files)

    def test_classes_are_the_folders(self, source):
        assert source.table.classes == ("cat", "dog")
        assert source.table.labels.tolist() == [0, 0, 0, 1, 1, 1]


class TestTar(ArchiveContract):
    suffix = ".tar"
    rewritten = staticmethod(write_tar)


class TestZip(ArchiveContract):
    suffix = ".zip"
    rewritten = staticmethod(write_zip)


class TestStoredZip(ArchiveContract):
    suffix = ".zip"

    def rewritten(self, path, files):
        return write_zip(path, files, zipfile.ZIP_STORED)


def samples(images, first=0):
    """Files of a WebDataset shard: each image with its class, and an object."""
    files = {}
    for number, data in enumerate(images.values(), first):
        files[f"{number:06}.png"] = data
        files[f"{number:06}.cls"] = str(number % 3).encode()
        files[f"{number:06}.json"] = json.dumps({"patient": f"p{number // 2}", "boxes": [1, 2]}).encode()
    return files


class TestShards(ImageSourceKindContract):
    """A set of shards in the WebDataset format."""

    kind = "archive"
    alone = False

    @pytest.fixture
    def files(self, images):
        return {f"{'train' if n < 3 else 'val'}/{n:06}.png": data for n, data in enumerate(images.values())}

    @pytest.fixture
    def source(self, images, tmp_path):
        whole = samples(images)
        for shard, first in (("train", 0), ("val", 9)):
            write_tar(tmp_path / f"{shard}.tar", dict(list(whole.items())[first : first + 9]))
        return open_source(tmp_path / "{train,val}.tar")

    def _rewrite(self, source, row, change):
        shard = source.table.ids[row].decode().split("/")[0]
        path = source.root.replace("{train,val}", shard)
        with tarfile.open(path) as archive:
            files = {member.name: archive.extractfile(member).read() for member in archive}
        change(files, source.table.ids[row].decode().split("/")[1])
        write_tar(path, files)

    def write(self, source, row, data):
        self._rewrite(source, row, lambda files, name: files.update({name: data}))

    def remove(self, source, row):
        self._rewrite(source, row, lambda files, name: files.pop(name))

    def test_names_shown_to_users_tell_images_apart(self, source):
        names = [source.display_name(row) for row in range(len(source.table))]
        assert names[0].endswith("/train.tar/000000.png")
        assert len({*names}) == len(names)

    def test_labels_splits_and_columns(self, source):
        table = source.table
        assert [table.classes[label] for label in table.labels] == ["0", "1", "2"] * 2
        assert table.split.tolist() == [Split.TRAIN] * 3 + [Split.VAL] * 3
        found = summarise(source)
        assert found.columns == {"label": "cls"}
        assert (found.side_columns, found.unused_columns) == (("patient",), ("boxes",))
        assert not found.skipped.count

    def test_columns_are_chosen(self, source):
        again = open_source(source.root, label_column="patient", group_column="cls")
        assert again.table.classes == ("p0", "p1", "p2")
        assert again.table.groups.tolist() == [b"0", b"1", b"2"] * 2
        assert not (open_source(source.root, label_column="none").table.labels >= 0).any()

    def test_a_missing_column_is_named(self, source):
        with pytest.raises(SourceError, match="--label-column: no column 'klass'"):
            open_source(source.root, label_column="klass")

    def test_folders_do_not_tell_the_splits(self, source):
        with pytest.raises(SourceError, match=r"--split-folders: .* has files beside its images"):
            open_source(source.root, split_folders="a=train")


def test_text_beside_images_is_taken_on_request(images, tmp_path):
    files = {name.replace("/", "-"): data for name, data in images.items()}
    texts = {name.replace(".png", ".txt"): b" a caption \n" for name in files}
    path = write_tar(tmp_path / "a.tar", files | texts)
    assert open_source(path).table.classes == ()
    assert open_source(path, label_column="txt").table.classes == ("a caption",)


def test_an_archive_of_one_folder_and_that_folder_have_the_same_rows(images, tmp_path):
    for name, data in images.items():
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(data)
    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        archive.add(tmp_path / "photos", "photos")
    folder, packed = open_source(tmp_path / "photos"), open_source(tmp_path / "photos.tar")
    assert packed.table.ids.tolist() == folder.table.ids.tolist()
    assert packed.table.labels.tolist() == folder.table.labels.tolist()
    assert packed.table.classes == folder.table.classes
    assert [packed.read(row)[0] for row in range(6)] == [folder.read(row)[0] for row in range(6)]
    assert "all images lie in the folder 'photos'" in summarise(packed).remarks[0]


def test_folders_of_splits(images, tmp_path):
    files = {f"{'train' if n % 2 else 'test'}/{name}": data for n, (name, data) in enumerate(images.items())}
    table = open_source(write_zip(tmp_path / "a.zip", files)).table
    assert table.classes == ("cat", "dog")
    assert table.split.tolist() == [Split.TEST] * 3 + [Split.TRAIN] * 3


def test_files_of_systems_and_other_files_are_skipped_and_counted(images, tmp_path):
    junk = {"__MACOSX/cat/._1.png": b"x", "cat/.hidden.png": b"x", "readme.txt": b"x"}
    found = summarise(open_source(write_zip(tmp_path / "a.zip", images | junk)))
    assert found.images == 6
    assert found.skipped.describe() == "1 .txt, 1 hidden, 1 folder(s) __MACOSX"


def test_links_in_a_tar_are_the_files_they_name(images, tmp_path):
    path = write_tar(tmp_path / "a.tar", images)
    with tarfile.open(path, "a") as archive:
        for name, kind, target in (
            ("dog/hard.png", tarfile.LNKTYPE, "cat/0.png"),
            ("dog/soft.png", tarfile.SYMTYPE, "../cat/2.png"),
            ("dog/lost.png", tarfile.SYMTYPE, "../../../etc/passwd"),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            archive.addfile(member)
    source = open_source(path)
    read = {source.table.ids[row].decode(): source.read(row)[0] for row in range(len(source.table))}
    assert read == images | {"dog/hard.png": images["cat/0.png"], "dog/soft.png": images["cat/2.png"]}
    assert "1 links, devices or sparse files in it were skipped" in summarise(source).remarks[0]


def test_a_file_that_was_appended_again_replaces_the_first(images, tmp_path):
    path = write_tar(tmp_path / "a.tar", images)
    with tarfile.open(path, "a") as archive:
        member = tarfile.TarInfo("cat/0.png")
        member.size = len(images["dog/1.png"])
        archive.addfile(member, io.BytesIO(images["dog/1.png"]))
    source = open_source(path)
    assert source.read(0)[0] == images["dog/1.png"]
    assert "1 files in it are older" in summarise(source).remarks[0]


@pytest.mark.parametrize("write", [write_tar, write_zip])
@pytest.mark.parametrize("name", ["../out.png", "a/../../out.png", "..\\out.png"])
def test_a_path_that_leads_outside_is_refused(write, name, images, tmp_path):
    path = write(tmp_path / f"a.{write.__name__[-3:]}", {**images, name: images["cat/0.png"]})
    with pytest.raises(SourceError, match="which leads outside the archive"):
        open_source(path)


def test_absolute_paths_are_below_the_archive(images, tmp_path):
    table = open_source(
        write_tar(tmp_path / "a.tar", {f"/{name}": data for name, data in images.items()})
    ).table
    assert [id_.decode() for id_ in table.ids] == sorted(images)


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9])
def test_a_truncated_archive_is_named(keep, images, tmp_path):
    for write, suffix in ((write_tar, "tar"), (write_zip, "zip")):
        path = write(tmp_path / f"a.{suffix}", images)
        with tarfile.open(path) if suffix == "tar" else zipfile.ZipFile(path) as archive:
            names = archive.getnames() if suffix == "tar" else archive.namelist()
            end = archive.offset if suffix == "tar" else path.stat().st_size
        assert len(names) == 6
        os.truncate(path, int(keep * end))
        with pytest.raises(
            SourceError,
            match=rf"a\.{suffix}: (the archive ends within|the archive is damaged|not a readable)",
        ):
            open_source(path)


def test_a_damaged_header_of_a_tar_is_named(images, tmp_path):
    path = write_tar(tmp_path / "a.tar", images)
    with tarfile.open(path) as archive:
        offset = archive.getmembers()[3].offset
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * 100)
    with pytest.raises(SourceError, match=f"the archive is damaged at byte {offset:,}"):
        open_source(path)


def test_a_tar_without_end_mark_and_joined_tars_are_told(images, tmp_path):
    path = write_tar(tmp_path / "a.tar", images)
    with tarfile.open(path) as archive:
        archive.getmembers()
        end = archive.offset
    whole = path.read_bytes()
    path.write_bytes(whole[:end])
    assert summarise(open_source(path)).remarks[0].startswith("it has no end mark")
    path.write_bytes(whole + whole)
    assert "only the first archive was read" in summarise(open_source(path)).remarks[0]


def test_the_archive_of_a_program_that_is_compressed_names_the_command(tmp_path):
    path = tmp_path / "it's.tar.gz"
    path.touch()
    with pytest.raises(SourceError, match=r"Uncompress it first: gunzip -k '.*it'\"'\"'s\.tar\.gz'"):
        open_source(path)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("s-{000..002}.tar", "1 of the 3 files that it names don't exist, the first is .*s-002"),
        ("s-{2..1}.tar", "expected two numbers, the larger last"),
        ("t-*.tar", "no file matches this pattern"),
        ("{0..999}{0..999}{0..999}.tar", "names 1,000,000,000 files"),
    ],
)
def test_wrong_patterns(pattern, message, images, tmp_path):
    for shard in range(2):
        write_tar(tmp_path / f"s-{shard:03}.tar", samples(images))
    assert len(open_source(tmp_path / "s-{000..001}.tar").table) == 12
    assert len(open_source(tmp_path / "s-*.tar").table) == 12
    with pytest.raises(SourceError, match=message):
        open_source(tmp_path / pattern)


@pytest.mark.parametrize(
    ("kind", "data", "message"),
    [
        ("json", b"{", r"a\.tar/1\.json: not JSON"),
        ("json", b"[]", r"a\.tar/1\.json: got b'\[\]', expected an object"),
        ("cls", b"\xff", r"a\.tar/1\.cls: bytes that are not UTF-8 text"),
        ("cls", b"1" * (1 << 21), r"the file has 2,097,152 bytes; expected at most"),
    ],
)
def test_wrong_files_beside_images(kind, data, message, images, tmp_path):
    path = write_tar(tmp_path / "a.tar", {"1.png": images["cat/0.png"], f"1.{kind}": data})
    with pytest.raises(SourceError, match=message):
        open_source(path)


class TestDamagedZips:
    """Rows of a zip archive that can't be read; the others can."""

    def _reads(self, path, name, message, images):
        source = open_source(path)
        rows = {id_.decode(): row for row, id_ in enumerate(source.table.ids)}
        with pytest.raises(OSError, match=message):
            source.read(rows[name])
        assert source.read(rows["dog/5.png"])[0] == images["dog/5.png"]

    def test_bomb(self, images, tmp_path):
        path = write_zip(tmp_path / "a.zip", {**images, "cat/bomb.png": bytes(1 << 22)})
        data = bytearray(path.read_bytes())
        at = data.rindex(b"PK\1\2", 0, data.rindex(b"cat/bomb.png"))
        struct.pack_into("<I", data, at + 24, 1000)  # it says that it holds fewer bytes
        path.write_bytes(data)
        self._reads(path, "cat/bomb.png", "checksum differs", images)

    def test_too_large(self, images, tmp_path):
        path = write_zip(tmp_path / "a.zip", {**images, "cat/large.png": b"x"})
        data = bytearray(path.read_bytes())
        at = data.rindex(b"PK\1\2", 0, data.rindex(b"cat/large.png"))
        struct.pack_into("<I", data, at + 24, 0xFFFFFFF0)
        path.write_bytes(data)
        self._reads(path, "cat/large.png", "expected at most", images)

    @pytest.mark.parametrize(
        ("compression", "name"), [(zipfile.ZIP_BZIP2, "bzip2"), (zipfile.ZIP_LZMA, "lzma")]
    )
    def test_other_compression(self, compression, name, images, tmp_path):
        path = write_zip(tmp_path / "a.zip", images)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("cat/other.png", b"x" * 100, compression)
        self._reads(path, "cat/other.png", f"packed by {name}; expected stored or deflated", images)

    def test_flipped_byte(self, images, tmp_path):
        path = write_zip(tmp_path / "a.zip", images, zipfile.ZIP_STORED)
        data = bytearray(path.read_bytes())
        at = data.index(images["cat/0.png"])
        data[at + 40] ^= 1
        path.write_bytes(data)
        self._reads(path, "cat/0.png", "checksum differs", images)

    def test_encrypted(self, images, tmp_path):
        path = write_zip(tmp_path / "a.zip", images)
        data = bytearray(path.read_bytes())
        at = data.rindex(b"PK\1\2", 0, data.rindex(b"cat/0.png"))
        data[at + 8] |= 1
        path.write_bytes(data)
        self._reads(path, "cat/0.png", "is encrypted", images)


def _record(kind, size):
    """The header of a record that says more of the next file in a tar."""
    member = tarfile.TarInfo("record")
    member.type, member.size = kind, size
    return member.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_a_long_record_of_a_tar_is_refused_before_it_is_read(kind, tmp_path):
    path = tmp_path / "a.tar"
    path.write_bytes(_record(kind, 50_000_000))
    os.truncate(path, 60_000_000)
    tracemalloc.start()
    with pytest.raises(SourceError, match=r"a\.tar: .*claims a record of 50,000,\d+ bytes; expected at most"):
        open_source(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000


def test_records_without_end_before_a_file_of_a_tar_are_refused(tmp_path):
    (tmp_path / "a.tar").write_bytes((_record(tarfile.GNUTYPE_LONGNAME, 10) + b"a".ljust(512, b"\0")) * 3000)
    with pytest.raises(SourceError, match=r"a\.tar: not a readable tar archive"):
        open_source(tmp_path / "a.tar")


def test_a_compressed_tar_named_tar_gets_advice(images, tmp_path):
    (tmp_path / "a.tar").write_bytes(gzip.compress(write_tar(tmp_path / "b.tar", images).read_bytes()))
    with pytest.raises(SourceError, match=r"not a readable tar archive: .*uncompress it"):
        open_source(tmp_path / "a.tar")


def test_a_file_beside_an_image_that_is_too_large_is_named(images, tmp_path):
    path = write_tar(tmp_path / "a.tar", {"0.png": images["cat/0.png"], "0.cls": bytes(2_000_000)})
    with pytest.raises(
        SourceError, match=r"a\.tar: .*0\.cls: the file has 2,000,000 bytes; expected at most"
    ):
        open_source(path)
