"""The names of a study's outputs.

An interrupted study resumes only if a later release gives its jobs the same names.
"""

import pytest

from frostline.pipeline import StudyError
from frostline.pipeline.studies.jobs.plan import plan_study
from frostline.pipeline.studies.jobs.study_file import read_study
from tests.helpers.sources import DigestSource

STUDY = """
[batch]
data = "data"
out = "out"
seeds = [0, 7]
device = "cpu"
fractions = [0.5, 0.25, 0.25]
limit = 100

[[extract]]
backbone = ["timm:test_resnet", "timm:test_resnet+timm:test_vit"]
layer = ["embedding", "layer1+embedding"]

[[extract]]
backbone = "timm:test_vit"
weights = "random:1"
image-size = [32, 64]

[[train-head]]
head = "knn"

[[train-head]]
head = "mlp"
param = { hidden = [8], epochs = 2 }
search = "random"
trials = 3
cv = 2
project = "pca:4"
name = "small"

[[finetune]]
backbone = "timm:test_resnet"
recipe = { epochs = 8, lr = 1, augment = "none", frost-line = "layer2", unfreeze-every = 2 }

[[finetune]]
backbone = "timm:test_resnet"
image-size = 32
from-scratch = true
cached = false
search = "grid"
values = { lr = [1, 0.1], schedule = ["cosine"] }

[[finetune]]
backbone = "timm:test_vit"
weights = "random:2"
name = "drawn"
search = "random"
trials = 1
search-epochs = 3
values = { lr = [0.1, 0.2] }

[[finetune]]
backbone = "timm:test_vit"
search = "list"
values = [{ lr = 0.5 }, { ema = 0.99 }]
"""

NAMES = """
out/caches/letters.timm-test_resnet-ae79a2e3.h5
out/caches/letters.timm-test_vit-8d2a7669.h5
out/caches/letters.timm-test_vit.32px-a21779e5.h5
out/caches/letters.timm-test_vit.64px-6f69632f.h5
out/runs/letters.timm-test_resnet-knn-s0-8e05e471
out/runs/letters.timm-test_resnet-knn-s7-7ef197a3
out/runs/letters.timm-test_resnet.layer1+embedding-knn-s0-3c92d48f
out/runs/letters.timm-test_resnet.layer1+embedding-knn-s7-410d8a74
out/runs/letters.timm-test_resnet+timm-test_vit-knn-s0-da9bf4de
out/runs/letters.timm-test_resnet+timm-test_vit-knn-s7-b7bf4066
out/runs/letters.timm-test_resnet+timm-test_vit.layer1+embedding-knn-s0-b2180b85
out/runs/letters.timm-test_resnet+timm-test_vit.layer1+embedding-knn-s7-1b8d6bc3
out/runs/letters.timm-test_resnet-small-s0-2dc885db
out/runs/letters.timm-test_resnet-small-s7-ef4abf34
out/runs/letters.timm-test_resnet.layer1+embedding-small-s0-c8b87d4f
out/runs/letters.timm-test_resnet.layer1+embedding-small-s7-ea129c90
out/runs/letters.timm-test_resnet+timm-test_vit-small-s0-166a292f
out/runs/letters.timm-test_resnet+timm-test_vit-small-s7-2523e3de
out/runs/letters.timm-test_resnet+timm-test_vit.layer1+embedding-small-s0-c28c5301
out/runs/letters.timm-test_resnet+timm-test_vit.layer1+embedding-small-s7-1d9fe2f9
out/runs/letters.timm-test_vit.32px-knn-s0-f1bbc683
out/runs/letters.timm-test_vit.32px-knn-s7-45df24e7
out/runs/letters.timm-test_vit.64px-knn-s0-a3944a88
out/runs/letters.timm-test_vit.64px-knn-s7-8adf2b0d
out/runs/letters.timm-test_vit.32px-small-s0-9829a097
out/runs/letters.timm-test_vit.32px-small-s7-d9509433
out/runs/letters.timm-test_vit.64px-small-s0-7002e00a
out/runs/letters.timm-test_vit.64px-small-s7-152c3b72
out/runs/letters.timm-test_resnet-finetune-s0-52db8d08
out/runs/letters.timm-test_resnet-finetune-s7-3062bd73
out/search/letters.timm-test_resnet.32px-scratch-c1-064ae933
out/search/letters.timm-test_resnet.32px-scratch-c2-e63a6104
out/runs/letters.timm-test_resnet.32px-scratch-s0-606b87fb
out/runs/letters.timm-test_resnet.32px-scratch-s7-89637989
out/search/letters.timm-test_vit-drawn-c1-bfc4300e
out/runs/letters.timm-test_vit-drawn-s0-5c3a07ce
out/runs/letters.timm-test_vit-drawn-s7-8f14fc41
out/search/letters.timm-test_vit-finetune-c1-abb9da69
out/search/letters.timm-test_vit-finetune-c2-8bc54aa9
out/runs/letters.timm-test_vit-finetune-s0-fe419e07
out/runs/letters.timm-test_vit-finetune-s7-397a6a71
"""


@pytest.fixture
def names(tmp_path, monkeypatch):
    """Return the names of the jobs of a study whose images lie in no file."""
    files = {f"{label}/{number}.png": bytes(number + 1) for label in "ab" for number in range(3)}
    monkeypatch.setattr(
        "frostline.pipeline.studies.jobs.plan.open_source",
        lambda path, **_: DigestSource(files, root=f"/{path}/letters"),
    )

    def read(text):
        path = tmp_path / "study.toml"
        path.write_text(text)
        return [job.path.relative_to(tmp_path.cwd()).as_posix() for job in plan_study(read_study(path)).jobs]

    return read


def test_jobs_keep_the_names_of_earlier_releases(names):
    assert names(STUDY) == NAMES.split()


SMALL = """
[batch]
data = "data"
[[extract]]
backbone = "timm:test_resnet"
{extract}
[[train-head]]
head = "knn"
[[finetune]]
backbone = "timm:test_resnet"
{finetune}
"""


@pytest.mark.parametrize(
    "key", ['precision = "bf16"', 'store = "float16"', 'decoder = "fast"', "views = 2", "min-cosine = 0.9"]
)
def test_setting_of_the_features_names_the_cache_and_its_heads(names, key):
    cache, head, tuned = names(SMALL.format(extract="", finetune=""))
    other_cache, other_head, same = names(SMALL.format(extract=key, finetune=""))
    assert other_cache != cache
    assert other_head != head
    assert same == tuned


def test_run_to_start_from_names_the_run(names):
    cache, head, tuned = names(SMALL.format(extract="", finetune=""))
    *same, other = names(SMALL.format(extract="", finetune='from-run = "runs/linear"'))
    assert same == [cache, head]
    assert other != tuned


@pytest.mark.parametrize(
    ("extract", "finetune"),
    [
        ("max-bad = 0.5\nbatch-size = 8", 'max-bad = 0.5\nlog-to = "tensorboard"'),
        ('engine = "auto"', "max-bad = 0.01"),
    ],
)
def test_setting_that_changes_no_result_or_equals_its_default_keeps_the_names(names, extract, finetune):
    assert names(SMALL.format(extract=extract, finetune=finetune)) == names(
        SMALL.format(extract="", finetune="")
    )


def test_equal_images_in_two_folders_share_their_runs(names):
    cache, head, tuned = names(SMALL.format(extract="", finetune=""))
    both = SMALL.format(extract="", finetune="").replace('data = "data"', 'data = ["data", "copy"]')
    first, *runs, other = names(both)
    assert [first, *runs] == [cache, head, tuned]
    assert other != cache


def test_two_tables_for_one_output_are_refused(names):
    again = '[[extract]]\nbackbone = "timm:test_resnet"\nmax-bad = 0.5\n'
    with pytest.raises(
        StudyError, match=r"line 12: another table gives letters.timm-test_resnet-\w+.h5 as well"
    ):
        names(SMALL.format(extract="", finetune="") + again)
