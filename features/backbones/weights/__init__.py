"""Weights of networks: reading files, matching names, random weights, and digests."""

from frostline.features.backbones.weights.digest import fingerprint
from frostline.features.backbones.weights.errors import download_error
from frostline.features.backbones.weights.files import read_weights
from frostline.features.backbones.weights.loading import Conversion, Loaded, load_file
from frostline.features.backbones.weights.matching import load_tensors, match
from frostline.features.backbones.weights.seeds import seed_of_random_weights, seeded

__all__ = [
    "Conversion",
    "Loaded",
    "download_error",
    "fingerprint",
    "load_file",
    "load_tensors",
    "match",
    "read_weights",
    "seed_of_random_weights",
    "seeded",
]
