"""Peak memory of this process; imports nothing that would count."""

import platform
import resource
from pathlib import Path


def peak_memory_mb(device: str) -> float:
    """Return the most memory that this process ever held, in MiB: on the GPU, or resident on the CPU."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_reserved() / 2**20
    status = Path("/proc/self/status")
    if status.is_file():  # not ru_maxrss: Linux hands the parent's down
        line = next(line for line in status.read_text("utf-8").splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    kept = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kept / (2**20 if platform.system() == "Darwin" else 2**10)
