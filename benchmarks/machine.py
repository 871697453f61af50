"""The machine that figures were measured on: its processor or card, and the versions that computed."""

import os
import platform
from pathlib import Path
from typing import Any

import torch


def describe(device: torch.device, threads: str) -> str:
    """Return the machine in a line.

    Args:
        threads: how many the measured processes computed on, such as ``one thread``.
    """
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    return f"{processor(device)}, {threads} of {os.cpu_count()}, {versions}"


def processor(device: torch.device) -> str:
    """Return the name of the card, or of the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text("utf-8").splitlines() if cpuinfo.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def facts(device: torch.device) -> dict[str, Any]:
    """Return what figures from a card depend on."""
    found: dict[str, Any] = {
        "processor": processor(device), "cores": os.cpu_count(), "threads": torch.get_num_threads(),
        "torch": torch.__version__, "python": platform.python_version(),
    }  # fmt: skip
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        found |= {
            "capability": list(torch.cuda.get_device_capability(device)), "cards": torch.cuda.device_count(),
            "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(),
            "memory_gib": round(total / 2**30, 1), "free_gib": round(free / 2**30, 1),
        }  # fmt: skip
    return found
