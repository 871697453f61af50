"""Processes on one device: what one and four of them attack in the same time, each with its host's part."""

import time
import zlib
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from threading import Barrier

import torch

from gpu_checks.findings import Case, Finding
from gpu_checks.starting import context_for, resolve
from gpu_checks.subjects import attack_on, chunk_of, digits, dtypes, network, networks, prepared
from jsdelta_db.compute.attacks import perturb

PROCESSES = 4
PROCESSES_ON_A_CPU = 2
SECONDS, SECONDS_ON_A_CPU = 4.0, 0.5
STEPS, STEPS_ON_A_CPU = 50, 2
PATIENCE = 90.0  # seconds to wait for the others' start
_barriers: list[Barrier] = []  # one in a process that has to wait for others


def cases(device: torch.device) -> list[Case]:
    """Return the one case: networks bound by launches and by the card, in the same processes."""
    return [Case("attempts/s", partial(_measure, device))]


def _measure(device: torch.device) -> list[Finding]:
    small = device.type == "cpu"
    archs, count = networks(device)[: 1 if small else 2], PROCESSES_ON_A_CPU if small else PROCESSES
    alone, together = work(archs, str(device)), _together_rates(archs, device, count)
    found = []
    for arch in archs:
        gain = together[arch] / alone[arch]
        found += [
            Finding(f"{arch}, attempts/s of one process", round(alone[arch], 1)),
            Finding(f"{arch}, attempts/s of {count} processes", round(together[arch], 1)),
            Finding(f"{arch}, {count} processes over one", round(gain, 3)),
        ]
    return found


def _together_rates(archs: tuple[str, ...], device: torch.device, count: int) -> dict[str, float]:
    """Return the attempts a second that so many processes make together, by network."""
    context = context_for(device)
    with ProcessPoolExecutor(count, context, _remember, (context.Barrier(count),)) as pool:
        # One task a worker: each waits at the barrier until all have one.
        tasks = [pool.submit(work, archs, str(device)) for _ in range(count)]
        rates = [task.result() for task in tasks]
    return {arch: sum(rate[arch] for rate in rates) for arch in archs}


def _remember(barrier: Barrier) -> None:
    _barriers.append(barrier)


def work(archs: tuple[str, ...], device_name: str) -> dict[str, float]:
    """Attack chunk after chunk for a while, network by network, and return the attempts a second."""
    device = resolve(device_name)
    return {arch: _rate(arch, device) for arch in archs}


def _rate(arch: str, device: torch.device) -> float:
    small = device.type == "cpu"
    dtype = torch.float32 if small else dtypes(device)[-1]
    size, steps = (8, STEPS_ON_A_CPU) if small else (256, STEPS)
    chunk = chunk_of(network(arch, device), digits(device.type), size, device)
    attack = attack_on(prepared(arch, device, dtype), size, steps=steps, dtype=dtype)

    def once() -> None:
        samples = perturb(attack, chunk.attempts, chunk.x, chunk.clean_logits)
        zlib.compress(samples.delta.tobytes(), 1)  # as a chunk file is

    once()
    for barrier in _barriers:
        barrier.wait(PATIENCE)
    begun, done = time.perf_counter(), 0
    while time.perf_counter() - begun < (SECONDS_ON_A_CPU if small else SECONDS):
        once()
        done += size
    return done / (time.perf_counter() - begun)
