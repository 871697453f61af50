"""Fallbacks: networks that cannot be captured, and a card without room for a batch."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from torch import nn

from gpu_checks.captures import counting_replays, not_captured
from gpu_checks.findings import Case, Finding, skipped
from gpu_checks.networks import Branching, Limited, Synchronizing
from gpu_checks.subjects import Chunk, attack_on, chunk_of, digits, network, networks, prepared, small_digits
from jsdelta_db.compute.attacks import Perturbed, PreparedModel, find_perturbations, perturb, prepare
from jsdelta_db.compute.models import predict
from jsdelta_db.compute.models.equivalence import probe_images
from jsdelta_db.errors import JsdeltaError
from jsdelta_db.records import Samples

IMAGES, STEPS = 32, 20
ROOM, FITTING = 12, 8  # images that a made-up card has room for: 32 are halved twice
LARGE, PLANNED = "resnet18", 2048  # six times as many as fit into the room below
MIB = 2**20


def cases(device: torch.device) -> list[Case]:
    """Return the cases."""
    found = [
        Case("a network that synchronizes", partial(_awkward, Synchronizing, device)),
        Case("a network that branches", partial(_awkward, Branching, device)),
        Case("no room for the batch, made up", partial(_limited, device)),
    ]
    if device.type != "cuda":
        return [*found, skipped("no room on the card", "a CPU's memory is everybody's: not filled up")]
    return [
        *found,
        Case("no room on the card for a batch", partial(_full_card, device)),
        Case("no room on the card to predict", partial(_full_card_predicts, device)),
    ]


def _awkward(kind: Callable[..., nn.Module], device: torch.device) -> list[Finding]:
    """Attack a network that no graph can hold: the same as eager, and the next one is captured as before."""
    torch.manual_seed(0)
    dataset = small_digits()
    model = kind(num_classes=10, in_channels=1, image_size=8).eval().to(device)
    copy_of = prepare(model, probe_images(dataset.splits["baseline"], device))
    name = kind.__name__.lower()
    pair = [_attacked(each, model, device) for each in (not_captured(copy_of), copy_of)]
    equal = bool(np.array_equal(pair[0].delta, pair[1].delta))
    found = [Finding(f"a {name} network", equal, equal, "as eager")]
    if device.type == "cuda":
        usual = torch.cuda.current_stream(device) == torch.cuda.default_stream(device)
        found.append(Finding(f"the current stream after a {name} network", usual, usual, "the default one"))
        arch = networks(device)[0]
        chunk = chunk_of(network(arch, device), digits(device.type), IMAGES, device)
        with counting_replays() as replays:
            attack = attack_on(
                prepared(arch, device, torch.float32), IMAGES, steps=STEPS, dtype=torch.float32
            )
            perturb(attack, chunk.attempts, chunk.x, chunk.clean_logits)
        found.append(Finding(f"replays of {arch} after a {name} network", replays[0], replays[0] > 0, "> 0"))
    return found


def _attacked(copy_of: PreparedModel, model: nn.Module, device: torch.device) -> Samples:
    chunk = chunk_of(model, small_digits(), IMAGES, device)
    attack = attack_on(copy_of, len(chunk.attempts), steps=STEPS, dtype=torch.float32)
    return perturb(attack, chunk.attempts, chunk.x, chunk.clean_logits)


def _limited(device: torch.device) -> list[Finding]:
    """Attack 32 images where 12 fit: the same bytes as of an attack that was planned in batches of 8."""
    arch = networks(device)[0]
    model, frozen = network(arch, device), prepared(arch, device, torch.float32).frozen
    limited = Limited(frozen, ROOM)
    chunk = chunk_of(model, digits(device.type), IMAGES, device)
    halved = _perturbed(PreparedModel(model, limited, device), chunk, IMAGES)
    parts = [slice(start, start + FITTING) for start in range(0, IMAGES, FITTING)]
    planned = [
        _perturbed(
            PreparedModel(model, frozen, device),
            Chunk(chunk.attempts.pick(part), chunk.x[part], chunk.clean_logits[part]), FITTING,
        )
        for part in parts
    ]  # fmt: skip
    equal = all(
        np.array_equal(getattr(halved, name), np.concatenate([getattr(each, name) for each in planned]))
        for name in ("delta", "logits")
    )
    refused, too_many = sorted(set(limited.refused)), [2 * FITTING, IMAGES]
    return [
        Finding("batches refused, made up", refused, refused == too_many, str(too_many)),
        Finding("recorded batch", halved.sub_batch, halved.sub_batch == FITTING, str(FITTING)),
        Finding("halved batches", equal, equal, "the bytes of batches planned so"),
    ]


def _perturbed(copy_of: PreparedModel, chunk: Chunk, size: int) -> Perturbed:
    attack = attack_on(copy_of, size, steps=3, dtype=torch.float32)
    return find_perturbations(attack, chunk.attempts, chunk.x, chunk.clean_logits)


def _full_card(device: torch.device) -> list[Finding]:
    """Attack with a chunk that was planned for a larger card."""
    # Labels and clean logits first: these come from what a store knows.
    chunk = chunk_of(network(LARGE, device), digits(device.type), PLANNED, device)
    attack = attack_on(prepared(LARGE, device, torch.float32), PLANNED, steps=STEPS, dtype=torch.float32)
    with _room(device, 1024 * MIB):
        made = find_perturbations(attack, chunk.attempts, chunk.x, chunk.clean_logits)
    value = {"attempts": len(made.delta), "in batches of": made.sub_batch}
    good = len(made.delta) == PLANNED and made.sub_batch is not None
    return [Finding("a chunk on a full card", value, good, f"{PLANNED}, in smaller batches")]


def _full_card_predicts(device: torch.device) -> list[Finding]:
    """Predict without room: logits, or one line that says what to try."""
    model = copy.deepcopy(network(LARGE, device))
    try:
        with _room(device, 16 * MIB):
            predict(model, digits(device.type).splits["attack"], device)
    except JsdeltaError as error:
        lines = str(error).splitlines()
        return [Finding("prediction on a full card", lines[0], len(lines) == 1, "logits or one line")]
    return [Finding("prediction on a full card", "logits", True, "logits or one line")]


@contextmanager
def _room(device: torch.device, more: int) -> Iterator[None]:
    """Leave this process so many bytes of the card beyond what it holds."""
    torch.cuda.empty_cache()
    _, total = torch.cuda.mem_get_info(device)
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved(device) + more) / total, device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
