"""Synchronizations by line of ours: none may come with a replayed step, at most one with a step of training.

On a card torch itself warns of them; on a CPU the operations are counted that would wait there.
"""

import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import jsdelta_db
from gpu_checks.findings import Case, Finding
from gpu_checks.subjects import (
    attack_on,
    chunk_of,
    digits,
    digits_recipe,
    first_images,
    network,
    networks,
    prepared,
    small_digits,
)
from jsdelta_db.compute.attacks import perturb
from jsdelta_db.compute.models import build_model
from jsdelta_db.compute.training import Training, train

OURS = str(Path(jsdelta_db.__file__).parent)
FEW, MANY = 30, 60  # steps of an attack
FIRST_HIT_EVERY = 10  # steps, at the least
BATCHES = 4  # of a short epoch; a long one has twice as many
MOST_PER_STEP = 1.0  # of training
# What makes the host wait for a card: numbers read, and shapes that depend on numbers.
WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero"}


def cases(device: torch.device) -> list[Case]:
    """Return the cases: attack steps with and without a criterion to stop, and the training methods."""
    arch = networks(device)[0]
    return [
        Case("attack steps", partial(_attack, arch, device, "never")),
        Case("attack steps, first-hit", partial(_attack, arch, device, "first-hit")),
        *(Case(f"{method} training", partial(_training, method, device)) for method in
          ("standard", "sam", "adversarial")),
    ]  # fmt: skip


def _attack(arch: str, device: torch.device, stop: str) -> list[Finding]:
    """Count what comes with more steps: start, capture and the end cost the same for few and for many."""
    model = prepared(arch, device, torch.float32)
    chunk = chunk_of(network(arch, device), digits(device.type), 16, device)

    def run(steps: int) -> None:
        attack = attack_on(model, len(chunk.attempts), steps=steps, dtype=torch.float32)
        # A radius at which nothing arrives, so that first-hit has to go on asking.
        config = replace(attack.config, stop=stop, eps=1e-4 if stop == "first-hit" else attack.config.eps)
        perturb(replace(attack, config=config), chunk.attempts, chunk.x, chunk.clean_logits)

    lines = _difference(partial(run, FEW), partial(run, MANY), device)
    each = sum(lines.values()) / (MANY - FEW)
    most = 0.0 if stop == "never" else 1.0 / FIRST_HIT_EVERY
    if device.type != "cuda" and stop != "never":
        most = 1.0  # eager steps ask each time
    return [Finding(f"attack step, {stop}", {"each": round(each, 3), **lines}, each <= most, f"<= {most:g}")]


def _training(method: str, device: torch.device) -> list[Finding]:
    """Count what comes with more batches of one epoch."""

    def run(batches: int) -> None:
        recipe = digits_recipe(method, epochs=1)
        dataset = first_images(small_digits(), batches * recipe.batch_size)
        config = replace(recipe, crop_padding=1, flip=True)
        train(build_model(config.arch, dataset), Training(dataset, config, 0, device, torch.float32))

    lines = _difference(partial(run, BATCHES), partial(run, 2 * BATCHES), device)
    each = sum(lines.values()) / BATCHES
    value = {"each": round(each, 3), **lines}
    return [Finding(f"{method} training step", value, each <= MOST_PER_STEP, f"<= {MOST_PER_STEP:g}")]


def _difference(few: Callable[[], None], many: Callable[[], None], device: torch.device) -> dict[str, int]:
    """Return by line how many more synchronizations a longer run has; none if not."""
    few()  # warms up
    counts = []
    for run in (few, many):
        with counting(device) as lines:
            run()
        counts.append(lines)
    return dict(counts[1] - counts[0])


@contextmanager
def counting(device: torch.device) -> Iterator["Counter[str]"]:
    """Count by line of ours what synchronizes within the block."""
    lines: Counter[str] = Counter()
    if device.type != "cuda":
        with _Waiting(lines):
            yield lines
        return
    with warnings.catch_warnings():  # gives the way to show warnings back, too
        warnings.simplefilter("always")
        shown = warnings.showwarning

        def note(message: Warning | str, *rest: Any, **more: Any) -> None:  # noqa: ANN401 passed on
            if "synchronizing CUDA operation" in str(message):
                lines[_our_line()] += 1
            else:
                shown(message, *rest, **more)

        warnings.showwarning = note  # type: ignore[assignment]
        before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield lines
        finally:
            torch.cuda.set_sync_debug_mode(before)


class _Waiting(TorchDispatchMode):
    """Counts the operations that would make the host wait for a card."""

    def __init__(self, lines: "Counter[str]") -> None:
        super().__init__()
        self.lines = lines

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401 # fmt: skip
        if func.overloadpacket.__name__ in WAITING:
            self.lines[_our_line()] += 1
        return func(*args, **(kwargs or {}))


def _our_line() -> str:
    """Return the innermost line of the program on the stack, as ``compute/training/loop.py:149``."""
    stack = traceback.extract_stack()
    frame = next((each for each in reversed(stack) if each.filename.startswith(OURS)), stack[-2])
    return f"{frame.filename.removeprefix(OURS).lstrip('/')}:{frame.lineno}"
