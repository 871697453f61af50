"""Memory over the chunks of an attack: flat, and within what was free when the chunk size was planned."""

from functools import partial

import torch
from attack_memory import peak_memory_mb

from gpu_checks.findings import Case, Finding
from gpu_checks.subjects import attack_on, chunk_of, digits, dtypes, name_of, network, networks, prepared
from jsdelta_db.compute.attacks import perturb, plan_chunk_size

CHUNKS, STEPS = 5, 12  # as many as are captured: a graph holds memory, too
MANY = 10**6  # attempts: the chunk size is what the memory allows
LARGEST_SHARE = 0.9  # of the free memory
LARGEST_GROWTH = 0.02  # from the second chunk to the last


def cases(device: torch.device) -> list[Case]:
    """Return a case a dtype, on the network that attacks are mostly made on."""
    arch = "resnet18" if device.type == "cuda" else networks(device)[0]
    return [
        Case(f"{arch} {name_of(dtype)}", partial(_chunks, arch, device, dtype)) for dtype in dtypes(device)
    ]


def _chunks(arch: str, device: torch.device, dtype: torch.dtype) -> list[Finding]:
    name, on_card = f"{arch} {name_of(dtype)}", device.type == "cuda"
    model, copy_of = network(arch, device), prepared(arch, device, dtype)
    shape = digits(device.type).image_shape
    free = torch.cuda.mem_get_info(device)[0] / 2**20 if on_card else 0.0
    before = torch.cuda.memory_reserved(device) / 2**20 if on_card else 0.0
    size = plan_chunk_size(shape, copy_of, MANY) if on_card else 32
    held: list[float] = []
    for position in range(CHUNKS):
        if on_card:
            torch.cuda.reset_peak_memory_stats(device)
        chunk = chunk_of(model, digits(device.type), size, device, first=position * size)
        attack = attack_on(copy_of, size, steps=STEPS if on_card else 1, dtype=dtype)
        perturb(attack, chunk.attempts, chunk.x, chunk.clean_logits)
        held.append(round(peak_memory_mb(device.type), 1))
    growth = held[-1] / held[1] - 1.0
    found = [
        Finding(f"{name}, attempts in a chunk", size),
        Finding(f"{name}, peaks in MiB by chunk", held),
        Finding(f"{name}, growth", round(growth, 4), growth <= LARGEST_GROWTH, f"<= {LARGEST_GROWTH:g}"),
    ]
    if on_card:
        share = (max(held) - before) / free
        found.append(
            Finding(
                f"{name}, share of the free memory", share, share <= LARGEST_SHARE, f"<= {LARGEST_SHARE:g}"
            )
        )
    return found
