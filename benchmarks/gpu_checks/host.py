"""Host seconds of 1,000 attempts: starts, description and compression, beside the card's part."""

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from clock import seconds_of
from torch import Tensor

from gpu_checks.findings import Case, Finding
from gpu_checks.subjects import attack_on, chunk_of, digits, dtypes, network, networks, prepared
from jsdelta_db.compute.attacks import Perturbed, describe_samples, find_perturbations
from jsdelta_db.compute.attacks.perturb import start_noise
from jsdelta_db.config.attack import AttackConfig
from jsdelta_db.records import Attempts
from jsdelta_db.runtime.background import in_background
from jsdelta_db.samples.chunk_files import write_chunk_file

SHAPE = (3, 32, 32)
ROUNDS = 3
CHUNKS = 4
EPS = 8 / 255
# Measured on a CPU core of a desktop before there was a card.
EXPECTED = {"starts": "0.055", "description": "0.113", "storing": "0.275"}


def cases(device: torch.device) -> list[Case]:
    """Return the cases: the parts by themselves, and whole chunks with and without a thread that stores."""
    return [
        Case("parts", partial(_parts, 1000 if device.type == "cuda" else 250)),
        Case("overlap", partial(_overlap, device)),
    ]


def _parts(n: int) -> list[Finding]:
    """Time what the host does for each attempt on CIFAR's shape; CPU seconds of this thread."""
    rng = np.random.default_rng(0)
    attempts = Attempts(np.arange(n), np.zeros(n, np.int64), np.ones(n, np.int64))
    x = torch.from_numpy(rng.random((n, *SHAPE), dtype=np.float32))
    logits = rng.standard_normal((n, 10)).astype(np.float32)
    config = AttackConfig(eps=EPS)
    delta = _as_found(rng, n)
    with tempfile.TemporaryDirectory() as folder:
        ways: dict[str, Callable[[], object]] = {
            "starts": lambda: start_noise(attempts, SHAPE, config),
            "description": lambda: describe_samples(attempts, x, delta, logits, logits),
            "storing": lambda: write_chunk_file(
                Path(folder) / "chunk.npz", {"delta": delta.numpy()}, compressed=True
            ),
        }
        return [
            Finding(f"{name}, CPU seconds of 1,000 attempts", round(_cpu_seconds(run) * 1000 / n, 4),
                    wanted=f"{EXPECTED[name]} (CPU)")
            for name, run in ways.items()
        ]  # fmt: skip


def _as_found(rng: np.random.Generator, n: int) -> Tensor:
    """Return perturbations like an attack's: most pixels at the ball's edge, some between."""
    edge = np.float32(EPS) * rng.choice([-1.0, 1.0], (n, *SHAPE))
    between = rng.uniform(-EPS, EPS, (n, *SHAPE))
    return torch.from_numpy(np.where(rng.random((n, *SHAPE)) < 0.8, edge, between).astype(np.float16))


def _cpu_seconds(run: Callable[[], object]) -> float:
    seconds = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        run()
        seconds.append(time.process_time() - begun)
    return statistics.median(seconds)


def _overlap(device: torch.device) -> list[Finding]:
    """Attack and store some chunks, one after the other and with the storing in a thread beside the next."""
    on_card = device.type == "cuda"
    arch = "resnet18" if on_card else networks(device)[0]
    dtype = dtypes(device)[-1] if on_card else torch.float32
    size, steps = (1024, 100) if on_card else (32, 2)
    model, attack = (
        network(arch, device),
        attack_on(prepared(arch, device, dtype), size, steps=steps, dtype=dtype),
    )
    chunks = [chunk_of(model, digits(device.type), size, device, first=k * size) for k in range(CHUNKS)]

    def find(position: int) -> Perturbed:
        chunk = chunks[position]
        return find_perturbations(attack, chunk.attempts, chunk.x, chunk.clean_logits)

    with tempfile.TemporaryDirectory() as text:

        def store(position: int, found: Perturbed) -> None:
            samples = found.describe()
            arrays = {"delta": samples.delta, "logits": samples.logits}
            write_chunk_file(Path(text) / f"chunk-{position}.npz", arrays, compressed=True)

        def attack_all(*, beside: bool) -> None:
            with in_background("storing", is_on=beside) as background:
                for position in range(CHUNKS):
                    background.wait()  # one chunk at a time is on its way, as in the program
                    background.call(partial(store, position, find(position)))

        find(0)
        ways: dict[str, Callable[[], object]] = {
            "attack alone": lambda: [find(position) for position in range(CHUNKS)],
            "stored in order": lambda: attack_all(beside=False),
            "stored beside the next": lambda: attack_all(beside=True),
        }
        return [
            Finding(f"{arch}, {name}, seconds of 1,000 attempts",
                    round(seconds_of(run, device) * 1000 / (CHUNKS * size), 4))
            for name, run in ways.items()
        ]  # fmt: skip
