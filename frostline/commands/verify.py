"""The command ``verify``, which is also ``cache verify``."""

from pathlib import Path

import click

from frostline import pipeline
from frostline.commands.options import PATH, example, output_options
from frostline.commands.output import Output


@click.command(epilog=example("frostline verify runs/photos-linear photos.h5", "frostline verify study/"))
@click.argument("paths", type=PATH, nargs=-1, required=True, metavar="PATH...")
@output_options
def verify(*, output: Output, paths: tuple[Path, ...]) -> None:
    """Verify every digest and checksum of runs and caches.

    A PATH is a run, a cache, or a folder that holds them, such as that of a study. All records of a run are read as
    well. Files without a digest, as earlier versions wrote them, are named. The exit code is 1 if a file was changed,
    is missing or can't be read.
    """
    found = pipeline.verify(paths, report=output.report)
    output.show(
        found, [f"{each.state}: {each.path}{each.detail and f': {each.detail}'}" for each in found.files]
    )
    if found.wrong:
        raise click.ClickException(f"{found.wrong} of {len(found.files)} files are not as they were written.")
