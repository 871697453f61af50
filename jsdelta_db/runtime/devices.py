"""Devices and dtypes: ``auto`` is resolved once, by a short probe, and recorded."""

import time
from functools import lru_cache

import torch
from torch.nn import functional as F

from jsdelta_db.errors import UsageError


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


def has_bfloat16(device_type: str) -> bool:
    """Return whether the device computes in bfloat16 natively, not by way of float32."""
    if device_type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@lru_cache
def bfloat16_pays(device_type: str) -> bool:
    """Return whether bfloat16 convolutions are at least 1.2 times as fast as float32 ones (50 ms probe)."""
    if device_type == "cuda" or not has_bfloat16(device_type):
        return has_bfloat16(device_type)
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.ones(32, 64, 16, 16, dtype=dtype).to(memory_format=torch.channels_last)
        weight = torch.ones(64, 64, 3, 3, dtype=dtype).to(memory_format=torch.channels_last)
        runs = []
        for _ in range(4):  # the first run prepares the kernel
            start = time.perf_counter()
            with torch.no_grad():
                F.conv2d(x, weight, padding=1)
            runs.append(time.perf_counter() - start)
        seconds[dtype] = min(runs[1:])
    return seconds[torch.float32] > 1.2 * seconds[torch.bfloat16]
