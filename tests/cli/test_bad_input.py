"""Bad input: one clear line, the right exit code, nothing lost."""

import errno
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from jsdelta_db.errors import TrainingError
from tests.cli.calls import call, query, words
from tests.reading import ask, contents, tell
from tests.workspaces import TINY_STEPS

QUICK_ATTACK = ["attack", "--steps", str(TINY_STEPS), "--images", "60"]

FULL = Path("/dev/full")  # a device without room
FACTORY = ["--factory", "nope:make", "--checkpoint", "nope.pt"]

# What is wrong as typed: seen before anything is opened or made.
TYPED = [
    (["attack", "--eps", "0"], "--eps '0' is out of range: must be a number in (0, 255]"),
    (["attack", "--eps", "-1"], "--eps '-1' is out of range"),
    (["attack", "--eps", "256"], "--eps '256' is out of range"),
    (["attack", "--eps", "2/1"], "--eps '2/1' is out of range"),
    (["attack", "--eps", "abc"], "--eps 'abc' is not a perturbation size: must be "),
    (["attack", "--eps", "8/0"], "--eps '8/0' is not a perturbation size"),
    (["attack", "--eps", "nan"], "--eps 'nan' is out of range"),
    (["attack", "--eps", "inf"], "--eps 'inf' is out of range"),
    (["attack", "--eps", ""], "--eps '' is not a perturbation size"),
    (["attack", "--eps", "3", "--eps", "0"], "--eps '0' is out of range"),
    (["attack"], "jsdelta attack needs a radius: --eps 3 (3/255), or several; see jsdelta attack --help"),
    (["attack", "--eps", "3", "--norm", "l1"], "norm 'l1' is not valid: must be linf or l2"),
    (
        ["attack", "--eps", "0", "--norm", "l2"],
        "--eps '0' is out of range: must be a number in (0, 1000] for l2",
    ),
    (
        ["attack", "--eps", "3/255x", "--norm", "l2"],
        "--eps '3/255x' is not a perturbation size: must be a number in (0, 1000] for l2",
    ),
    (
        ["attack", "--eps", "3", "--objective", "nope"],
        "objective 'nope' is not valid: must be target, margin,",
    ),
    (["attack", "--eps", "3", "--stop", "soon"], "stop 'soon' is not valid: must be never or first-hit"),
    (["attack", "--eps", "3", "--restarts", "0"], "0 is out of range: must be a whole number from 1"),
    (["attack", "--eps", "3", "--relative-step-size", "0"], "relative_step_size 0.0 is not valid"),
    (["attack", "--eps", "3", "--relative-step-size", "nan"], "relative_step_size nan is not valid"),
    (
        ["attack", "--eps", "3", "--dtype", "float16"],
        "dtype 'float16' is not valid: must be auto, float32 or bf",
    ),
    (["attack", "--eps", "3", "--temperature", "2"], "--temperature '2' is not valid: must be 1 or fit"),
    (
        ["attack", "--eps", "3", "--untargeted", "--targets", "next"],
        "--untargeted aims at no label, and --ta",
    ),
    (["attack", "exprot"], "No such command 'exprot'"),
    (["score"], "jsdelta score needs either --attack UID (stored samples) or --samples FILE.npz"),
    (["score", "--attack", "abcd", "--samples", "x.npz"], "needs either --attack UID"),
    (
        ["score", "--attack", "abcd", "--temperature", "hot"],
        "--temperature 'hot' is not valid: must be 1 or",
    ),
    (["models", "add"], "Missing argument 'name'"),
    (["models", "add", "mine"], "Missing option '--factory'"),
    (
        ["models", "add", "mine", *FACTORY, "--dataset", "digits", "--std", "a"],
        "--std 'a' is not valid: must be ",
    ),
    (
        ["models", "add", "mine", *FACTORY, "--dataset", "digits", "--mean", ""],
        "--mean '' is not valid: must be numbers",
    ),
    (["models", "add", "mine", *FACTORY, "--dataset", "nope"], "unknown dataset 'nope'; there is: digits"),
    (
        ["models", "add", "mine", *FACTORY, "--dataset", "digits", "--std", "0"],
        "is out of range: must be (0, 1]",
    ),
    (
        ["models", "add", "mine", *FACTORY, "--dataset", "digits", "--set", "width"],
        "--set 'width' is not valid: must be key=value, such as width=64",
    ),
    (
        ["models", "add", "mine", *FACTORY, "--dataset", "digits", "--outputs", "softmax"],
        "--outputs 'softmax' is not valid: must be logits, probs or log-probs",
    ),
    (
        ["models", "add", "mine", *FACTORY, "--dataset", "digits", "--resize", "9999"],
        "--resize 9999 is not valid: must be a whole number from 1 to 4096",
    ),
    (
        ["models", "add", "mine", "--factory", "no/nets.py:make", "--dataset", "digits"],
        "there is no file no/nets.py; must be torchvision:resnet18, timm:resnet26, module:callable or",
    ),
    (
        ["models", "add", "mine", *FACTORY, "--dataset", "digits", "--seed", "x"],
        "'x' is not valid: must be a wh",
    ),
    (
        ["models", "add", "mine", *FACTORY, "--dataset", "digits"],
        "--factory 'nope:make' cannot be imported",
    ),
    (["models", "list", "--format", "xml"], "'table', 'csv', 'json', 'jsonl', 'markdown'"),
    (
        ["attack", "--eps", "3", "--device", "tpu"],
        "device 'tpu' is not valid: must be auto, cpu, cuda or cuda:N",
    ),
    (["attack", "--eps", "3", "--steps", "0"], "0 is out of range: must be a whole number from 1"),
    (["attack", "--eps", "3", "--images", "0"], "0 is out of range: must be a whole number from 1"),
    (["attack", "--eps", "3", "--seed", "x"], "'x' is not valid: must be a whole number"),
    (["query", "bugs", "--beta", "0"], "β = 0 is out of range: must be a number above 0"),
    (["query", "bugs", "--beta", "-1"], "β = -1 is out of range"),
    (["query", "bugs", "--beta", "nan"], "β = nan is out of range"),
    (["query", "bugs", "--beta", "inf"], "β = inf is out of range"),
    (["query", "bugs", "--beta", "x"], "'x' is not a number: must be a number above 0"),
    (["query", "bugs", "--format", "xml"], "'table', 'csv', 'json', 'jsonl', 'markdown'"),
    (["plot", "histogram", "--beta", "0"], "β = 0 is out of range"),
    (["plot", "histogram", "-o", "figure.gif"], "ends in '.gif': must be .png or .svg"),
    (["train", "--seed", "x"], "'x' is not valid: must be a whole number from 0"),
    (["train", "--seed", "1.5"], "'1.5' is not valid: must be a whole number from 0"),
    (["train", "--seed", "-1"], "-1 is out of range: must be a whole number from 0"),
    (["train", "--seed", "99999999999"], "99999999999 is out of range: must be a whole number"),
    (["train", "--members", "0"], "0 is out of range: must be a whole number from 1"),
    (["train", "--epochs", "0"], "0 is out of range: must be a whole number from 1"),
    (["train", "--epochs", "99999999999999999999"], "out of range: must be a whole number from 1 to 100000"),
    (["train", "--width", "100000"], "out of range: must be a whole number from 1 to 4096"),
    (
        ["train", "--method", "adversarial", "--train-norm", "l1"],
        "unknown --train-norm 'l1'; there is: linf, l2",
    ),
    (["train", "--name", ""], "--name '' is not valid"),
    (["train", "--name", "a:b"], "--name 'a:b' is not valid"),
    (["train", "--recipe", ""], "unknown recipe ''"),
    (["train", "--recipe", "nope"], "unknown recipe 'nope'; there is: cifar10-paper, cifar10-paper-adv"),
    (["train", "--dataset", "nope"], "unknown dataset 'nope'; there is: digits, cifar10, svhn"),
    (["train", "--recipe", "digits", "--dataset", "nope"], "unknown dataset 'nope'; there is: digits"),
    (["train", "--arch", "nope"], "unknown architecture 'nope'; there is: cnn-small, resnet8"),
    (["train", "--arch", "no_such_module:make"], "architecture 'no_such_module:make' cannot be imported"),
    (["train", "--arch", "json:nothing"], "architecture 'json:nothing' cannot be imported"),
    (["train", "--method", "nope"], "unknown method 'nope'; there is: standard, adversarial, sam"),
    (
        ["train", "--method", "sam", "--sam-rho", "0"],
        "sam_rho 0.0 is not valid: must be a finite number above 0",
    ),
    (["train", "--method", "sam", "--sam-rho", "-1"], "sam_rho -1.0 is not valid"),
    (["train", "--method", "sam", "--sam-rho", "nan"], "sam_rho nan is not valid"),
    (
        ["train", "--train-eps", "8"],
        "belongs to --method adversarial, and this is 'standard'; add --method adversarial or leave it out",
    ),
    (["train", "--sam-adaptive"], "sam_adaptive True belongs to --method sam"),
    (["train", "--method", "adversarial", "--train-eps", "0"], "--train-eps '0' is out of range: must be "),
    (["train", "--method", "adversarial", "--train-eps", "x"], "--train-eps 'x' is not a perturbation size"),
    (
        ["train", "--method", "adversarial", "--train-step-size", "300"],
        "--train-step-size '300' is out of range",
    ),
    (
        ["train", "--method", "adversarial", "--train-steps", "0"],
        "0 is out of range: must be a whole number",
    ),
    (
        ["train", "--method", "adversarial", "--train-norm", "l2"],
        "another unit than the recipe's 'linf'; give --train-eps, too",
    ),
    (
        ["train", "--recipe", "digits", "--method", "sam"],
        "--method sam needs sam_rho; give --sam-rho, or take",
    ),
    (["train", "--recipe", "none.toml"], "--recipe 'none.toml' cannot be read (No such file or directory)"),
    (["train", "--arch", "resnet8", "--arch", "nope"], "unknown architecture 'nope'; there is: cnn-small"),
    (["train", "--width", "8", "--width", "0"], "0 is out of range: must be a whole number from 1"),
    (["train", "--jobs", "0"], "0 is out of range: must be a whole number from 1"),
    (["query", "ensembles", "--format", "xml"], "'table', 'csv', 'json', 'jsonl', 'markdown'"),
    (["train", "--device", "tpu"], "device 'tpu' is not valid: must be auto, cpu, cuda or cuda:N"),
    (["train", "--dtype", "float8"], "dtype 'float8' is not valid: must be auto, float32 or bfloat16"),
    (["recipes", "show", "nope"], "unknown recipe 'nope'; there is:"),
    (["ui", "--port", "70000"], "70000 is out of range: must be a whole number from 1 to 65535"),
    (["trian"], "No such command 'trian'"),
    (["query", "bugz"], "No such command 'bugz'"),
    (["query", "bugs", "--bet", "1"], "No such option: --bet"),
]

# What is wrong for this store: it lists what exists.
ASKED = [
    (["attack", "--eps", "3", "--ensemble", "nope"], 2, "unknown ensemble 'nope'; there is: digits"),
    (
        ["attack", "--eps", "3", "--attacked", "9"],
        2,
        "--attacked '9' is no model or ensemble: must be seeds of 'digits': 0, 1, 2; ensembles: digits;",
    ),
    (["attack", "--eps", "3", "--attacked", "bad"], 2, "or a model's uid; or first, or all"),
    (["attack", "--eps", "3", "--evaluators", "digits"], 2, "(seed 0, "),
    (
        ["attack", "--eps", "3", "--evaluators", "digits:1"],
        2,
        "--evaluators names 1 model: must be 2 or more",
    ),
    (
        ["attack", "--eps", "3", "--evaluators", "digits:9"],
        2,
        "'9' names no members of 'digits': must be seeds",
    ),
    (
        ["attack", "--eps", "3", "--evaluators", "nope"],
        2,
        "'nope' is no model or ensemble: must be seeds of",
    ),
    (
        ["attack", "--eps", "3", "--surrogates", "1"],
        2,
        "--surrogates go with --objective bug or feature; 'target'",
    ),
    (["attack", "--eps", "3", "--objective", "bug", "--surrogates", "0"], 2, "is among the surrogates"),
    (
        ["attack", "--eps", "3", "--objective", "bug", "--surrogates", "1", "--evaluators", "1,2"],
        2,
        "would judge and be a surrogate",
    ),
    (["attack", "--eps", "3", "--objective", "bug", "--surrogates", "1,2"], 1, "no evaluator is left"),
    (
        ["attack", "--eps", "3", "--stability", "--no-save-samples"],
        2,
        "--stability looks at the samples again",
    ),
    (["score", "--attack", "nope"], 2, "unknown attack 'nope'; there is: "),
    (
        ["score", "--samples", "none.npz"],
        1,
        "none.npz cannot be read (No such file or directory); give an .npz",
    ),
    (
        ["models", "add", "mine", *FACTORY, "--dataset", "digits"],
        2,
        "--factory 'nope:make' cannot be imported",
    ),
    (
        ["models", "add", "m", "--factory", "cnn-small", "--checkpoint", "none.pt", "--dataset", "digits"],
        1,
        "none.pt cannot be read (No such file or directory); give another file",
    ),
    (
        ["attack", "--eps", "3", "--targets", "nope"],
        2,
        "unknown --targets 'nope'; there is: random, all, next, least-likely, untargeted, 0",
    ),
    (["attack", "--eps", "3", "--targets", "10"], 2, "unknown --targets '10'"),
    (["query", "bugs", "--ensemble", "nope"], 2, "unknown ensemble 'nope'; there is: digits"),
    (["query", "bugs", "--dataset", "nope"], 2, "unknown dataset 'nope'; there is: digits"),
    (["query", "bugs", "--method", "nope"], 2, "unknown method 'nope'; there is: standard"),
    (["query", "bugs", "--attack", "nope"], 2, "unknown attack 'nope'; there is:"),
    (["query", "bugs", "--by", "colour"], 2, "unknown --by 'colour'; there is: dataset, attacked_ensemble"),
    (["query", "bugs", "--by", "eps,eps"], 2, "names a grouping twice"),
    (["query", "bugs", "--eps", "0"], 2, "--eps '0' is out of range"),
    (["query", "bugs", "-o", "no/such/folder/bugs.csv"], 2, "cannot be written: No such file or directory"),
    (["plot", "histogram", "-o", "no/such/folder/figure.png"], 2, "does not exist; make it first"),
    (["plot", "histogram", "--eps", "5"], 1, "nothing to draw; run jsdelta attack"),
    (["train", "--dataset", "cifar10", "--data-dir", "no/such/folder"], 1, "--data-dir or JSDELTA_DATA_DIR"),
    (
        ["train", "--dataset", "svhn", "--data-dir", "no/such/folder"],
        1,
        "fetch it with jsdelta train --download",
    ),
]

STORE_COMMANDS = [
    ["query", "bugs"],
    ["query", "ensembles"],
    ["attack", "--eps", "3"],
    ["score", "--attack", "abcd"],
    ["models", "list"],
    ["ensembles", "show", "digits"],
    ["train"],
    ["db", "check"],
    ["plot", "histogram"],
]


def fails(capsys, workspace, expected, fragment, arguments):
    """Check the form that every failure has."""
    code, out, err = call(capsys, workspace, *arguments)
    assert code == expected, err
    assert fragment in err
    assert err.splitlines()[-1].startswith("jsdelta: ")
    assert len(err.splitlines()) <= 10
    assert "Traceback" not in err
    assert "a defect" not in err
    assert out == ""
    return err


@pytest.mark.parametrize(("arguments", "fragment"), TYPED, ids=words)
def test_what_is_typed_wrong_is_one_line_and_makes_nothing(
    arguments, fragment, tmp_path, monkeypatch, capsys
):
    """A value that cannot be right is refused with exit 2 before a store or a folder is made."""
    monkeypatch.chdir(tmp_path)
    err = fails(capsys, tmp_path / "none", 2, fragment, arguments)
    assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "fragment"),
    ASKED,
    ids=words,
)
def test_what_the_store_does_not_have_is_one_line(
    arguments, code, fragment, tiny_copy, tmp_path, monkeypatch, capsys
):
    """A name the store does not know is refused, what exists is listed, and no row of a run is touched."""
    monkeypatch.chdir(tmp_path)
    before = contents(tiny_copy)
    fails(capsys, tiny_copy, code, fragment, arguments)
    assert contents(tiny_copy) == before


def test_cuda_is_refused_where_there_is_none(tiny_copy, monkeypatch, capsys):
    """Asking for a GPU that is not there is a usage error that names what is valid."""
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for command in (["train"], ["attack", "--eps", "5"]):
        fails(
            capsys,
            tiny_copy,
            2,
            "--device 'cuda' is not available here: must be cpu or auto",
            [*command, "--device", "cuda"],
        )


@pytest.mark.parametrize("command", STORE_COMMANDS, ids=" ".join)
@pytest.mark.parametrize(
    ("url", "code", "fragment"),
    [
        ("nonsense", 2, "JSDELTA_DB_URL is not a database URL: must be sqlite:///FILE or postgresql://"),
        ("mysql://host/name", 2, "JSDELTA_DB_URL names 'mysql'"),
        ("sqlite://", 2, "JSDELTA_DB_URL names no file"),
        ("postgresql://anna:hush-hush@127.0.0.1:1/jsdelta", 1, "cannot be reached"),
    ],
)
def test_bad_database_url(url, code, fragment, command, tmp_path, monkeypatch, capsys):
    """An address that cannot be used is named without its password, and nothing is made."""
    monkeypatch.setenv("JSDELTA_DB_URL", url)
    err = fails(capsys, tmp_path / "none", code, fragment, command)
    assert "hush-hush" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [*STORE_COMMANDS, ["db", "upgrade"]], ids=" ".join)
def test_database_that_is_mlflows(command, tiny_copy, monkeypatch, capsys):
    """MLflow's own database is refused with a plain no, and not written to."""
    database = tiny_copy.root / "mlflow.db"
    monkeypatch.setenv("JSDELTA_DB_URL", f"sqlite:///{database}")
    before = database.read_bytes()
    fails(capsys, tiny_copy, 1, f"{database} belongs to MLflow, not to jsdelta", command)
    assert database.read_bytes() == before


@pytest.mark.parametrize("command", [*STORE_COMMANDS, ["db", "upgrade"]], ids=" ".join)
def test_database_of_another_program(command, tmp_path, monkeypatch, capsys):
    """Somebody else's tables are refused and left as they are."""
    database = tmp_path / "other.db"
    connection = sqlite3.connect(database)
    connection.execute("CREATE TABLE recipe (name TEXT)")
    connection.close()
    monkeypatch.setenv("JSDELTA_DB_URL", f"sqlite:///{database}")
    before = database.read_bytes()
    fails(capsys, tmp_path, 1, "belongs to something else (recipe", command)
    assert database.read_bytes() == before


@pytest.mark.parametrize("command", STORE_COMMANDS, ids=" ".join)
@pytest.mark.parametrize(
    ("revision", "fragment"), [("0000", "run jsdelta db upgrade"), ("9999", "update jsdelta")]
)
def test_store_of_another_version(revision, fragment, command, tiny_copy, capsys):
    """An older or newer schema is refused with exit 3 and what to do; it is never migrated unasked."""
    tell(tiny_copy, "UPDATE jsdelta_alembic_version SET version_num = ?", revision)
    before = contents(tiny_copy)
    fails(capsys, tiny_copy, 3, fragment, command)
    assert contents(tiny_copy) == before


@pytest.mark.parametrize("command", [*STORE_COMMANDS, ["db", "upgrade"], ["db", "stats"]], ids=" ".join)
def test_store_that_is_no_database(command, tmp_path, capsys):
    """A file that SQLite cannot read is named, and not overwritten."""
    (tmp_path / "jsdelta.db").write_bytes(b"not a database " * 1000)
    fails(capsys, tmp_path, 1, "is damaged or no SQLite file", command)
    assert (tmp_path / "jsdelta.db").read_bytes() == b"not a database " * 1000


@pytest.mark.parametrize(
    "command", [["query", "bugs"], ["train"], ["attack", "--eps", "3"], ["ui"], ["doctor"]], ids=" ".join
)
def test_workspace_that_is_a_file(command, tmp_path, capsys):
    """A workspace has to be a folder."""
    (tmp_path / "file").write_text("")
    fails(capsys, tmp_path / "file", 2, "is not a folder; give a folder", command)


def test_workspace_that_can_not_be_made(tmp_path, capsys):
    """A folder below a file cannot be made: one line, exit 1."""
    (tmp_path / "file").write_text("")
    fails(
        capsys,
        tmp_path / "file" / "below",
        1,
        "cannot be made",
        ["train", "--members", "1", "--epochs", "1"],
    )


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def alter(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [cut, alter, lambda path: path.write_bytes(b""), os.remove],
    ids=["cut", "altered", "empty", "missing"],
)
@pytest.mark.parametrize("seed", [0, 2])
def test_damaged_checkpoint(seed, damage, tiny_copy, capsys):
    """A damaged checkpoint, the attacked model's or an evaluator's, stops the attack before any row is made."""
    ((uri,),) = ask(tiny_copy, "SELECT checkpoint_uri FROM model WHERE seed = ?", seed)
    damage(tiny_copy.root / uri)
    before = contents(tiny_copy)
    err = fails(capsys, tiny_copy, 1, "is missing or altered", [*QUICK_ATTACK, "--eps", "5"])
    assert "restore the file from a backup, or train other members with jsdelta train" in err
    assert contents(tiny_copy) == before


USER_NETWORKS = """
import torch
from torch import nn

class Constant(nn.Module):
    def __init__(self, outputs, value):
        super().__init__()
        self.outputs, self.scale = outputs, nn.Parameter(torch.tensor(value))

    def forward(self, x):
        return self.scale * torch.ones(len(x), self.outputs)

def not_finite(num_classes, in_channels, image_size):
    return Constant(num_classes, float("nan"))

def too_many(num_classes, in_channels, image_size):
    return Constant(num_classes + 1, 1.0)

def not_a_network(num_classes, in_channels, image_size):
    return "network"

def broken(num_classes, in_channels, image_size):
    raise ValueError("no such layer")

def takes_nothing():
    return nn.Identity()

text = "not callable"
"""


@pytest.mark.parametrize(
    ("name", "code", "fragment"),
    [
        ("not_finite", 1, "returns values that are not finite"),
        ("too_many", 1, "has 10 classes, must be (2, 10)"),
        ("not_a_network", 1, "returned str: must be a torch.nn.Module"),
        ("broken", 1, "could not be built: no such layer"),
        ("takes_nothing", 1, "could not be built"),
        ("text", 2, "not callable: must be"),
    ],
)
def test_network_of_the_user_that_can_not_be_used(
    name, code, fragment, tiny_copy, tmp_path, monkeypatch, capsys
):
    """What is wrong with the user's own network is said in one line; finished members stay."""
    (tmp_path / "networks_of_a_user.py").write_text(USER_NETWORKS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "networks_of_a_user", raising=False)
    rows = query(capsys, tiny_copy)
    fails(
        capsys, tiny_copy, code, fragment, ["train", "--members", "2", "--arch", f"networks_of_a_user:{name}"]
    )
    assert ask(tiny_copy, "SELECT count(*) FROM model WHERE status = 'finished'") == [(3,)]
    assert query(capsys, tiny_copy) == rows


def no_space(path, content):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def test_disk_full_while_writing_files(tiny_copy, monkeypatch, capsys):
    """A full disk stops the attack with one line; what was there is kept and the same command goes on."""
    rows = query(capsys, tiny_copy)
    with monkeypatch.context() as full:
        full.setattr("jsdelta_db.samples.chunk_files.write_atomically", no_space)
        fails(capsys, tiny_copy, 1, "No space left on device", [*QUICK_ATTACK, "--eps", "5"])
    assert query(capsys, tiny_copy) == rows
    code, _, err = call(capsys, tiny_copy, *QUICK_ATTACK, "--eps", "5")
    assert code == 0, err
    assert len(query(capsys, tiny_copy, "--eps", "5", "--beta", "0.1")) == 1


def test_disk_full_while_writing_rows(tiny_copy, monkeypatch, capsys):
    """A database that cannot grow stops the attack with one line; the same command goes on later."""
    from sqlalchemy import text

    from jsdelta_db.samples import chunks

    write_samples = chunks.write_samples

    def write_to_a_full_disk(session, **rows):
        session.execute(text("PRAGMA max_page_count = 1"))  # SQLite takes it as: no more than now
        write_samples(session, **rows)

    attack = ["attack", "--steps", "1", "--eps", "5"]
    with monkeypatch.context() as full:
        full.setattr(chunks, "write_samples", write_to_a_full_disk)
        fails(capsys, tiny_copy, 1, "free some space and run the same command again", attack)
    code, _, err = call(capsys, tiny_copy, *attack)
    assert code == 0, err
    (row,) = query(capsys, tiny_copy, "--eps", "5", "--beta", "0.1")
    assert row["n_attempted"] + row["n_no_baseline"] + row["n_skipped"] == 600


def test_disk_full_while_training(workspace, monkeypatch, capsys):
    """A checkpoint that cannot be written leaves no finished member; the same command goes on."""
    train = ["train", "--members", "1", "--epochs", "1"]
    with monkeypatch.context() as full:
        full.setattr("jsdelta_db.compute.models.checkpoint.write_atomically", no_space)
        fails(capsys, workspace, 1, "No space left on device", train)
    code, out, err = call(capsys, workspace, *train)
    assert code == 0, err
    assert "trained" in out


def test_defect_is_one_line_with_a_way_to_the_traceback(tiny, monkeypatch, capsys):
    """An error nobody foresaw is one line too, and JSDELTA_DEBUG=1 shows the traceback."""

    def break_down(*arguments, **options):
        raise RuntimeError("out of order")

    monkeypatch.setattr("jsdelta_db.queries.bugs.query_bugs", break_down)
    code, out, err = call(capsys, tiny, "query", "bugs")
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert "RuntimeError: out of order" in err
    assert "JSDELTA_DEBUG=1" in err
    monkeypatch.setenv("JSDELTA_DEBUG", "1")
    assert "Traceback" in call(capsys, tiny, "query", "bugs")[2]


def test_an_error_in_the_users_code_has_its_traceback_too(tiny, monkeypatch, capsys):
    """One line, and with JSDELTA_DEBUG=1 also where in their network it was; an error of ours alone has none."""

    def fail(*arguments, **options):
        try:
            raise ValueError("deep in a network")
        except ValueError as error:
            raise TrainingError("its network failed") from error

    def refuse(*arguments, **options):
        raise TrainingError("its network failed")

    for stand_in, shows in ((fail, True), (refuse, False)):
        monkeypatch.setattr("jsdelta_db.queries.bugs.query_bugs", stand_in)
        assert call(capsys, tiny, "query", "bugs") == (1, "", "jsdelta: its network failed\n")
        with monkeypatch.context() as patch:
            patch.setenv("JSDELTA_DEBUG", "1")
            assert ("ValueError: deep in a network" in call(capsys, tiny, "query", "bugs")[2]) is shows


@pytest.mark.skipif(not FULL.exists(), reason="this system has no full device")
def test_a_full_output_is_one_line():
    """What cannot be printed is said in one line, and not as a defect of ours."""
    with FULL.open("w") as full:
        done = subprocess.run(
            [Path(sys.executable).with_name("jsdelta"), "recipes", "show", "digits"],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("jsdelta: the output cannot be written: No space left on device")
    assert len(done.stderr.splitlines()) == 1
