"""An attack without a database: the same rows and files as with one, once they are imported."""

import re
import shutil

import pytest

from cli.main import run
from jsdelta_db.exchange import offline
from jsdelta_db.exchange.open_source import open_source
from jsdelta_db.exchange.tables import run_tables
from tests.exchange.moving import bring, files_below, workspace_at, write
from tests.reading import (
    ask,
    chunks_of,
    contents,
    hashes_of,
    judges_of,
    last_evaluation,
    samples_of,
    scores_of,
)
from tests.workspaces import copy_of

UID = re.compile(r"\b[0-9a-f]{16}\b")
ATTACK = (
    "attack",
    "--eps",
    "6",
    "--steps",
    "4",
    "--images",
    "20",
    "--attacked",
    "1",
    "--stability",
    "--controls",
)


def attack(workspace, *more) -> int:
    """Run the attack of these tests."""
    return run(["--workspace", str(workspace.root), *ATTACK, *map(str, more)])


@pytest.fixture(scope="module")
def online(tiny, tmp_path_factory):
    """The tiny store with the attack made in it."""
    workspace = copy_of(tiny, tmp_path_factory.mktemp("online") / "workspace")
    assert attack(workspace) == 0
    return workspace


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    """The attack made offline with the tiny store's models, which must not change."""
    before, made = contents(tiny), tmp_path_factory.mktemp("offline") / "node"
    assert attack(tiny, "--offline", "-o", made) == 0
    assert contents(tiny) == before
    return made


def check_same(workspace, online) -> None:
    """Hold the newest evaluation against that of the online attack."""
    mine, other = last_evaluation(workspace), last_evaluation(online)
    assert samples_of(workspace, mine) == samples_of(online, other)
    assert scores_of(workspace, mine) == scores_of(online, other)
    assert hashes_of(workspace, mine) == hashes_of(online, other)
    assert judges_of(workspace, mine) == judges_of(online, other)
    for table in ("attack", "evaluation"):
        for one, two in zip(chunks_of(workspace, mine, table), chunks_of(online, other, table), strict=True):
            assert {name: array.tobytes() for name, array in one.items()} == {
                name: array.tobytes() for name, array in two.items()
            }
    statement = (
        "SELECT sample_index, stability FROM sample JOIN evaluation ON evaluation.attack_id = sample.attack_id "
        "WHERE evaluation.uid = ? ORDER BY 1"
    )
    assert ask(workspace, statement, mine) == ask(online, statement, other)


def test_offline_equals_online(folder, online, tiny_copy, capsys):
    """After the import rows, chunk files and the bug table are those of the same attack made online."""
    outcome = bring(tiny_copy, folder)
    assert dict(outcome.new) == {"attack": 1, "evaluation": 1}
    check_same(tiny_copy, online)
    attack_files = "SELECT sha256 FROM attack_chunk ORDER BY attack_id, position"
    assert ask(tiny_copy, attack_files) == ask(online, attack_files)
    for question in ("bugs", "controls", "stability"):
        answers = []
        for workspace in (tiny_copy, online):
            capsys.readouterr()
            assert run(["--workspace", str(workspace.root), "query", question, "--format", "csv"]) == 0
            answers.append(UID.sub("uid", capsys.readouterr().out))
        assert answers[0] == answers[1]
    assert run(["--workspace", str(tiny_copy.root), "db", "check"]) == 0
    measured = "SELECT seed, sharpness FROM model ORDER BY seed"
    assert ask(tiny_copy, measured) == ask(online, measured)


def test_imported_attacks_are_shown_in_mlflow_later(folder, tiny_copy, capsys):
    """doctor --repair logs what came without a tracker."""
    bring(tiny_copy, folder)
    assert run(["--workspace", str(tiny_copy.root), "doctor", "--repair"]) == 0
    assert f"logged evaluation {last_evaluation(tiny_copy)}" in capsys.readouterr().err


def test_only_what_the_attack_rests_on_comes_along(folder, tiny):
    """The folder holds its attack, the ensemble and its members, and no attack of the store's."""
    with open_source(str(folder), tiny) as source:
        counts = {table.name: len(source.runs(table)) for table in run_tables()}
    assert counts == {"dataset": 1, "model": 3, "ensemble": 1, "attack": 1, "evaluation": 1}
    assert not list(folder.rglob("mlflow.db"))


def test_the_same_command_again_does_nothing(folder, tiny, tmp_path, capsys):
    """A finished folder is found; it is an export as before."""
    again = shutil.copytree(folder, tmp_path / "again")
    assert attack(tiny, "--offline", "-o", again) == 0
    assert "finished before" in capsys.readouterr().err
    one, two = workspace_at(tmp_path / "one"), workspace_at(tmp_path / "two")
    bring(one, folder)
    bring(two, again)
    assert contents(one)[0] == contents(two)[0]


def test_from_an_export(tiny, online, tmp_path, monkeypatch):
    """On a node without a store the models come from an export; data sets that are not embedded from --data-dir."""
    write(tiny, tmp_path / "base")
    node = workspace_at(tmp_path / "node")
    node.root.mkdir()
    monkeypatch.setenv("JSDELTA_DB_URL", "postgresql://nobody:hidden@127.0.0.1:1/none")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    assert attack(node, "--offline", "-o", tmp_path / "done", "--from", tmp_path / "base") == 0
    assert list(node.root.iterdir()) == []
    monkeypatch.delenv("JSDELTA_DB_URL")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    home = copy_of(tiny, tmp_path / "home")
    bring(home, tmp_path / "done")
    check_same(home, online)


def test_a_stopped_attack_goes_on(tiny, online, tmp_path, monkeypatch, capsys):
    """Stopped half-way the folder is no export; the same command ends with the same rows."""
    from jsdelta_db.pipeline.evaluation import work

    made, keep = tmp_path / "made", work.save_scores

    def stop(*given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(work, "save_scores", stop)
        assert attack(tiny, "--offline", "-o", made) == 130
    assert work.save_scores is keep
    home = copy_of(tiny, tmp_path / "home")
    assert run(["--workspace", str(home.root), "db", "import", str(made)]) == 1
    assert "attack --offline that was stopped" in capsys.readouterr().err
    assert attack(tiny, "--offline", "-o", made) == 0
    bring(home, made)
    check_same(home, online)


def test_a_second_attack_joins_the_folder(folder, tiny, tmp_path):
    """Another ε in the same folder is one export of both, and a failure in between leaves the first."""
    both = shutil.copytree(folder, tmp_path / "both")
    more = ["attack", "--eps", "2", "--steps", "2", "--images", "20", "--offline", "-o", str(both)]
    assert run(["--workspace", str(tiny.root), *more]) == 0
    there = workspace_at(tmp_path / "there")
    assert bring(there, both).new["evaluation"] == 2


def test_files_are_those_of_who_takes_part(four, tmp_path):
    """An attack on the ensemble of three brings three checkpoints, one on that of four brings four."""
    for name, count in (("digits", 3), ("four", 4)):
        named = [
            "--ensemble",
            name,
            "--attacked",
            "0",
            "--evaluators",
            "1,2",
            "--offline",
            "-o",
            str(tmp_path / name),
        ]
        arguments = ["attack", "--eps", "6", "--steps", "2", "--images", "10", *named]
        assert run(["--workspace", str(four.root), *arguments]) == 0
        assert len([path for path in files_below(tmp_path / name) if path.endswith(".pt")]) == count


@pytest.mark.parametrize("name", ["jsdelta.db", "notes.txt"])
def test_a_folder_with_anything_else_is_left_alone(name, tiny, tmp_path, capsys):
    """Work goes to a folder of its own only; exit 2."""
    (tmp_path / name).write_text("mine")
    assert attack(tiny, "--offline", "-o", tmp_path) == 2
    assert name in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_base_without_files_is_refused(tiny, tmp_path, capsys):
    """Models without their weights cannot be attacked; the next command is named."""
    write(tiny, tmp_path / "base", with_files=False)
    assert attack(tiny, "--offline", "-o", tmp_path / "made", "--from", tmp_path / "base") == 1
    assert "export again without --no-files" in capsys.readouterr().err


def test_ours_is_what_the_folder_may_hold(folder):
    """Nothing is left aside in a finished folder."""
    assert {path.name for path in folder.iterdir()} <= offline.OURS - offline.ASIDE
