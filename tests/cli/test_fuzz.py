"""Fuzz of the command line: nonsense for every option of every command, and files that were damaged.

Whatever is given: no traceback, no defect, at most three lines on stderr, none of which a terminal obeys.
"""

import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.cli.calls import call
from tests.cli.test_help import NETS, RUNNABLE
from tests.reading import ask
from tests.workspaces import copy_of

pytestmark = pytest.mark.slow

LONG, DIGITS, ENDLESS = "x" * 5_000, "9" * 20, "9" * 5_000
UNPRINTABLE = ["", " ", "\x1b[31mred\x1b[0m", "one\ntwo", "\u202ecba", "\udcff", LONG]
TEXTS = [
    *UNPRINTABLE, DIGITS, ENDLESS, ":", ",", "digits:", f"digits:{DIGITS}", f"digits:{ENDLESS}", "../..", "%s",
    "[bold]x[/nope]", "'; DROP TABLE model; --",
]  # fmt: skip
FRACTIONS = ["", " ", "x", "-1", "nan", "inf", "-inf", "1e999", "0x1f", "1/0", "\udcff", "\x1b[31m"]
WHOLES = [*FRACTIONS, "1.5", DIGITS, ENDLESS]
ANY = {"title"}  # any text is one
CREATED = {("train", "name"), ("dataset build", "name"), ("models add", "name"), ("ensembles add", "name")}
FREE = {("score", "library"), ("models add", "method")}  # any printable text will do
PATHS = {"output", "path", "figure", "data", "checkpoint", "samples", "files_from", "data_dir"}
WHOLE_METAVARS, FRACTION_METAVARS = {"N", "SEED"}, {"BETA", "RHO", "FACTOR", "X", "SECONDS", "EPS", "SIZE"}

# What a command needs beside the value that is tried: as little work as it takes to get there.
NEEDED = {
    "train": {"members": "3", "epochs": "3"},
    "attack": {"eps": "8", "steps": "1", "images": "2"},
    "score": {"attack": "UID", "evaluators": "digits:1,2"},
    "attack export": {"output": "samples.npz"},
    "models add": {"name": "mine", "factory": "nets:make", "checkpoint": "mine.pt", "dataset": "digits"},
    "ensembles add": {"name": "both", "models": "digits:0,1"},
    "ensembles show": {"name": "digits"},
    "dataset build": {"kind": "det", "ensemble": "digits", "name": "made", "images": "2", "steps": "1"},
    "dataset show": {"name": "digits"},
    "query sql": {"statement": "SELECT 1"},
    "query compare": {"by": "eps", "baseline": "8"},
    "plot compare": {"by": "eps", "baseline": "8"},
    "attacks show": {"uid": "nonsense"},
    "recipes show": {"name": "digits"},
    "db delete": {"uid": "nonsense"},
    "db export": {"output": "copy"},
    "db import": {"source": "other"},
}
OF_FILES = {"ensemble", "attacked", "library", "norm"}  # of score: they go with --samples
OFFLINE = {"output", "source"}


@pytest.fixture(scope="module")
def place(tiny, tmp_path_factory):
    """A store to try things on, in a folder with what the commands name."""
    import torch
    from torch import nn

    folder = tmp_path_factory.mktemp("fuzz")
    workspace = copy_of(tiny, folder / "workspace")
    copy_of(tiny, folder / "other")
    (folder / "nets.py").write_text(NETS)
    torch.save(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).state_dict(), folder / "mine.pt")
    save_samples(folder / "pgd.npz")
    return workspace


@pytest.fixture(autouse=True)
def _in_place(place, monkeypatch):
    from cli import ui

    monkeypatch.chdir(place.root.parent)
    monkeypatch.syspath_prepend(place.root.parent)
    monkeypatch.setattr(ui, "_serve", lambda *_: pytest.fail("a server was started"))


def save_samples(path: Path) -> None:
    """Write valid samples of the digits."""
    from jsdelta_db.compute import data

    split = data.load("digits", path.parent).splits["attack"]
    x, label = split.batch(slice(0, 20)).numpy(), split.labels.numpy()[:20]
    x_adv = np.clip(x + 1 / 255, 0, 1).astype(np.float32)
    np.savez(path, x=x, x_adv=x_adv, label=label, target_label=(label + 1) % 10)


def values_for(words: str, option) -> list[str]:
    """Return nonsense of an option's own kind."""
    if option.name in PATHS:
        return [LONG]
    if option.metavar in WHOLE_METAVARS:
        return WHOLES
    if option.metavar in FRACTION_METAVARS:
        return FRACTIONS
    if (words, option.name) in FREE:
        return UNPRINTABLE
    if (words, option.name) in CREATED:
        return [*TEXTS, "first", "all", "newest", "0123456789abcdef"]
    return [*TEXTS, "nonsense"]


CASES = [
    (" ".join(words), option)
    for words, command in RUNNABLE.items()
    for option in command.params
    if not (option.param_type_name == "option" and option.is_flag) and option.name not in ANY
]
# An option that several commands share is tried at length where it comes first.
FIRST = {(option.name, option.help): words for words, option in reversed(CASES)}
FEW = 4


def arguments_for(words: str, option, value: str, place) -> list[str]:
    """Return a command's arguments with one value that makes no sense."""
    needed = dict(NEEDED.get(words, {}))
    if words == "score" and option.name in {*OF_FILES, "samples"}:
        needed = {"samples": "pgd.npz", "evaluators": "digits:1,2"}
        needed.pop("evaluators") if option.name == "ensemble" else None
    if words == "score" and "attack" in needed:
        ((needed["attack"],),) = ask(place, "SELECT uid FROM attack ORDER BY id LIMIT 1")
    needed.pop(option.name, None)
    command = RUNNABLE[tuple(words.split())]
    given = words.split() + (["--offline"] if words == "attack" and option.name in OFFLINE else [])
    last = []
    for each in command.params:
        text = value if each is option else needed.get(each.name)
        if text is None:
            continue
        if each.param_type_name == "argument":
            last.append(text)
        else:
            given += [f"{each.opts[0]}={text}"]
    return [*given, "--", *last] if last else given


def check_reply(code: int, out: str, err: str) -> None:
    """Check what every reply keeps to."""
    assert code in (0, 1, 2, 3)
    assert "a defect" not in err
    assert "Traceback" not in out + err
    assert err.count("\n") <= 3
    assert all(line.isprintable() for line in err.splitlines())


@pytest.mark.parametrize(
    ("words", "option"), CASES, ids=[f"{words} {option.name}" for words, option in CASES]
)
def test_nonsense_is_refused(words, option, place, capsys):
    """A value that makes no sense is refused in a line or two, whatever the option."""
    failed = []
    values = values_for(words, option)
    if FIRST[option.name, option.help] != words:
        values = random.Random(words).sample(values, min(FEW, len(values)))  # a string seeds it alike always
    for value in values:
        arguments = arguments_for(words, option, value, place)
        code, out, err = call(capsys, place, *arguments)
        try:
            check_reply(code, out, err)
            assert code != 0
            assert err.startswith("jsdelta: ")
        except AssertionError as error:
            failed.append((value[:40], code, err[:300], str(error).splitlines()[0]))
    assert failed == []


def test_any_text_is_a_title(place, capsys):
    """A figure takes whatever somebody calls it."""
    for number, title in enumerate(TEXTS):
        arguments = ["plot", "ecdf", f"--title={title}", "-o", f"title-{number}.svg"]
        code, out, err = call(capsys, place, *arguments)
        check_reply(code, out, err)
        assert code == (2 if title == "\udcff" else 0), title[:40]


@pytest.mark.parametrize(
    "url",
    [
        "nonsense", "://", "\udcff", f"sqlite:////{LONG}", "sqlite://", "mysql://host/db", "postgresql://",
        f"postgresql://{'ü' * 70}/db", f"postgresql://user:secret@localhost:{DIGITS}/db", "sqlite:///\x1b[31m",
        f"postgresql://{LONG}/db", "postgresql://localhost:1/db?connect_timeout=nonsense",
    ],
    ids=lambda url: ascii(url)[:40],
)  # fmt: skip
@pytest.mark.parametrize(
    "words", [["query", "bugs"], ["db", "check"], ["attack", "--eps", "8"]], ids=" ".join
)
def test_addresses_that_are_none(words, url, place, monkeypatch, capsys):
    """JSDELTA_DB_URL of any kind is one line, without its password."""
    monkeypatch.setenv("JSDELTA_DB_URL", url)
    code, out, err = call(capsys, place, *words)
    check_reply(code, out, err)
    assert (code != 0, out, "secret" in err) == (True, "", False), err


# ---- damaged files: a valid one, with a few changes that a seed decides

SEEDS = range(60)


def damage(content: bytes, seed: int) -> bytes:
    """Return a file with bytes flipped, cut off, doubled, or put in."""
    draw = random.Random(seed)
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 8))):
        place = draw.randrange(len(changed))
        kind = draw.randrange(5)
        if kind == 0:
            changed[place] ^= 1 << draw.randrange(8)
        elif kind == 1:
            del changed[place:]
            changed += b"\0"
        elif kind == 2:
            changed[place:place] = draw.randbytes(draw.randrange(1, 20))
        elif kind == 3:
            changed[place:place] = changed[place : place + draw.randrange(1, 200)]
        else:
            changed[place : place + 4] = b"\xff\xff\xff\xff"
    return bytes(changed)


def test_damaged_samples(place, capsys):
    """An .npz file that was damaged is refused, or its arrays are as they were."""
    content = Path("pgd.npz").read_bytes()
    for seed in SEEDS:
        Path("damaged.npz").write_bytes(damage(content, seed))
        check_reply_to(seed, capsys, place, "score", "--samples", "damaged.npz", "--ensemble", "digits")


def test_damaged_recipes(place, capsys):
    """A recipe that was damaged is refused before anything is trained: the data set does not exist."""
    content = Path(__file__).parents[2] / "jsdelta_db" / "config" / "recipes" / "digits-adversarial.toml"
    for seed in SEEDS:
        Path("damaged.toml").write_bytes(damage(content.read_bytes(), seed))
        arguments = ["train", "--recipe", "damaged.toml", "--dataset", "nonsense"]
        assert check_reply_to(seed, capsys, place, *arguments) == 2


def test_damaged_checkpoints(place, capsys):
    """Weights that were damaged are refused, or they are weights still."""
    content = Path("mine.pt").read_bytes()
    for seed in SEEDS:
        Path("damaged.pt").write_bytes(damage(content, seed))
        check_reply_to(
            seed, capsys, place, "models", "add", f"damaged-{seed}", "--factory", "nets:make",
            "--checkpoint", "damaged.pt", "--dataset", "digits",
        )  # fmt: skip


@pytest.mark.parametrize("kind", ["export", "offline"])
def test_damaged_sources(kind, place, capsys, tmp_path):
    """An export or the folder of an offline attack that was damaged is refused, or adds nothing wrong."""
    source = tmp_path / "source"
    words = ["db", "export", "-o", str(source)]
    if kind == "offline":
        words = ["attack", "--offline", "-o", str(source), "--eps", "5", "--steps", "1", "--images", "20"]
    assert call(capsys, place, *words)[0] == 0
    files = sorted(path for path in source.rglob("*") if path.is_file() and path.stat().st_size)
    for seed in SEEDS:
        file = random.Random(seed).choice(files)
        whole = file.read_bytes()
        file.write_bytes(damage(whole, seed))
        check_reply_to((seed, file.name), capsys, place, "db", "import", str(source))
        shutil.rmtree(file.parent / f"{file.name}-wal", ignore_errors=True)
        file.write_bytes(whole)


def check_reply_to(what, capsys, place, *arguments):
    """Run a command on a damaged file; return its exit code."""
    code, out, err = call(capsys, place, *arguments)
    try:
        check_reply(code, out, err)
        assert (code == 0) != err.startswith("jsdelta: ")
    except AssertionError as error:
        raise AssertionError(f"{what}: exit {code}, {err[:500]}") from error
    return code
