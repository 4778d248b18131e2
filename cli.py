"""The ``frostline`` command: its subcommands, and the module of each."""

import click

from frostline.commands.interface.group import CommandGroup, LazyCommands
from frostline.commands.interface.options import example


@click.group(
    cls=CommandGroup,
    commands=LazyCommands(
        {
            "backbones": "backbones:backbones",
            "batch": "study:batch",
            "cache": "cache:cache",
            "clusters": "explore:clusters",
            "compare": "study:compare",
            "dedupe": "explore:dedupe",
            "demo": "demo:demo",
            "evaluate": "judge:evaluate",
            "extract": "extract:extract",
            "few-shot": "train:few_shot",
            "finetune": "finetune:finetune",
            "label-errors": "cache:label_errors",
            "learning-curve": "train:learning_curve",
            "map": "map:map_cache",
            "outliers": "explore:outliers",
            "predict": "judge:predict",
            "rank": "backbones:rank",
            "report": "study:report",
            "search": "explore:search",
            "suggest": "explore:suggest",
            "train-head": "train:train_head",
            "verify": "cache:verify",
        }
    ),
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        "show_default": True,
    },
    epilog=example(
        "frostline extract photos/",
        "frostline train-head photos.efficientnet_lite0.h5",
        "frostline evaluate runs/photos.efficientnet_lite0-linear",
    ),
)
@click.version_option(package_name="frostline")
def main() -> None:
    """Extract image features once, cache them safely, train heads on them in seconds."""


if __name__ == "__main__":
    main()
