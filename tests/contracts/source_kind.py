"""Contract of kinds of image sources, which open what a user names."""

from pathlib import Path
from typing import ClassVar

from frostline.features.sources import SourceKind, find_kind, open_source
from frostline.features.sources.opening import SOURCES
from frostline.features.sources.remote.urls import is_url
from frostline.features.table import ImageSource
from frostline.testing.source import ImageSourceContract


class ImageSourceKindContract(ImageSourceContract):
    """Tests of a kind of image sources and of the sources that it opens; see `frostline.features.sources.SourceKind`.

    The fixtures and methods are those of `ImageSourceContract`, except that `reopened` opens the root of the source.

    Attributes:
        kind: Name of the kind in the registry.

    Example:
        >>> class TestZip(ImageSourceKindContract):
        ...     kind = "zip"
        ...
        ...     @pytest.fixture
        ...     def source(self, files, tmp_path):
        ...         return open_source(write_zip(tmp_path / "set.zip", files))
    """

    kind: ClassVar[str]

    def reopened(self, source: ImageSource) -> ImageSource:
        """Return the source that the root opens."""
        return open_source(source.root)

    def test_kind_is_registered_and_described(self) -> None:
        """Check that the registry has the kind, and messages can describe it."""
        kind = SOURCES[self.kind]
        assert isinstance(kind, SourceKind)
        assert kind.expects.strip()

    def test_root_is_opened_by_this_kind(self, source: ImageSource) -> None:
        """Check that the kind accepts the root, and no kind before it does."""
        assert SOURCES[self.kind].accepts(source.root)
        assert find_kind(source.root) is SOURCES[self.kind]

    def test_other_input_is_left_to_other_kinds(self, tmp_path: Path) -> None:
        """Check that the kind does not accept a file of no known format."""
        assert not SOURCES[self.kind].accepts(str(tmp_path / "nothing.unknown"))

    def test_paths_are_located_without_listing_the_images(self, source: ImageSource) -> None:
        """Check that `locate` returns the paths of the source, a URL, or nothing if only a listing finds an image."""
        locate = SOURCES[self.kind].locate
        for row, id_ in enumerate(source.table.ids):
            located = locate(source.root, id_.decode()) if locate else None
            assert located == source.path(row) or (source.path(row) is None and is_url(located or ""))
