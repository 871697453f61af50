"""Light processes that write a store as an attack does: through the same functions, without torch.

What they write follows from an attempt's number alone, so that it is known who should have written what.
"""

import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import select

from jsdelta_db.records import Attempts, Baseline, Control, Samples, Scores
from jsdelta_db.runtime.files import write_atomically
from jsdelta_db.store import runs
from jsdelta_db.store.attempts import write_samples, write_scores
from jsdelta_db.store.baselines import write_evaluation_baselines
from jsdelta_db.store.controls import write_controls
from jsdelta_db.store.creating import open_for_writing
from jsdelta_db.store.heartbeat import heartbeat
from jsdelta_db.store.schema import Attack, AttackChunk, Evaluation, EvaluationChunk
from jsdelta_db.store.session import Store

CLASSES = 4
EVALUATORS = 2
POLL_SECONDS = 0.02
PATIENCE = 120  # seconds; a hang would otherwise never end
# Where a process can be told to die, in the order in which it comes there.
POINTS = (
    "a chunk is claimed", "half a sample file is written", "a sample file is written",
    "sample rows are written", "sample rows are committed", "half a score file is written",
    "a score file is written", "score rows are written", "score rows are committed",
    "an evaluation is marked finished", "an evaluation is finished",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Told:
    """What a process of these is told.

    Attributes:
        evaluations: uids, in the order in which they are worked off.
        die: the point at which it kills itself; None for never.
        may_wait: whether others may be at work, so that a chunk may be in their hands.
    """

    url: str
    root: Path
    evaluations: Sequence[str]
    die: str | None = None
    may_wait: bool = True


def work(told: Told) -> list[tuple[str, int, str]]:
    """Work off evaluations as ``work.finish`` does; return each chunk made, by evaluation and kind."""
    store, made = open_for_writing(told.url), []
    with heartbeat(store):
        for uid in told.evaluations:
            made += _work_off(store, told, uid)
    store.close()
    return made


def _work_off(store: Store, told: Told, uid: str) -> list[tuple[str, int, str]]:
    made: list[tuple[str, int, str]] = []
    with store.transaction() as session:
        evaluation = session.scalars(select(Evaluation).where(Evaluation.uid == uid)).one()
        attack = session.get_one(Attack, evaluation.attack_id)
    with store.transaction() as session:
        write_evaluation_baselines(session, evaluation_id=evaluation.id, baselines=BASELINES)
        write_controls(session, evaluation_id=evaluation.id, controls=CONTROLS)

    def reach(point: str) -> None:
        if point == told.die:
            os.kill(os.getpid(), signal.SIGKILL)

    while True:
        with store.transaction() as session:
            claimed = runs.claim_chunk(session, attack, evaluation)
        if claimed is None:
            break
        if isinstance(claimed, str):
            assert told.may_wait, claimed
            time.sleep(POLL_SECONDS)
            continue
        position = claimed.position
        reach("a chunk is claimed")
        samples = make_samples(attack, position)
        if claimed.to_attack:
            path = told.root / "mlruns" / attack.uid / "artifacts" / "samples" / f"chunk-{position:05d}.npz"
            sha256 = _write_file(
                path, samples.logits.tobytes(), lambda: reach("half a sample file is written")
            )
            reach("a sample file is written")
            with store.transaction() as session:
                digest = write_samples(session, attack_id=attack.id, samples=samples)
                chunk = session.get_one(AttackChunk, (attack.id, position))
                runs.finish_chunk(
                    chunk, uri=path.relative_to(told.root).as_posix(), sha256=sha256, digest=digest
                )
                session.flush()
                reach("sample rows are written")
            reach("sample rows are committed")
            made.append((uid, position, "samples"))
        scores = make_scores(samples)
        path = told.root / "mlruns" / uid / "artifacts" / "scores" / f"chunk-{position:05d}.npz"
        sha256 = _write_file(path, scores.logits.tobytes(), lambda: reach("half a score file is written"))
        reach("a score file is written")
        with store.transaction() as session:
            digest = write_scores(session, evaluation_id=evaluation.id, scores=scores)
            judged = session.get_one(EvaluationChunk, (evaluation.id, position))
            runs.finish_chunk(
                judged, uri=path.relative_to(told.root).as_posix(), sha256=sha256, digest=digest
            )
            session.flush()
            reach("score rows are written")
        reach("score rows are committed")
        made.append((uid, position, "scores"))
    with store.transaction() as session:
        runs.finish_evaluation(session, attack, evaluation)
        session.flush()
        reach("an evaluation is marked finished")
    reach("an evaluation is finished")
    return made


def _write_file(path: Path, content: bytes, before_sync: Callable[[], None]) -> str:
    """Write a file and do something while it is there, but neither flushed nor in its place."""
    sync = os.fsync

    def reach_and_sync(descriptor: int) -> None:
        before_sync()
        sync(descriptor)

    os.fsync = reach_and_sync  # type: ignore[assignment] # back again below
    try:
        return write_atomically(path, content)
    finally:
        os.fsync = sync


BASELINES = {(0, 1): Baseline(0.5, 0.4, 0.01, 100, 10), (0, 2): Baseline(0.6, 0.5, 0.01, 100, 10)}
CONTROLS = [Control("agreement_label", 0.97)]


def make_samples(attack: Attack, position: int) -> Samples:
    """Return a chunk of samples; nothing but their numbers decides what is in them."""
    numbers = np.arange(
        position * attack.chunk_size, min((position + 1) * attack.chunk_size, attack.n_attempts)
    )
    n, drawn = len(numbers), np.random.default_rng([attack.id, position])
    attempts = Attempts(numbers, numbers % CLASSES, (numbers + 1) % CLASSES)
    return Samples(
        attempts=attempts, target_label=attempts.requested_target, success=drawn.random(n) < 0.7,
        confidence=drawn.random(n), linf=np.full(n, attack.eps), l2=drawn.random(n),
        x=np.zeros((n, 1, 1, 1), np.float32), delta=np.zeros((n, 1, 1, 1), np.float16),
        clean_logits=np.zeros((n, CLASSES), np.float32),
        logits=drawn.normal(size=(n, CLASSES)).astype(np.float32),
    )  # fmt: skip


def make_scores(samples: Samples) -> Scores:
    """Return what evaluators say of a chunk of samples."""
    n, drawn = len(samples.attempts), np.random.default_rng(int(samples.attempts.sample_index[0]))
    return Scores(
        attempts=samples.attempts, js=drawn.random(n), js_of_mean=drawn.random(n),
        js_delta=np.where(drawn.random(n) < 0.1, np.nan, drawn.random(n)), js_attacked=drawn.random(n),
        n_right=np.full(n, EVALUATORS), n_at_target=np.zeros(n, np.int64),
        n_at_target_adv=drawn.integers(0, EVALUATORS, n),
        member_js=drawn.random((n, EVALUATORS)).astype(np.float32), n_right_adv=np.ones(n, np.int64),
        js_of_mean_without=drawn.random((n, EVALUATORS)).astype(np.float32),
        logits=drawn.normal(size=(EVALUATORS, n, CLASSES)).astype(np.float32),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended: its exit code, what it answered, and the traceback if it failed."""

    code: int
    result: Any
    error: str | None
    had_torch: bool


def work_in_turn(told: Sequence[Told]) -> list[int]:
    """Give each a process of its own, one after the other, forked off this light one; return how they ended.

    A process is forked when the one before has ended, and is not collected before all have: what died is a
    zombie then, as it is below a shell that has not looked yet.
    """
    children = []
    for each in told:
        child = os.fork()
        if child == 0:
            work(each)
            os._exit(0)
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def run_together(do: Callable[[Any], Any], given: Sequence[Any]) -> list[Ended]:
    """Do something with each in a process of its own; they begin at the same moment, and all are waited for.

    They are forked off one new process, so that the modules load once, and torch not at all.
    """
    context = multiprocessing.get_context("spawn")
    listening, answering = context.Pipe(duplex=False)
    parent = context.Process(target=_fork_all, args=(do, given, answering))
    parent.start()
    answering.close()
    with listening:
        ended: list[Ended] = listening.recv()
    parent.join()
    return ended


def _fork_all(do: Callable[[Any], Any], given: Sequence[Any], answering: Any) -> None:
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(len(given)), [context.Pipe(duplex=False) for _ in given]
    processes = [
        context.Process(target=_begin, args=(do, each, barrier, answer))
        for each, (_, answer) in zip(given, answers, strict=True)
    ]
    for process in processes:
        process.start()
    for _, answer in answers:
        answer.close()  # or that of a process that was killed would never end
    ended = [_wait_for(process, answer) for process, (answer, _) in zip(processes, answers, strict=True)]
    answering.send(ended)


def _wait_for(process: Any, answer: Any) -> Ended:
    try:
        result, error, had_torch = answer.recv() if answer.poll(PATIENCE) else (None, "a hang", False)
    except EOFError:  # killed
        result, error, had_torch = None, None, False
    process.join(PATIENCE)
    process.kill()
    process.join()
    return Ended(process.exitcode, result, error, had_torch)


def _begin(do: Callable[[Any], Any], given: Any, barrier: Any, answer: Any) -> None:
    barrier.wait(PATIENCE)
    result, error = None, None
    try:
        result = do(given)
    except Exception:  # noqa: BLE001 the test shows whatever it was
        error = traceback.format_exc()
    answer.send((result, error, "torch" in sys.modules))
