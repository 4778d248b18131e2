"""A small network: as keywords of the pipeline's functions, as options of the commands, and as a table of a study file."""

BACKBONE = {"backbone": "timm:test_resnet", "weights": "random:1", "image_size": 32}
BACKBONE_OPTIONS = ("--backbone", "timm:test_resnet", "--weights", "random")
EXTRACT_TABLE = """[[extract]]
backbone = "timm:test_resnet"
weights = "random:1"
image-size = 32
"""


def as_options(keywords):
    """Keywords of a function as options of its command."""
    return [f"--{name.replace('_', '-')}={value}" for name, value in keywords.items()]
