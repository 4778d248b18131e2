"""Sources of backbones with one defect each."""

import dataclasses
from typing import ClassVar

import pytest
import torch
from torch import nn

from frostline.features.backbones.network import Network
from frostline.features.backbones.readout import OutputReadout
from frostline.features.backbones.weights import load_file, seed_of_random_weights, seeded
from frostline.features.errors import WeightsError
from frostline.features.spec import Transform
from frostline.testing import BackboneSourceContract

TRANSFORM = Transform(32, "shortest", (32, 32), "bilinear", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


class Plain:
    """A source of one network, as it should be."""

    prefix = "broken"

    def names(self):
        yield "colours.v1"

    def find(self, name):
        return "colours.v1" if name in {"colours", "colours.v1"} else None

    def build(self, name, weights):
        seed = seed_of_random_weights(weights)
        if weights is None:
            raise WeightsError(f"broken:{name} has no pretrained weights")
        with seeded(seed or 0):
            module = self.module()
        if seed is None:
            load_file(module, weights)
        return Network(module, TRANSFORM, OutputReadout(), str(weights), versions={"broken": "1"})

    def module(self):
        return nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def availability(self, _name):
        return "none"

    def version(self):
        return "broken 1"


class Declared(BackboneSourceContract):
    prefix = "broken"
    name = "colours"
    fails = frozenset()

    @pytest.fixture(autouse=True)
    def _declared(self, declare):
        declare("frostline.backbone_sources", broken=f"{__name__}:{type(self).__name__}.SOURCE")


class TestWithoutDefect(Declared):
    SOURCE = Plain()


class Unversioned(Plain):
    def version(self):
        return ""


class TestNoVersion(Declared):
    SOURCE = Unversioned()
    fails = frozenset({"test_prefix_is_the_name_in_the_registry"})


class Repeating(Plain):
    def names(self):
        yield from ["colours.v1", "colours.v1"]


class TestNamesTwice(Declared):
    SOURCE = Repeating()
    fails = frozenset({"test_names_are_unique_and_resolve_to_themselves"})


class Tagging(Plain):
    def find(self, name):
        return f"{name}.v1" if name.startswith("colours") and not name.endswith("nobody-has") else None


class TestTagsAreAppended(Declared):
    SOURCE = Tagging()
    fails = frozenset({"test_a_name_resolves_to_one_full_name"})


class Guessing(Plain):
    def find(self, _name):
        return "colours.v1"


class TestUnknownNamesAreGuessed(Declared):
    SOURCE = Guessing()
    fails = frozenset({"test_an_unknown_name_is_an_error"})


class Changed(Plain):
    """A subclass changes the network."""

    changes: ClassVar = {}

    def build(self, name, weights):
        return dataclasses.replace(super().build(name, weights), **self.changes)


class UnknownFilter(Changed):
    changes: ClassVar = {"transform": dataclasses.replace(TRANSFORM, interpolation="bell")}


class TestStandardDeviationOfZero(Declared):
    SOURCE = UnknownFilter()
    fails = frozenset({"test_transform_is_valid"})


class Undescribed(Changed):
    changes: ClassVar = {"versions": {}}


class TestNoVersionInTheKey(Declared):
    SOURCE = Undescribed()
    fails = frozenset({"test_network_is_described"})


class Global(Plain):
    def build(self, name, weights):
        network = super().build(name, weights)
        torch.manual_seed(7)
        return network


class TestTheGlobalSeedIsSet(Declared):
    SOURCE = Global()
    fails = frozenset({"test_weights_are_the_same_each_time"})


class Fixed(Plain):
    def module(self):
        with seeded(1):
            return super().module()


class TestTheSeedIsIgnored(Declared):
    SOURCE = Fixed()
    fails = frozenset({"test_random_weights_follow_the_seed"})


class Fileless(Plain):
    def build(self, name, weights):
        return super().build(
            name, "random" if seed_of_random_weights(weights) is None and weights else weights
        )


class TestFilesAreIgnored(Declared):
    SOURCE = Fileless()
    fails = frozenset({"test_weights_are_loaded_from_a_file"})


class Inventing(Plain):
    def build(self, name, weights):
        return super().build(name, weights or "random")


class TestRandomInsteadOfPretrained(Declared):
    SOURCE = Inventing()
    fails = frozenset({"test_pretrained_weights_that_do_not_exist_are_an_error"})


class Infinite(Plain):
    def module(self):
        module = super().module()
        module[0].bias.data.fill_(torch.inf)
        return module


class TestInfiniteFeatures(Declared):
    SOURCE = Infinite()
    fails = frozenset({"test_layers_give_vectors_of_the_promised_length"})


class Mean(nn.Module):
    def forward(self, vectors):
        return vectors - vectors.mean(0, keepdim=True) / 2


class Relative(Plain):
    def module(self):
        return super().module().append(Mean())


class TestNeighboursCount(Declared):
    SOURCE = Relative()
    fails = frozenset({"test_features_depend_on_the_image_alone"})


class Looking(nn.Module):
    def forward(self, images):
        return images * (2 if float(images.sum()) > 0 else 1)


class Deciding(Plain):
    def module(self):
        return nn.Sequential(Looking(), *super().module())


class TestShapesNeedValues(Declared):
    SOURCE = Deciding()
    fails = frozenset({"test_it_is_listed_and_described"})
