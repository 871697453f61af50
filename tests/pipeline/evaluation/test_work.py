"""Work on chunks: stored beside the next attack or before it, and in smaller batches where memory ends."""

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
import torch

from jsdelta_db.compute.attacks import capture, perturb
from jsdelta_db.compute.attacks.pgd import FEWEST_CAPTURED
from jsdelta_db.compute.models import inference
from jsdelta_db.errors import OutOfMemoryError, StoreError
from jsdelta_db.pipeline.attack import attack_and_score
from jsdelta_db.pipeline.evaluation import judge, sources, work
from jsdelta_db.pipeline.evaluation.roles import RoleRequest
from jsdelta_db.runtime.background import in_background
from jsdelta_db.workbench.workbench import open_workbench
from tests.compute.attacks.test_capture import CountingGraphs
from tests.workspaces import DRAWING, Listening, copy_of, tiny_attacks

CHUNK_SIZE, CHUNKS, LEVEL = 8, 3, 5
STARTED = "SELECT count(*) FROM attack_chunk WHERE attack_id = 3 AND status = 'finished'"


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Make no drawings: they have tests of their own."""
    monkeypatch.setattr(work, "draw_bytes", lambda figure: DRAWING)


def attack(workspace, **options):
    """Attack at an ε that is new to the tiny store, in three chunks."""
    configs = tiny_attacks(LEVEL, steps=2, images=CHUNKS * CHUNK_SIZE)
    with open_workbench(workspace, chunk_size=CHUNK_SIZE) as bench:
        return attack_and_score(bench, configs, **options)


def ask(workspace, statement):
    """Return all rows of a query."""
    with closing(sqlite3.connect(workspace.root / "jsdelta.db")) as connection:
        return connection.execute(statement).fetchall()


def result(workspace):
    """Return rows and the bytes of files of the third attack and its evaluation."""
    found = {
        "sample": ask(workspace, "SELECT * FROM sample WHERE attack_id = 3"),
        "score": ask(workspace, "SELECT * FROM score WHERE evaluation_id = 3"),
    }
    for table in ("attack", "evaluation"):
        rows = ask(
            workspace,
            f"SELECT uri, position, n_attempts, status, sha256, digest, sub_batch FROM {table}_chunk "
            f"WHERE {table}_id = 3 ORDER BY position",
        )
        found[table] = [row[1:] for row in rows]
        found[f"{table} files"] = [
            (Path(row[0]).name, (workspace.root / row[0]).read_bytes()) for row in rows
        ]
    return found


@pytest.fixture(scope="module")
def one_after_the_other(tiny, tmp_path_factory):
    """The result of an attack that stores each chunk before it attacks the next."""
    workspace = copy_of(tiny, tmp_path_factory.mktemp("in-turn") / "workspace")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "draw_bytes", lambda figure: DRAWING)
        attack(workspace)
    return result(workspace)


# ---- stored beside


def test_storing_beside_the_next_attack_changes_nothing(tiny_copy, one_after_the_other, monkeypatch):
    """Described, compressed and stored in a thread: equal rows and files in equal order."""
    threads, order = set(), []

    def note(name, real, place):
        def noted(*given):
            threads.add(threading.current_thread() is threading.main_thread())
            order.append((name, given[place]))
            real(*given)

        monkeypatch.setattr(work, name, noted)

    note("save_samples", work.save_samples, 2)
    note("save_scores", work.save_scores, 3)
    monkeypatch.setattr(work, "stores_beside", lambda device_type: True)
    attack(tiny_copy)
    assert result(tiny_copy) == one_after_the_other
    assert threads == {False}
    assert order == [(name, i) for i in range(CHUNKS) for name in ("save_samples", "save_scores")]


def test_the_next_chunk_is_attacked_while_one_is_stored(tiny_copy, one_after_the_other, monkeypatch):
    """A chunk whose storing takes as long as the next attack does not hold that up."""
    attacked, real = threading.Semaphore(0), work.save_samples
    find = sources.find_perturbations

    def found(*given):
        made = find(*given)
        attacked.release()
        return made

    def slow(bench, row, position, *given):
        if position < CHUNKS - 1:
            # Taken at this chunk's own attack, and then at the next one's.
            for _ in range(2):
                assert attacked.acquire(timeout=30), "the next attack waits"
            attacked.release()
        real(bench, row, position, *given)

    monkeypatch.setattr(sources, "find_perturbations", found)
    monkeypatch.setattr(work, "save_samples", slow)
    monkeypatch.setattr(work, "stores_beside", lambda device_type: True)
    attack(tiny_copy)
    assert result(tiny_copy) == one_after_the_other


@pytest.mark.parametrize("name", ["save_samples", "save_scores"])
def test_an_error_in_storing_stops_the_attack_with_its_own_message(name, tiny_copy, monkeypatch):
    """At the latest before the next chunk is handed over; what came after the error is not stored."""
    real, made = getattr(work, name), []
    find = sources.find_perturbations

    def failing(*given):
        if given[2 if name == "save_samples" else 3] == 1:
            raise OSError(28, "No space left on device", "chunk-00001.npz")
        real(*given)

    monkeypatch.setattr(work, name, failing)
    monkeypatch.setattr(sources, "find_perturbations", lambda *given: (made.append(0), find(*given))[1])
    monkeypatch.setattr(work, "stores_beside", lambda device_type: True)
    with pytest.raises(StoreError, match=r"chunk-00001\.npz"):
        attack(tiny_copy)
    assert len(made) in (2, 3)
    assert ask(tiny_copy, STARTED) == [(1 if name == "save_samples" else 2,)]
    assert ask(
        tiny_copy, "SELECT count(*) FROM evaluation_chunk WHERE status = 'finished' AND evaluation_id = 3"
    ) == [(1,)]


def test_ctrl_c_stores_what_was_handed_over(tiny_copy, one_after_the_other, monkeypatch):
    """The chunk on its way arrives, the one in work is given back, and the same command ends the same."""
    find, calls = sources.find_perturbations, []

    def interrupted(*given):
        calls.append(0)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return find(*given)

    monkeypatch.setattr(work, "stores_beside", lambda device_type: True)
    with monkeypatch.context() as patch:
        patch.setattr(sources, "find_perturbations", interrupted)
        with pytest.raises(KeyboardInterrupt):
            attack(tiny_copy)
    states = ask(
        tiny_copy, "SELECT status, owner FROM evaluation_chunk WHERE evaluation_id = 3 ORDER BY position"
    )
    assert states == [("finished", None)] * 2 + [("pending", None)]
    attack(tiny_copy)
    assert result(tiny_copy) == one_after_the_other


def test_on_a_cpu_chunks_are_stored_in_turn():
    """There storing takes its time from the attack: a thread would gain nothing."""
    assert work.stores_beside("cuda")
    assert not work.stores_beside("cpu")


def test_background_calls_after_a_failed_one_are_not_made():
    """The scores of a chunk whose samples could not be stored are not stored."""
    done = []

    def hand_over():
        with in_background("test", is_on=True) as background:
            background.call(lambda: done.append("first"))
            background.call(lambda: 1 // 0)
            background.call(lambda: done.append("third"))

    with pytest.raises(ZeroDivisionError):
        hand_over()
    assert done == ["first"]


# ---- memory


def little_memory(patch, module, name, images):
    """Let a function run out of memory where it is given more images."""
    real = getattr(module, name)

    def limited(*given):
        at_once = max(len(part) for part in given if isinstance(part, torch.Tensor))
        if at_once > images:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return real(*given)

    patch.setattr(module, name, limited)


def test_an_attack_goes_on_in_smaller_batches_where_memory_ends(tiny_copy, one_after_the_other, monkeypatch):
    """Same attempts, targets and order; the chunks say in what batches they were attacked and judged."""
    with monkeypatch.context() as patch:
        little_memory(patch, perturb_module(), "_perturb_batch", 2)
        little_memory(patch, inference, "forward", 5)
        attack(tiny_copy)
    found = result(tiny_copy)
    key = slice(0, 4)  # attack, image, requested target, source label
    assert [row[key] for row in found["sample"]] == [row[key] for row in one_after_the_other["sample"]]
    assert [row[-1] for row in found["attack"]] == [2] * CHUNKS
    assert [row[-1] for row in found["evaluation"]] == [4] * CHUNKS
    assert [row[-1] for row in one_after_the_other["attack"] + one_after_the_other["evaluation"]] == [
        None
    ] * 6


def perturb_module():
    """The module, whose name is its function's, too."""
    import sys

    return sys.modules[perturb.__module__]


def test_a_chunk_made_again_is_made_in_its_own_batches(tiny_copy, monkeypatch):
    """Where nothing was stored, the same batches give the same perturbations, also with more memory."""
    made = []
    find = sources.find_perturbations

    def noted(prepared, *given):
        chunk = find(prepared, *given)
        made.append((prepared.sub_batch.size, chunk.delta.tobytes(), chunk.logits.tobytes()))
        return chunk

    monkeypatch.setattr(sources, "find_perturbations", noted)
    with monkeypatch.context() as patch:
        little_memory(patch, perturb_module(), "_perturb_batch", 4)
        attack(tiny_copy, keeps_samples=False)
    first, made[:] = list(made), []
    with open_workbench(tiny_copy) as bench:
        from jsdelta_db.pipeline.train import train_ensemble
        from tests.workspaces import tiny_recipe

        train_ensemble(bench, tiny_recipe(members=2), name="pair")
    attack(tiny_copy, request=RoleRequest(ensemble="pair"), keeps_samples=False)
    assert first == made
    assert {size for size, *_ in made} == {4}


def test_an_image_that_does_not_fit_alone_ends_the_attack_in_one_line(tiny_copy, monkeypatch):
    """What to try is said; what was claimed is given back."""
    little_memory(monkeypatch, perturb_module(), "_perturb_batch", 0)
    with pytest.raises(OutOfMemoryError, match="while attacking, even with one image at a time"):
        attack(tiny_copy)
    assert ask(tiny_copy, STARTED) == [(0,)]
    assert ask(tiny_copy, "SELECT count(*) FROM attack_chunk WHERE owner IS NOT NULL") == [(0,)]


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA error: out of memory")])
def test_memory_that_ends_anywhere_else_is_one_line_too(error, tiny_copy, monkeypatch):
    """Whatever work it was: never a defect."""

    def short(*given):
        raise error

    monkeypatch.setattr(judge, "score", short)
    with pytest.raises(
        OutOfMemoryError, match="out of memory while working in the workspace; end other programs"
    ):
        attack(tiny_copy)


# ---- capture


def test_a_network_that_cannot_be_captured_is_told_of_once(tiny_copy, monkeypatch):
    """One line with its name, however many chunks follow, and the attack goes on uncaptured."""
    graphs = CountingGraphs("waits")
    monkeypatch.setattr(capture, "find_graphs", lambda device: graphs)
    heard = Listening()
    configs = tiny_attacks(LEVEL, steps=FEWEST_CAPTURED, images=CHUNKS * CHUNK_SIZE)
    with open_workbench(tiny_copy, heard, chunk_size=CHUNK_SIZE) as bench:
        assert attack_and_score(bench, configs).worked_on == 1
    (line,) = [line for line in heard.lines if "captured" in line]
    assert line.startswith("seed 0: a step cannot be captured as a CUDA graph (called a synchronizing")
    assert (graphs.blocks, graphs.captures) == (1, 0)
