"""Loading of a weights file into a network: the layout of the file is found by what the network needs."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from frostline.features.backbones.weights.errors import some
from frostline.features.backbones.weights.files import read_tensors
from frostline.features.backbones.weights.layouts import Layout, layouts, preference
from frostline.features.backbones.weights.matching import Differences, load_tensors, misfit, usable
from frostline.features.errors import WeightsError

Conversion = Callable[[dict[str, Tensor]], Mapping[str, Tensor]]
"""Function from the tensors of another layout, such as that of the authors, to those of the network."""

_SHOWN = 4


@dataclass(frozen=True)
class Loaded:
    """How a weights file was loaded.

    Attributes:
        classifier: Whether the classifier was loaded as well.
        note: What was stripped from the names, converted and not used, in one sentence; empty for nothing.
    """

    classifier: bool
    note: str


@dataclass(frozen=True)
class _Reading:
    """One way to read a file.

    Attributes:
        layout: Where the tensors lie in the file.
        state: Tensors by the names of the network.
        converted: Whether the architecture's conversion was applied.
        differences: Differences from what the network needs.
    """

    layout: Layout
    state: Mapping[str, Tensor]
    converted: bool
    differences: Differences

    @property
    def fits(self) -> bool:
        return not self.differences.count


def load_file(
    module: nn.Module, path: str | Path, *, classifier: Iterable[str] = (), convert: Conversion | None = None
) -> Loaded:
    """Load a weights file into `module`.

    The tensors may lie in any container of a checkpoint and under any prefix. If several places hold tensors that
    fit, moving averages come first, see `layouts`. The conversion is used only if no place fits without it.

    Args:
        module: Module with the architecture of the file.
        path: Path of a safetensors or torch file.
        classifier: Names of modules that compute class scores. Their tensors need not fit.
        convert: Conversion from other layouts. It may raise any error for tensors that it doesn't know.

    Raises:
        WeightsError: The file can't be read, has another architecture, or holds numbers that aren't weights.
    """
    tensors, classifier = read_tensors(path), tuple(classifier)
    ours = module.state_dict()
    found = _best(layouts(tensors, ours), ours, classifier, convert)
    fitting = [each for each in found if each.fits]
    if not fitting:
        nearest = min(found, key=lambda each: each.differences.count)
        raise misfit(f"{path}{nearest.layout.place}", len(ours), nearest.differences.describe())
    chosen, *others = fitting
    equal = [each for each in others if preference(each.layout.prefix) == preference(chosen.layout.prefix)]
    if equal:
        places = some([each.layout.prefix for each in (chosen, *equal)])
        raise WeightsError(
            f"weights {path}: several networks fit, under {places}; expected one. Save the one to use alone"
        )
    unused = set(chosen.differences.unused)
    state = {key: tensor for key, tensor in chosen.state.items() if key not in unused}
    load_tensors(module, usable(state, ours, where=str(path)), strict=False)
    return Loaded(chosen.differences.whole, _note(path, chosen, len(tensors)))


def _best(
    found: list[Layout], ours: Mapping[str, Tensor], classifier: tuple[str, ...], convert: Conversion | None
) -> list[_Reading]:
    """Return the readings without conversion if one fits; else those with conversion as well."""
    plain = [
        _Reading(
            each, each.state, converted=False, differences=Differences.between(ours, each.state, classifier)
        )
        for each in found
    ]
    if convert is None or any(each.fits for each in plain):
        return plain
    return [*plain, *_conversions(found, ours, classifier, convert)]


def _conversions(
    found: list[Layout], ours: Mapping[str, Tensor], classifier: tuple[str, ...], convert: Conversion
) -> Iterator[_Reading]:
    for each in found:
        try:
            state = dict(convert(dict(each.state)))
        except Exception:  # noqa: BLE001, S112  # a conversion of a library, which expects layouts that it knows
            continue
        yield _Reading(each, state, converted=True, differences=Differences.between(ours, state, classifier))


def _note(path: str | Path, reading: _Reading, count: int) -> str:
    layout, unused = reading.layout, reading.differences.unused
    beside = count - len(layout.state)
    parts = [
        f"read under {layout.prefix!r}" if layout.prefix else "",
        f"without {' and '.join(map(repr, layout.wrappers))} in names" if layout.wrappers else "",
        f"{beside} tensors beside them not used" if beside else "",
        "converted by the architecture's own conversion" if reading.converted else "",
        f"{len(unused)} of a classifier or of training not used: {some(unused, _SHOWN)}" if unused else "",
    ]
    said = "; ".join(part for part in parts if part)
    return f"Weights {path}: {said}." if said else ""
