"""Processes on a device: how they start, and what each of them resolves first."""

import multiprocessing
from multiprocessing.context import BaseContext

import torch

from jsdelta_db.runtime.devices import resolve_device


def context_for(device: torch.device | str) -> BaseContext:
    """Return how a process on the device starts: anew for a card, since no fork survives what CUDA keeps.

    On a CPU it is forked, for the heavy modules cost more than most checks.
    """
    return multiprocessing.get_context("fork" if str(device) == "cpu" else "spawn")


def resolve(name: str) -> torch.device:
    """Return a device with the program's own settings; a CPU computes on one thread here."""
    if name == "cpu":
        torch.set_num_threads(1)
    return resolve_device(name)
