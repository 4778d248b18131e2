"""A run that was fine-tuned on images without files is evaluated with their source."""

import pytest

from frostline.features.errors import SourceError
from frostline.pipeline import Recipe, evaluate, finetune
from frostline.pipeline.runs.run import load_run
from frostline.pipeline.studies.html_report.commands import repeating_commands
from tests.helpers.sources import DigestSource


def test_evaluation_computes_the_features_of_a_given_source_and_else_asks_for_it(
    digits, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    files = {
        path.relative_to(digits).as_posix(): path.read_bytes() for path in sorted(digits.glob("*/*"))[::2]
    }
    recipe = Recipe(epochs=1, batch_size=24, precision="fp32")
    options = {
        "backbone": "timm:test_resnet",
        "weights": "random:1",
        "image_size": 32,
        "workers": 0,
        "device": "cpu",
    }
    finetune(DigestSource(files), recipe=recipe, run="run", **options)
    message = r"memory:set.*\. The features of .*run are computed from its images: in Python, pass their source as `source`$"
    with pytest.raises(SourceError, match=message):
        evaluate("run")
    assert load_run("run").ledger.entries() == ()
    result = evaluate("run", source=DigestSource(files))
    assert result.rows > 0
    assert evaluate("run", source=DigestSource(files)).metrics.top1 == result.metrics.top1
    assert repeating_commands(load_run("run"))[0].startswith(
        "# In Python, with the source memory:set and these options:\n# frostline finetune memory:set "
    )
