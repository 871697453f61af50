"""Clocks that wait for the card: what was only enqueued has not happened yet."""

import statistics
import time
from collections.abc import Callable

import torch

ROUNDS = 5
FEWEST_ROUNDS = 2


def now(device: torch.device) -> float:
    """Return seconds: all on a card; on a CPU this process's own, which neighbours do not lengthen."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def seconds_of(run: Callable[[], object], device: torch.device) -> float:
    """Return how long a call takes."""
    begun = now(device)
    run()
    return now(device) - begun


def in_turns(
    ways: dict[str, Callable[[], object]], device: torch.device, most_seconds: float
) -> dict[str, list[float]]:
    """Time several ways in turns after a warm-up: up to five rounds, two at the least.

    Args:
        most_seconds: no round begins after so many.
    """
    for run in ways.values():
        run()
    seen: dict[str, list[float]] = {name: [] for name in ways}
    begun = time.perf_counter()
    for turn in range(ROUNDS):
        if turn >= FEWEST_ROUNDS and time.perf_counter() - begun > most_seconds:
            break
        for name, run in ways.items():
            seen[name].append(seconds_of(run, device))
    return seen


def median_ratio(above: list[float], below: list[float]) -> float:
    """Return the median of the ratios within each round."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))
