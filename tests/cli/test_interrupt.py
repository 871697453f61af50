"""Ctrl-C in the middle of the work, end to end: real processes, one of them the installed command; a real signal."""

import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.cli.calls import call
from tests.faults.attacks import start

JSDELTA = Path(sys.executable).parent / "jsdelta"
PATIENCE = 120  # seconds until the work must have begun; a hang would otherwise never end


def select(workspace, statement, database="jsdelta.db"):
    """Return the rows of one SQL statement."""
    connection = sqlite3.connect(f"file:{workspace.root / database}?mode=ro", uri=True)
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


@pytest.fixture
def _heeding_ctrl_c():
    """A shell's background job ignores SIGINT, and its children inherit that."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


def start_installed(workspace, *arguments):
    """Start the installed command."""
    return subprocess.Popen(
        [JSDELTA, "--workspace", workspace.root, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=workspace.root.parent,
    )  # fmt: skip


def interrupt(process, workspace, begun, database):
    """Wait until a query has a row, press Ctrl-C; return exit code, stdout, stderr."""
    try:
        deadline = time.monotonic() + PATIENCE
        while not _is_begun(workspace, begun, database):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "the work did not begin"
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.wait()
    return process.returncode, out, err


def _is_begun(workspace, begun, database):
    try:
        return bool(select(workspace, begun, database))
    except sqlite3.OperationalError:  # not made yet
        return False


def statuses(workspace):
    """Return MLflow's runs of this workspace: name and status, oldest first."""
    client = MlflowClient(f"sqlite:///{workspace.root / 'mlflow.db'}")
    # A workspace that was copied goes on in an experiment of its own.
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, order_by=["attributes.start_time ASC"])
    return [(run.info.run_name, run.info.status) for run in runs]


def is_one_line(err):
    """Tell whether the interruption is one line and nothing else went wrong."""
    said = [line for line in err.splitlines() if line.startswith("jsdelta: ")]
    return (
        len(said) == 1
        and said[0].startswith("jsdelta: interrupted; finished members and chunks are stored")
        and len(err.splitlines()) <= 10
        and "Traceback" not in err
    )


@pytest.mark.usefixtures("_heeding_ctrl_c")
def test_interrupted_training_keeps_finished_members(workspace, capsys):
    """Ctrl-C in the second member: exit 130, the first is kept, the same command goes on with the second in its own run."""
    train = ["train", "--members", "2", "--epochs", "8"]
    begun = "SELECT 1 FROM metrics JOIN runs USING (run_uuid) WHERE name = 'member seed 1' AND key = 'loss'"
    code, out, err = interrupt(start_installed(workspace, *train), workspace, begun, "mlflow.db")
    assert (code, out) == (130, "")
    assert is_one_line(err), err
    assert select(workspace, "SELECT seed, status, owner FROM model ORDER BY seed") == [
        (0, "finished", None), (1, "pending", None),
    ]  # fmt: skip
    assert dict(statuses(workspace)) == {
        "train digits-epochs8": "KILLED", "member seed 0": "FINISHED", "member seed 1": "KILLED",
    }  # fmt: skip
    (kept,) = select(workspace, "SELECT uid, checkpoint_sha256 FROM model WHERE seed = 0")

    code, out, err = call(capsys, workspace, *train)
    assert code == 0, err
    assert [line.split()[-1] for line in out.splitlines()[1:]] == ["found", "trained"]
    assert select(workspace, "SELECT uid, checkpoint_sha256 FROM model WHERE seed = 0") == [kept]
    assert select(workspace, "SELECT status FROM ensemble") == [("finished",)]
    assert sorted(statuses(workspace)) == [
        ("member seed 0", "FINISHED"), ("member seed 1", "FINISHED"),
        ("train digits-epochs8", "FINISHED"), ("train digits-epochs8", "KILLED"),
    ]  # fmt: skip


@pytest.mark.usefixtures("_heeding_ctrl_c")
def test_interrupted_attack_keeps_finished_chunks(tiny_copy, capsys):
    """Ctrl-C after some chunks: exit 130, they are kept, the same command does the others in the same run."""
    attack = ["attack", "--eps", "5", "--targets", "all", "--images", "24", "--steps", "100"]
    of_attack = "attack_id IN (SELECT id FROM attack WHERE images = 24)"
    chunks = f"SELECT position, sha256 FROM attack_chunk WHERE {of_attack} AND status = 'finished'"
    begun = f"SELECT 1 FROM attack_chunk WHERE {of_attack} AND status = 'finished' AND position = 1"
    code, out, err = interrupt(start(tiny_copy, *attack), tiny_copy, begun, "jsdelta.db")
    assert (code, out) == (130, "")
    assert is_one_line(err), err
    kept = select(tiny_copy, chunks)
    ((total,),) = select(tiny_copy, f"SELECT count(*) FROM attack_chunk WHERE {of_attack}")
    assert 2 <= len(kept) < total
    ((size,),) = select(tiny_copy, "SELECT chunk_size FROM attack WHERE images = 24")
    assert select(tiny_copy, f"SELECT count(*) FROM sample WHERE {of_attack}") == [(size * len(kept),)]
    assert select(tiny_copy, "SELECT count(*) FROM attack_chunk WHERE owner IS NOT NULL") == [(0,)]
    assert statuses(tiny_copy)[-2:] == [
        ("attack digits", "KILLED"), ("attack on seed 0, ε = 5/255", "KILLED"),
    ]  # fmt: skip
    before = select(tiny_copy, f"SELECT mlflow_run_id FROM evaluation WHERE {of_attack}")

    code, _, err = call(capsys, tiny_copy, *attack)
    assert code == 0, err
    after = dict(select(tiny_copy, chunks))
    assert {position: after[position] for position, _ in kept} == dict(kept)
    assert len(after) == total
    assert select(tiny_copy, f"SELECT mlflow_run_id FROM evaluation WHERE {of_attack}") == before
    assert statuses(tiny_copy)[-3:] == [
        ("attack digits", "KILLED"), ("attack on seed 0, ε = 5/255", "FINISHED"), ("attack digits", "FINISHED"),
    ]  # fmt: skip
    assert call(capsys, tiny_copy, "db", "check")[:2] == (0, "ok\n")
