"""A cache as a table of Arrow, pandas and Polars, as a data set of PyTorch, and as HTML."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from frostline.features.cache.arrow_rows import METADATA_KEY, ArrowRows, library
from frostline.features.cache.selection import Selection

if TYPE_CHECKING:
    from frostline.features.cache.reader import FeatureCache
    from frostline.features.cache.torch_dataset import FeatureDataset


class Frames:
    """Methods of a cache that hand its rows to other libraries.

    Rows without features, whose image is unreadable, are left out; the column ``row`` has the row in the cache.
    """

    @property
    def _whole(self) -> "FeatureCache":
        """The cache that has these methods."""
        return cast("FeatureCache", self)

    def to_arrow(self, layers: str | Sequence[str] | None = None, **chosen: Any) -> Any:
        """Return a `pyarrow.Table` of the rows with features; `ArrowRows` describes its columns.

        The vectors of consecutive rows are views of the file, except those of a bfloat16 cache, which become float32,
        and of a cache with several views.

        Args:
            layers: Key of a layer, or keys of several; None for all.
            **chosen: ``split``, ``rows`` and ``view``; see `frostline.features.cache.selection.Selection.of`.

        Raises:
            FeaturesError: There are no such layers or rows, rows are damaged, or pyarrow is not installed.
        """
        return ArrowRows(Selection.of(self._whole, layers, **chosen)).reader().read_all()

    def to_pandas(self, layers: str | Sequence[str] | None = None, **chosen: Any) -> Any:
        """Return a `pandas.DataFrame` with a column of arrays per layer, and its description in ``attrs``.

        Arguments and errors are those of `to_arrow`.
        """
        library("pandas", "pandas")
        selection = Selection.of(self._whole, layers, **chosen)
        frame = ArrowRows(selection).reader().read_all().to_pandas()
        frame.attrs[METADATA_KEY] = selection.description()
        return frame

    def to_polars(self, layers: str | Sequence[str] | None = None, **chosen: Any) -> Any:
        """Return a `polars.DataFrame` with a column of fixed-size arrays per layer.

        Arguments and errors are those of `to_arrow`.
        """
        return library("polars", "frostline[polars]").from_arrow(self.to_arrow(layers, **chosen))

    def to_torch_dataset(self, layer: str | None = None, **chosen: Any) -> "FeatureDataset":
        """Return a data set of (features, label) for `torch.utils.data.DataLoader`; see `FeatureDataset`.

        Args:
            layer: Key of the layer. Optional for a cache with a single layer.
            **chosen: ``split``, ``rows`` and ``view``; see `frostline.features.cache.selection.Selection.of`.

        Raises:
            FeaturesError: There is no such layer or row, or the metadata is damaged.
        """
        from frostline.features.cache.torch_dataset import FeatureDataset

        return FeatureDataset(Selection.of(self._whole, layer, **chosen))

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Return a PyCapsule of the rows with features as an Arrow stream, which is read as it is consumed."""
        return ArrowRows(Selection.of(self._whole)).reader().__arrow_c_stream__(requested_schema)

    def _repr_html_(self) -> str:
        from frostline.features.cache.html import cache_html

        return cache_html(self._whole)
