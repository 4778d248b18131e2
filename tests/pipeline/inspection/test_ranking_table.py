"""One table names the scores of a ranking; what stores and prints them follows it."""

import dataclasses
from pathlib import Path

from frostline.commands.backbones import _ranking_text
from frostline.pipeline.inspection.rank_backbones import SCORES, RankedLayer, Ranking


def test_scores_of_the_table_are_the_fields_of_a_layer_and_the_columns_that_are_printed():
    names = [field.name for field in dataclasses.fields(RankedLayer)]
    assert names[4:-1] == list(SCORES)
    layer = RankedLayer(Path("a.h5"), "timm:x", "embedding", 8, *range(len(SCORES)), seconds=1.0)
    (table,) = _ranking_text(Ranking("log_me", (1,), (layer,), ()))
    (row,) = table.rows
    assert (
        dict(zip(table.headings, row, strict=True)).items()
        >= {heading: f"{value:.4f}" for value, heading in enumerate(SCORES.values())}.items()
    )
