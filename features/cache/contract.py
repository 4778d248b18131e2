"""Numerical contract between caches: checks whether features of different engines can be used together."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Self

from frostline.features.cache import FeatureCache
from frostline.features.fidelity import Check
from frostline.features.spec import MIN_COSINE, Difference, FeatureSpec, engine_kind


@dataclass(frozen=True)
class Provenance:
    """Computation of a set of features, with its measured distance from the reference.

    Attributes:
        spec: Specification of the features.
        check: Comparison with eager fp32; None if they were not compared.
    """

    spec: FeatureSpec
    check: Check | None

    @classmethod
    def of(cls, cache: FeatureCache) -> Self:
        """Return the computation of a cache's features."""
        return cls(cache.spec, cache.check)

    @property
    def name(self) -> str:
        """Engine, precision and device, as shown in messages."""
        return f"{self.spec.engine} {self.spec.precision} on {self.spec.device}"

    @property
    def options(self) -> str:
        """Options of ``frostline extract`` that select this engine and precision."""
        return f"--engine {engine_kind(self.spec.engine)} --precision {self.spec.precision}"

    def resembles(self, other: "Provenance") -> bool:
        """Return whether the kind of engine and the precision are the same. Versions and devices may differ."""
        return self.options == other.options

    def cosine(self, layers: Collection[str]) -> float | None:
        """Return the smallest cosine similarity to eager fp32 over some layers; None if one wasn't compared."""
        if self.spec.is_reference:
            return 1.0
        if self.check is None or not self.check.layers.keys() >= set(layers):
            return None
        return min(self.check.layers[key].min_cosine for key in layers)

    def failure(self, layers: Collection[str]) -> str | None:
        """Return the reason why the contract is not known to hold for some layers; None if a check confirms it."""
        cosine = self.cosine(layers)
        if cosine is None:
            return f"{self.name} was not compared with eager fp32"
        if cosine < MIN_COSINE:
            return f"{self.name} reaches a cosine similarity of {cosine:.6f} to eager fp32 (required: {MIN_COSINE})"
        return None


@dataclass(frozen=True)
class Compatibility:
    """Comparison of two computations of features, for example those of a head's training and of its use.

    Attributes:
        theirs: Computation of the features that the head was trained on.
        ours: Computation of the features that are used with the head.
        layers: Keys of the layers in use.
    """

    theirs: Provenance
    ours: Provenance
    layers: frozenset[str]

    @property
    def computed_otherwise(self) -> bool:
        """Whether the engine, device, precision or torch version differs."""
        return bool(self._differences)

    @property
    def is_within_contract(self) -> bool:
        """Whether both are known to reach `MIN_COSINE` to eager fp32, or share the kind of engine and precision."""
        return self.theirs.resembles(self.ours) or not self.failures()

    def failures(self) -> list[str]:
        """Return the reasons why the contract is not known to hold, one per engine and precision."""
        found = [each.failure(self.layers) for each in (self.theirs, self.ours)]
        return [failure for failure in found if failure]

    @property
    def how(self) -> str:
        """Description of the differing fields, for messages."""
        fields = [f"{d.field} {d.theirs} instead of {d.ours}" for d in self._differences]
        return f"computed in another way ({', '.join(fields)})"

    def __str__(self) -> str:
        cosines = [each.cosine(self.layers) for each in (self.theirs, self.ours)]
        known = [cosine for cosine in cosines if cosine is not None]
        if len(known) < len(cosines):
            return f"{self.how} by the same kind of engine in the same precision"
        return f"{self.how}: the smallest measured cosine similarity to eager fp32 is {min(known):.6f}"

    @property
    def _differences(self) -> list[Difference]:
        return [d for d in self.theirs.spec.differences(self.ours.spec) if d.is_of_computation]
