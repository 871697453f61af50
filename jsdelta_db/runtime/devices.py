"""Devices and dtypes: ``auto`` is resolved once, by what the machine is, and recorded.

Apple's MPS is never chosen: no result of this package was ever held against one computed there.
"""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import torch

from jsdelta_db.errors import UsageError, one_of
from jsdelta_db.runtime.cards import describe_card, find_fault, list_cards
from jsdelta_db.runtime.precision import keep_float32

FIRST_CUDA = (8, 0)  # compute capability with bfloat16 in its tensor cores
# Architectures whose steps wait for kernels to be launched, not to be computed: autocast's conversions, a
# quarter more of them, cost on a card what bfloat16 cannot give back. By counts of kernels.
LAUNCH_BOUND = frozenset({"cnn-small", "resnet8"})
CPU_UNITS = frozenset({"amx_bf16", "avx512_bf16"})
CPU_INFO = Path("/proc/cpuinfo")


def resolve_device(
    requested: str, worker: int = 0, report: Callable[[str], None] = lambda line: None
) -> torch.device:
    """Return the device for ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; a card becomes torch's current one.

    ``auto`` and ``cuda`` take the first card that computes, worker by worker another one; where none does,
    ``auto`` reports why and takes the processor.

    Args:
        worker: number of this process among those that work side by side.

    Raises:
        UsageError: a card was asked for, and there is none or it cannot be used.
    """
    keep_float32()
    if requested == "cpu":
        return torch.device("cpu")
    cards = list_cards()
    if not cards:
        if requested == "auto":
            return torch.device("cpu")
        raise UsageError(f"--device {requested!r} is not available here: must be cpu or auto")
    faults = []
    for index in _choose_cards(requested, cards, worker):
        fault = find_fault(index)
        if fault is None:
            torch.cuda.set_device(index)
            return torch.device("cuda", index)
        faults.append(f"{describe_card(index)}: {fault}")
    if requested == "auto":
        report(f"no card can be used ({'; '.join(faults)}): the processor computes")
        return torch.device("cpu")
    raise UsageError(f"--device {requested!r} cannot be used ({'; '.join(faults)}): must be cpu or auto")


def _choose_cards(requested: str, cards: range, worker: int) -> list[int]:
    """Return the cards that may be taken, the one to try first at the front."""
    _, colon, number = requested.partition(":")
    if not colon:
        first = worker % len(cards)
        return [*cards[first:], *cards[:first]]
    if int(number) not in cards:
        there = one_of(["auto", "cpu", *(f"cuda:{index}" for index in cards)])
        raise UsageError(f"--device {requested!r} is not there: must be {there}")
    return [int(number)]


def resolve_dtype(requested: str, device: torch.device, trains: str = "") -> torch.dtype:
    """Return the dtype of the network's inner arithmetic for ``auto``, ``float32`` or ``bfloat16``.

    Args:
        trains: the architecture that is to be trained, under autocast; "" for an attack's steps, whose
            copy is converted once and whose kernels a card launches as one.

    Raises:
        UsageError: bfloat16 was asked for and the machine lacks it.
    """
    if requested == "bfloat16" and not has_bfloat16(device.type):
        raise UsageError(
            f"--dtype 'bfloat16' is not available on this {device.type}: must be float32 or auto"
        )
    if requested == "auto":
        waits = device.type == "cuda" and trains in LAUNCH_BOUND
        return torch.bfloat16 if bfloat16_pays(device.type) and not waits else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[requested]


def dtype_name(dtype: torch.dtype) -> str:
    """Return a dtype as options and rows name it."""
    return str(dtype).removeprefix("torch.")


def has_bfloat16(device_type: str) -> bool:
    """Return whether the device computes in bfloat16 natively, not by way of float32."""
    if device_type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except AttributeError:  # torch was built without oneDNN, as for Apple's processors
        return False


def bfloat16_pays(device_type: str) -> bool:
    """Return whether the device has units for bfloat16, which make a step two to four times as fast.

    Decided by what the device is, of cards the current one, and never by a stopwatch: a neighbour's load
    would give another answer.
    """
    if not has_bfloat16(device_type):
        return False
    if device_type == "cuda":
        return torch.cuda.get_device_capability() >= FIRST_CUDA
    return not CPU_UNITS.isdisjoint(cpu_flags())


@lru_cache
def cpu_flags() -> frozenset[str]:
    """Return what Linux says the processor can do; nothing on other systems."""
    try:
        lines = CPU_INFO.read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(word for line in lines if line.startswith("flags") for word in line.split())
