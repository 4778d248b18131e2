"""Options of the import of vectors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frostline.features.spec import Dtype
from frostline.options import option
from frostline.pipeline.options.stage import StageOptions

if TYPE_CHECKING:
    from frostline.features.table import ImageSource


@dataclass(frozen=True, kw_only=True)
class ImportOptions(StageOptions):
    """Options of `frostline.import_vectors`."""

    out: str | Path | None = option(
        None, "Cache to write.", unset="FILE.NAME.h5", metavar="CACHE", setting=False
    )
    name: str | None = option(
        None,
        "Name of the vectors, such as that of the model; caches with other names are never used together.",
        unset="that of the cache that the file was exported from; else it is required",
        metavar="NAME",
    )
    declare: Mapping[str, Any] | None = option(
        None,
        "What is known of their origin, such as model=ViT-B/32. Caches with other facts are never used together. Repeat"
        " to declare several.",
        unset="nothing",
        metavar="KEY=VALUE",
    )
    arrays: Sequence[str] = option(
        (),
        "Array of the file, or column of lists, with the vectors. Repeat for several layers.  [default: the only one]",
        flag="array",
        metavar="KEY",
    )
    columns: str | None = option(
        None,
        "Pattern of the columns of a table that are the numbers of the vector, such as 'f*'.",
        unset="numbered columns, such as f0, f1, f2",
        metavar="PATTERN",
    )
    ids: str | None = option(
        None,
        "Names of the rows: a column or an array of the file; or a file beside it, with a name per line (.txt), an array"
        " (.npy), or a column id (.csv, .tsv; FILE:COLUMN names another).",
        unset="id or ids in the file; else the rows are numbered",
        metavar="KEY|FILE",
    )
    labels: str | None = option(
        None,
        "Labels, named as --ids; none for unlabelled vectors.",
        unset="label or labels in the file",
        metavar="KEY|FILE",
    )
    split: str | None = option(
        None,
        "Splits (train, val, test), named as --ids; none to ignore them.",
        unset="split in the file",
        metavar="KEY|FILE",
    )
    groups: str | None = option(
        None,
        "Groups, whose rows stay in one split, named as --ids; none to ignore them.",
        unset="group or groups in the file",
        metavar="KEY|FILE",
    )
    classes: str | None = option(
        None,
        "Names of the classes that integer labels are the numbers of, named as --ids.",
        unset="classes in the file",
        metavar="KEY|FILE",
    )
    images: "str | Path | ImageSource | None" = option(
        None,
        "Images of the rows, by the same ids, for thumbnails, leak checks by their bytes, and labels that the file lacks.",
        unset="none: equal vectors count as equal images",
        metavar="DATA",
    )
    dtype: Dtype | None = option(
        None,
        "Number format in the cache.",
        unset="float16 or bfloat16 if the vectors are of it, else float32",
    )
    max_bad: float = option(
        0.01, "Fail if more than this share of the rows has no usable vector.", low=0, high=1, metavar="SHARE"
    )
    overwrite: bool = option(False, "Replace a cache of other vectors or features.", setting=False)
