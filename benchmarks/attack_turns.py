"""The engines of ``attack.py``, each in a process of its own, one after the other on each batch."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NoReturn

from peers import peers_python

PEERS = ("torchattacks", "foolbox", "art")
WARM_UP_STEPS = 2
WORKER = Path(__file__).resolve().with_name("attack_worker.py")
BEGUN = time.perf_counter()

Rounds = dict[str, list[dict[str, float]]]  # engine → what it answered at each turn


def say(text: str) -> None:
    """Tell the person at the terminal how far it is."""
    print(f"[{time.perf_counter() - BEGUN:4.0f} s] {text}", file=sys.stderr, flush=True)


def fail(text: str) -> NoReturn:
    """End with one line."""
    sys.exit(f"benchmarks/attack.py: {text}")


def with_threads(count: int) -> dict[str, str]:
    """Return the environment of a process that computes on so many threads."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {**os.environ, **dict.fromkeys(names, str(count))}


class Worker:
    """One engine's process."""

    def __init__(self, python: Path | str, job: dict[str, Any]) -> None:
        self.engine = str(job["engine"])
        self.process = subprocess.Popen(
            [str(python), str(WORKER), json.dumps(job)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, env=with_threads(job["threads"]),
        )  # fmt: skip

    def ask(self, turn: int, steps: int) -> dict[str, float]:
        """Let it work once and wait for its answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps({"turn": turn, "steps": steps}), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            fail(f"the engine {self.engine} stopped; its own words are above")
        answer: dict[str, float] = json.loads(line)
        return answer


@contextmanager
def working(python: Path | str, job: dict[str, Any]) -> Iterator[Worker]:
    """Start an engine; it ends with the block."""
    worker = Worker(python, job)
    try:
        yield worker
    finally:
        worker.process.kill()
        worker.process.wait()


def take_turns(job: dict[str, Any], dtypes: Sequence[str], rounds: int, steps: int) -> Rounds:
    """Let every engine attack each batch, one engine after the other."""
    python = peers_python()
    engines = [*(f"matmul-{dtype}" for dtype in dtypes), *dtypes, *PEERS]
    with ExitStack() as stack:
        workers = [
            stack.enter_context(
                working(python if engine in PEERS else sys.executable, {**job, "engine": engine})
            )
            for engine in engines
        ]
        for worker in workers:  # on a card all steps: the first capture takes longer than later ones
            worker.ask(turn=0, steps=WARM_UP_STEPS if job["device"] == "cpu" else steps)
        answers: Rounds = {engine: [] for engine in engines}
        for turn in range(rounds):
            say(f"{job['model']}: batch {turn + 1} of {rounds}")
            for worker in workers:
                answers[worker.engine].append(worker.ask(turn, steps))
    return answers
