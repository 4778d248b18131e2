"""A study file: what is wrong in it is told with its line, before anything is computed."""

import sys
from collections import Counter

import pytest

from frostline.pipeline import StudyError, batch
from frostline.pipeline.studies.jobs.plan import plan_study
from frostline.pipeline.studies.jobs.study_file import read_study
from tests.helpers.images import write_folder
from tests.helpers.paths import ROOT
from tests.helpers.runner import run
from tests.helpers.tables import write_manifest

TUNE = """
[[finetune]]
backbone = "timm:test_resnet"
from-scratch = true
recipe = {{ epochs = 8, augment = "none" }}
"""


def line_of(path, text):
    """Of the last one that holds the text."""
    return max(number for number, line in enumerate(path.read_text().splitlines(), 1) if text in line)


@pytest.mark.parametrize(
    ("added", "told", "at"),
    [
        ('[[extract]]\nbackbone = "a"\nlayr = "b"', "no key 'layr' (did you mean 'layer'?)", "layr"),
        (
            '[[train-heads]]\nhead = "svm"',
            "no table 'train-heads' (did you mean 'train-head'?)",
            "train-heads",
        ),
        ('[[train-head]]\nname = "mine"', "missing key 'head'", "[[train-head]]"),
        (f'[[train-head]]\nhead = "svm"\nname = "{"x" * 300}"', "Choose a shorter name", "[[train-head]]"),
        ('[[train-head]]\nhead = "svm"\nname = "a\\u0000b"', "name: got 'a\\x00b'", "name ="),
        ('[[train-head]]\nhead = "liner"', "no head 'liner' (did you mean 'linear'?)", "liner"),
        (
            '[[train-head]]\nhead = "mlp"\nparam = { hiden = [8] }',
            "no parameter 'hiden' (did you mean 'hidden'?)",
            "hiden",
        ),
        (
            '[[train-head]]\nhead = "mlp"\nparam = { lr = "fast" }',
            "lr: got 'fast', expected a number",
            "fast",
        ),
        (
            '[[train-head]]\nhead = "svm"\nsearch = "rnd"',
            "search: got 'rnd', expected one of grid, random, halving, optuna",
            "rnd",
        ),
        ('[[train-head]]\nhead = "svm"\ntrials = 3', "trials and jobs need a search", "trials = 3"),
        ('[[train-head]]\nhead = "svm"\ntrails = 3', "no key 'trails' (did you mean 'trials'?)", "trails"),
        ('[[train-head]]\nhead = "svm"\ncv = 1', "cv: got 1, expected a whole number, at least 2", "cv = 1"),
        (
            '[[train-head]]\nhead = "stranger.heads:Head"',
            "importing the module 'stranger.heads' runs its code",
            "stranger",
        ),
        (
            '[[train-head]]\nhead = "svm"\ntrust-module = "stranger"',
            "no key 'trust-module': a study file trusts no module; pass --trust-module to frostline batch",
            "trust-module",
        ),
        (
            '[[train-head]]\nhead = "svm"\nlayer = "a"',
            "no key 'layer': list the layers in [[extract]]",
            "layer",
        ),
        (
            '[[extract]]\nbackbone = "timm:test_vit"\nlabel-column = "class"',
            "no key 'label-column': set it in [batch]",
            "label-column",
        ),
        ('[[train-head]]\nhead = "svm"\nparam = 3', "param: got 3, expected values by name", "param = 3"),
        (
            '[[train-head]]\nhead = "svm"\nproject = "pca"',
            "projection: got 'pca'",
            "project",
        ),
        (
            '[[finetune]]\nbackbone = "a"\nimage-size = 0',
            "image-size: got [0], expected a list of values, each a whole number, at least 1",
            "image-size = 0",
        ),
        (
            '[[finetune]]\nbackbone = "a"\nrecipe = { epoch = 3 }',
            "recipe has no key 'epoch' (did you mean 'epochs'",
            "epoch",
        ),
        (
            '[[finetune]]\nbackbone = "a"\nrecipe = { lr = -1 }',
            "lr: got -1, expected a number, above 0",
            "lr = -1",
        ),
        ('[[finetune]]\nbackbone = "a"\nrecipe = { seed = 1 }', "set seeds in [batch]", "seed = 1"),
        (
            '[[finetune]]\nbackbone = "a"\nsearch = "grid"\nvalues = { lr = ["high"] }',
            "lr: got ['high'], expected a list of values, each a number, above 0",
            "high",
        ),
        (
            '[[finetune]]\nbackbone = "a"\nrecipe = { batch-size = 8, accumulate = 3 }',
            "accumulate: got 3",
            "accumulate",
        ),
        ('[[finetune]]\nbackbone = "a"\nrecipe = 3', "recipe: got 3, expected values by name", "recipe = 3"),
        (
            '[[extract]]\nbackbone = "a"\nprecison = "fp32"',
            "no key 'precison' (did you mean 'precision'",
            "precison",
        ),
        (
            '[[extract]]\nbackbone = "a"\nmin-cosine = 2',
            "min-cosine: got 2, expected a number, 0 to 1",
            "min-cosine = 2",
        ),
        ('[[extract]]\nbackbone = "a"\nstore = "int8"', "store: got 'int8', expected one of float32", "int8"),
        (
            '[[extract]]\nbackbone = "a"\ncache = "a.h5"',
            "no key 'cache': a study names its outputs",
            "cache = ",
        ),
        ('[[extract]]\nbackbone = "a"\ndevice = "cpu"', "no key 'device': set it in [batch]", "device"),
        (
            '[[finetune]]\nbackbone = "a"\nrestart = true',
            "no key 'restart': a study replaces no output",
            "restart",
        ),
        (
            '[[finetune]]\nbackbone = "a"\nfractions = [1, 0, 0]',
            "no key 'fractions': set them in [batch]",
            "fractions",
        ),
        ('[extract2]\nbackbone = "a"', "no table 'extract2' (did you mean 'extract'?)", "extract2"),
        ('[[finetune]]\nbackbone = "a"\nsearch = "grid"', "there are no values to try", "grid"),
        ('[[finetune]]\nbackbone = "a"\nsearch = "list"\nvalues = { lr = [1] }', "expects [{ lr", "values"),
    ],
)
def test_invalid_key_or_value_reports_line(write_study, added, told, at):
    path = write_study(added=added)
    with pytest.raises(StudyError) as caught:
        batch(path)
    assert told in str(caught.value)
    assert f"study.toml, line {line_of(path, at)}: " in str(caught.value)
    assert not (path.parent / "out").exists()


@pytest.mark.parametrize(
    ("added", "told", "at"),
    [
        ('[[extract]]\nbackbone = "test_resnett"', "backbone 'test_resnett': not known", "test_resnett"),
        (
            '[[extract]]\nbackbone = "test_resnet"\nweights = "random"\nlayer = "layr1"',
            "layer 'layr1'",
            "layr1",
        ),
        (
            '[[extract]]\nbackbone = "test_resnet"\nengine = "eagr"',
            "no engine 'eagr' (did you mean 'eager'?)",
            "eagr",
        ),
        (
            '[[extract]]\nbackbone = "test_resnet"\ndecoder = "fst"',
            "no decoder 'fst' (did you mean 'fast'",
            "fst",
        ),
        (
            '[[finetune]]\nbackbone = "test_resnet"\nfrom-run = "no/run"',
            "from-run 'no/run': no such folder",
            "from-run",
        ),
        (
            '[[finetune]]\nbackbone = "test_resnet"\nfrom-scratch = true\nfrom-run = "."',
            "from-run: training from scratch uses no from-run; drop one of the two",
            "from-run",
        ),
        ('[[extract]]\nbackbone = "small:resnet18"', "has no pretrained weights", "small:resnet18"),
        ('[[extract]]\nbackbone = "test_resnet"\nweights = "no.pt"', "'no.pt': no such file", "no.pt"),
        (
            '[[finetune]]\nbackbone = "test_resnet"\nweights = "random"\nrecipe = { frost-line = "layer9" }',
            "stage 'layer9': this backbone has no such stage",
            "frost-line",
        ),
        (
            '[[finetune]]\nbackbone = "test_vit"\nfrom-scratch = true\nrecipe = { frost-line = "stem" }',
            "freezing needs pretrained weights",
            "frost-line",
        ),
    ],
)
def test_unknown_name_reports_line_before_any_work(write_study, added, told, at):
    path = write_study(added=added)
    with pytest.raises(StudyError) as caught:
        batch(path)
    assert told in str(caught.value)
    assert f"study.toml, line {line_of(path, at)}: " in str(caught.value)
    assert not list(path.parent.glob("out/*/*"))


def test_missing_data_suggests_close_match(write_study, digits):
    path = write_study(data=f"{digits}s")
    with pytest.raises(StudyError, match=rf"line 3: .*did you mean '{digits}'"):
        batch(path)


def test_invalid_toml_reports_line(write_study):
    with pytest.raises(StudyError, match=r"not TOML: .*line 14"):
        read_study(write_study(added="a =\n"))


def jobs_of(path, stage):
    return [job for job in plan_study(read_study(path)).jobs if job.stage == stage]


def test_shared_cache_holds_all_requested_layers(write_study):
    added = '[[extract]]\nbackbone = "timm:test_resnet"\nweights = "random:1"\nimage-size = 32\nlayer = ["layer1", "layer1+embedding"]\n'
    path = write_study(added=added)
    extractions, heads = jobs_of(path, "extract"), jobs_of(path, "train-head")
    assert [job.options.layers for job in extractions] == [("embedding", "layer1"), ("embedding",)]
    assert len(heads) == (2 + 2) * 2 * 2  # layers of both tables, heads, seeds
    assert {job.caches for job in heads} == {(job.cache,) for job in extractions}


def test_options_of_the_commands_reach_the_jobs(write_study):
    extract = (
        '[[extract]]\nbackbone = "timm:test_resnet"\nprecision = "fp32"\nengine = "eager"\nmax-bad = 0\n'
    )
    tuned = '[[finetune]]\nbackbone = "timm:test_resnet"\nlog-to = "mlflow"\nmax-bad = 1\n'
    path = write_study('[batch]\ndata = "{data}"\nlimit = 60\ndevice = "cpu"\n', extract + tuned)
    (extraction,), (training,) = jobs_of(path, "extract"), jobs_of(path, "finetune")
    assert extraction.options.changes() == {
        "backbone": "timm:test_resnet",
        "precision": "fp32",
        "engine": "eager",
        "device": "cpu",
        "limit": 60,
        "max_bad": 0.0,
    }
    assert (training.options.log_to, training.options.max_bad, training.options.limit) == ("mlflow", 1.0, 60)


def test_how_data_are_read_is_set_for_all_jobs(write_study, tmp_path):
    write_manifest(tmp_path / "set.csv", ("file", "kind"), ("1.png", "a"), ("2.png", "b"))
    write_folder(tmp_path, ["1.png", "2.png"])
    text = '[batch]\ndata = "{data}"\npath-column = "file"\nlabel-column = "kind"\n'
    tables = '[[extract]]\nbackbone = "timm:test_resnet"\n[[finetune]]\nbackbone = "timm:test_resnet"\n'
    path = write_study(text, tables, data=tmp_path / "set.csv")
    (extraction,) = jobs_of(path, "extract")
    (training,) = jobs_of(path, "finetune")
    reading = {"path_column": "file", "label_column": "kind"}
    assert extraction.options.reading() == training.options.reading() == reading
    assert (extraction.data.images, extraction.data.classes) == (2, 2)


def test_a_table_written_once_is_refused(write_study):
    path = write_study('[batch]\ndata = "{data}"\n', '[extract]\nbackbone = "a"\n')
    with pytest.raises(StudyError, match=r"line 3: \[extract\]: expected a list of tables, \[\[extract\]\]"):
        read_study(path)


def test_a_study_without_data_is_refused(write_study):
    with pytest.raises(StudyError, match=r"no table \[batch\], which names the data"):
        read_study(write_study('[[extract]]\nbackbone = "a"\n'))


def test_backbones_joined_by_plus_share_one_head(write_study):
    path = write_study(
        added='[[extract]]\nbackbone = "timm:test_resnet+timm:test_vit"\n',
        text='[batch]\ndata="{data}"\n[[train-head]]\nhead="knn"\n',
    )
    assert len(jobs_of(path, "extract")) == 2
    (head,) = jobs_of(path, "train-head")
    assert head.caches == tuple(job.cache for job in jobs_of(path, "extract"))


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        ('search = "grid"\nvalues = { lr = [0.1, 1], ema = [0.9] }', [(0.1, 0.9), (1.0, 0.9)]),
        ('search = "list"\nvalues = [{ lr = 0.5 }, { ema = 0.99 }]', [(0.5, None), (None, 0.99)]),
    ],
)
def test_candidates_come_from_grid_or_list(write_study, search, expected):
    path = write_study(added=TUNE.replace("{{", "{").replace("}}", "}") + search + "\nsearch-epochs = 3\n")
    found = jobs_of(path, "search")
    assert [(job.options.recipe.lr, job.options.recipe.ema) for job in found] == expected
    assert {(job.options.recipe.epochs, job.options.recipe.seed) for job in found} == {(3, 0)}
    assert {job.options.recipe.epochs for job in jobs_of(path, "finetune")} == {8}


def test_random_candidates_are_within_range_and_reproducible(write_study):
    search = 'search = "random"\ntrials = 6\nvalues = { lr = [0.01, 1.0], schedule = ["cosine", "step"] }\n'
    path = write_study(added=TUNE.replace("{{", "{").replace("}}", "}") + search)
    found = jobs_of(path, "search")
    assert len({job.options.recipe.lr for job in found}) == 6
    assert all(0.01 <= job.options.recipe.lr <= 1 for job in found)
    assert {job.options.recipe.schedule for job in found} == {"cosine", "step"}
    assert {job.options.recipe.epochs for job in found} == {2}  # a quarter
    assert [job.path for job in jobs_of(path, "search")] == [job.path for job in found]


def test_example_file_is_a_valid_study(tmp_path, digits):
    example = (ROOT / "examples" / "study.toml").read_text()
    path = tmp_path / "study.toml"
    path.write_text(example.replace('"cifar10/"', f'"{digits}"').replace('"study"', f'"{tmp_path / "out"}"'))
    counts = Counter(job.stage for job in plan_study(read_study(path)).jobs)
    assert counts == {"extract": 3, "train-head": 3 * 3 * 3, "search": 4 * 6, "finetune": 4 * 3}


HOSTILE = {
    "not UTF-8": (b'[batch]\ndata = "\xff"\n', "line 2: byte 0xff is not UTF-8"),
    "deep": (b"[batch]\ndata = " + b"[" * 100_000, "nested too deeply"),
    "5,000 digits": (b"[batch]\nseeds = [" + b"1" * 5000 + b"]\n", "not TOML"),
    "a null character": (b"[batch]\ndata = '\0'\n", "not TOML"),
    "empty": b"",
    "data of a number": b"[batch]\ndata = 5\n",
    "a batch of a list": b"[[batch]]\ndata = 'a'\n",
    "an extract of a number": b"extract = 5\n[batch]\ndata = 'a'\n",
    "an extract of numbers": b"extract = [5]\n[batch]\ndata = 'a'\n",
    "no data": (
        b"[batch]\ndata = []\n[[extract]]\nbackbone = 'a'\n[[train-head]]\nhead = 'linear'\n",
        "data: expected one or more",
    ),
    "a date": b"[batch]\ndata = 2020-01-01\n",
    "a huge seed": b"[batch]\ndata = 'a'\nseeds = [" + b"1" * 400 + b"]\n",
    "not a number": b"[batch]\ndata = 'a'\nfractions = [nan, inf, 0.5]\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_of_other_things_is_refused(tmp_path, name):
    content = HOSTILE[name]
    content, message = content if isinstance(content, tuple) else (content, "")
    path = tmp_path / "study.toml"
    path.write_bytes(content)
    with pytest.raises(StudyError, match=rf"(?s)study\.toml.*{message}"):
        read_study(path)


def test_a_file_too_large_is_not_read(tmp_path):
    path = tmp_path / "study.toml"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(OSError, match="has 1,099,511,627,776 bytes; expected at most"):
        read_study(path)


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """A module whose import leaves a file."""
    (tmp_path / "modules").mkdir()
    code = "from sklearn.naive_bayes import GaussianNB as Head\nimport pathlib\n"
    mark = tmp_path / "imported"
    (tmp_path / "modules" / "stranger.py").write_text(f"{code}pathlib.Path({str(mark)!r}).touch()\n")
    monkeypatch.syspath_prepend(tmp_path / "modules")
    monkeypatch.delitem(sys.modules, "stranger", raising=False)
    return mark


STRANGE = '[[extract]]\nbackbone = "timm:test_resnet"\n[[train-head]]\nhead = ["ridge", "stranger:Head"]\n'


def test_a_study_imports_a_module_only_if_the_user_trusts_it(write_study, stranger):
    path = write_study('[batch]\ndata = "{data}"\nout = "{out}"\n' + STRANGE)
    for command in ([], ["--dry-run"], ["--trust-module", "strang"], ["--trust-module", "stranger.head"]):
        told = run("batch", path, *command, code=1).stderr
        assert f"{path}, line {line_of(path, 'stranger')}" in told
        assert "--trust-module stranger" in told
        assert not stranger.exists()
    plan = plan_study(read_study(path), trusted=["stranger"])
    assert stranger.exists()
    heads = [job.options for job in plan.jobs if job.stage == "train-head"]
    assert {options.head: options.trusted for options in heads} == dict.fromkeys(
        ("ridge", "stranger:Head"), ("stranger",)
    )
    names = {job.path.name for job in plan.jobs}
    assert names == {job.path.name for job in plan_study(read_study(path), trusted=["stranger", "x"]).jobs}
