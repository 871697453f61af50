"""Devices and dtypes: ``auto`` is resolved once, by what the machine is, and recorded."""

from functools import lru_cache
from pathlib import Path

import torch

from jsdelta_db.errors import UsageError

FIRST_CUDA = (8, 0)  # compute capability with bfloat16 in its tensor cores
CPU_UNITS = frozenset({"amx_bf16", "avx512_bf16"})
CPU_INFO = Path("/proc/cpuinfo")


def resolve_device(requested: str) -> torch.device:
    """Return the available device for ``auto``, ``cpu`` or ``cuda``.

    Raises:
        UsageError: cuda was asked for and there is none.
    """
    has_cuda = torch.cuda.is_available()
    if requested == "cuda" and not has_cuda:
        raise UsageError("--device 'cuda' is not available here: must be cpu or auto")
    if not has_cuda or requested == "cpu":
        return torch.device("cpu")
    # Success is checked and scoring runs in float32, the same way each time: no TF32, no racing kernels.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    return torch.device("cuda")


def resolve_dtype(requested: str, device: torch.device) -> torch.dtype:
    """Return the dtype of the network's inner arithmetic for ``auto``, ``float32`` or ``bfloat16``.

    Raises:
        UsageError: bfloat16 was asked for and the machine lacks it.
    """
    if requested == "bfloat16" and not has_bfloat16(device.type):
        raise UsageError(
            f"--dtype 'bfloat16' is not available on this {device.type}: must be float32 or auto"
        )
    if requested == "auto":
        return torch.bfloat16 if bfloat16_pays(device.type) else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[requested]


def dtype_name(dtype: torch.dtype) -> str:
    """Return a dtype as options and rows name it."""
    return str(dtype).removeprefix("torch.")


def has_bfloat16(device_type: str) -> bool:
    """Return whether the device computes in bfloat16 natively, not by way of float32."""
    if device_type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def bfloat16_pays(device_type: str) -> bool:
    """Return whether the device has units for bfloat16, which make a step two to four times as fast.

    Decided by what the device is and never by a stopwatch: a neighbour's load would give another answer.
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
