"""The highest rate of square matrix products: what a device can compute at all."""

import statistics

import torch
from clock import now

SIZES = {"cpu": (256, 512, 1024, 2048), "cuda": (2048, 4096, 8192)}
RUNS = 3
FLOP_ON_A_CARD = 4e12  # of a run: milliseconds in bfloat16, a tenth of a second in float32


def matrix_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Return the peak in FLOP/s."""
    return max(_rate(device, dtype, size) for size in SIZES[device.type])


def _rate(device: torch.device, dtype: torch.dtype, size: int) -> float:
    a, b = torch.randn(2, size, size, device=device).to(dtype)
    out = torch.empty_like(a)
    on_card = device.type == "cuda"
    repeats = max(1, round(FLOP_ON_A_CARD / (2 * size**3)) if on_card else 2048**3 // size**3 // 2)
    seconds = []
    for _ in range(RUNS):
        start = now(device)
        for _ in range(repeats):
            torch.mm(a, b, out=out)
        seconds.append(now(device) - start)
    return 2.0 * size**3 * repeats / statistics.median(seconds)
