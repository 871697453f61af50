"""Processes on one device: what one and four of them attack in the same time, each with its host's part."""

import io
import time
import zlib
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from threading import Barrier
from typing import Any

import torch

from gpu_checks.findings import Case, Finding
from gpu_checks.starting import context_for, resolve
from gpu_checks.subjects import attack_on, chunk_of, digits, dtypes, network, networks, prepared
from jsdelta_db.compute.attacks import perturb

PROCESSES = 4
PROCESSES_ON_A_CPU = 2
SECONDS, SECONDS_ON_A_CPU = 5.0, 0.5
STEPS, STEPS_ON_A_CPU = 50, 2
PATIENCE = 90.0  # seconds to wait for the others' start
_together: list[Any] = []  # the barrier, in each worker


def cases(device: torch.device) -> list[Case]:
    """Return a case a network: one bound by launches, one by the card."""
    archs = networks(device)[:2] if device.type == "cuda" else networks(device)[:1]
    return [Case(arch, partial(_measure, arch, device)) for arch in archs]


def _measure(arch: str, device: torch.device) -> list[Finding]:
    count = PROCESSES if device.type == "cuda" else PROCESSES_ON_A_CPU
    rates = {n: _rate(arch, device, n) for n in (1, count)}
    gain = rates[count] / rates[1]
    return [
        *(Finding(f"{arch}, attempts/s of {n} processes", round(rate, 1)) for n, rate in rates.items()),
        Finding(f"{arch}, {count} processes over one", round(gain, 3)),
    ]


def _rate(arch: str, device: torch.device, count: int) -> float:
    """Return the attempts a second that so many processes make together."""
    context = context_for(device)
    barrier = context.Barrier(count)
    with ProcessPoolExecutor(count, context, _remember, (barrier,)) as pool:
        # One task a worker: each waits at the barrier until all have one.
        tasks = [pool.submit(work, arch, str(device)) for _ in range(count)]
        return sum(task.result() for task in tasks)


def _remember(barrier: Barrier) -> None:
    _together.append(barrier)


def work(arch: str, device_name: str) -> float:
    """Attack chunk after chunk for a while, and return the attempts a second."""
    device = resolve(device_name)
    small = device.type == "cpu"
    dtype = dtypes(device)[-1] if not small else torch.float32
    size, steps = (8, STEPS_ON_A_CPU) if small else (256, STEPS)
    chunk = chunk_of(network(arch, device), digits(device.type), size, device)
    attack = attack_on(prepared(arch, device, dtype), size, steps=steps, dtype=dtype)

    def once() -> None:
        samples = perturb(attack, chunk.attempts, chunk.x, chunk.clean_logits)
        io.BytesIO().write(zlib.compress(samples.delta.tobytes(), 1))  # as a chunk file is

    once()
    _together[-1].wait(PATIENCE)
    begun, done = time.perf_counter(), 0
    while time.perf_counter() - begun < (SECONDS_ON_A_CPU if small else SECONDS):
        once()
        done += size
    return done / (time.perf_counter() - begun)
