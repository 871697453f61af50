"""Determinism: the same chunk attacked twice, and in a second process, gives the same bytes."""

import hashlib
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product

import torch

from gpu_checks.findings import Case, Finding
from gpu_checks.starting import context_for, resolve
from gpu_checks.subjects import attack_on, chunk_of, digits, dtypes, name_of, network, networks, prepared
from jsdelta_db.compute.attacks import perturb

IMAGES, STEPS = 128, 20
IMAGES_ON_A_CPU, STEPS_ON_A_CPU = 8, 2


def cases(device: torch.device) -> list[Case]:
    """Return a case for each network and dtype, and one for all of them in another process."""
    names = [f"{arch} {name_of(dtype)}" for arch, dtype in product(networks(device), dtypes(device))]
    first: dict[str, str] = {}
    found = [Case(name, partial(_twice, name, device, first)) for name in names]
    return [*found, Case("in a second process", partial(_elsewhere, device, first))]


def _twice(name: str, device: torch.device, first: dict[str, str]) -> list[Finding]:
    first[name] = digest(name, device)
    again = digest(name, device)
    return [Finding(f"{name} twice", again[:12], again == first[name], f"sha256 {first[name][:12]}")]


def _elsewhere(device: torch.device, first: dict[str, str]) -> list[Finding]:
    with ProcessPoolExecutor(1, mp_context=context_for(device)) as pool:
        other = pool.submit(digests, str(device), list(first)).result()
    return [
        Finding(f"{name} in a second process", other[name][:12], other[name] == mine, f"sha256 {mine[:12]}")
        for name, mine in first.items()
    ]


def digests(device_name: str, names: list[str]) -> dict[str, str]:
    """Return the digest of each network and dtype; for another process."""
    device = resolve(device_name)
    return {name: digest(name, device) for name in names}


def digest(name: str, device: torch.device) -> str:
    """Return the sha256 of the perturbations and logits of one chunk.

    Args:
        name: of a network and a dtype, as ``resnet18 bfloat16``.
    """
    arch, _, dtype_name = name.partition(" ")
    dtype = getattr(torch, dtype_name)
    small = device.type == "cpu"
    chunk = chunk_of(network(arch, device), digits(device.type), IMAGES_ON_A_CPU if small else IMAGES, device)
    attack = attack_on(
        prepared(arch, device, dtype),
        len(chunk.attempts),
        steps=STEPS_ON_A_CPU if small else STEPS,
        dtype=dtype,
    )
    samples = perturb(attack, chunk.attempts, chunk.x, chunk.clean_logits)
    return hashlib.sha256(samples.delta.tobytes() + samples.logits.tobytes()).hexdigest()
