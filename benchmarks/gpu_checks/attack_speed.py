"""Attack speed: matrix peaks, then milliseconds of a step, eager and captured, by network and batch."""

import copy
import importlib.util
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from clock import in_turns, median_ratio
from matrix_peak import matrix_peak
from torch import Tensor, nn

from gpu_checks.findings import Case, Finding, skipped
from gpu_checks.subjects import EPS, digits, dtypes, name_of, network, networks, prepared
from jsdelta_db.compute.attacks import BALLS, PreparedModel, Steps, build_objective, pgd, prepare
from jsdelta_db.compute.attacks.capture import Capture
from jsdelta_db.compute.models.equivalence import probe_images
from jsdelta_db.records import FOLDED

FEW, MANY = 10, 40  # steps: their difference is free of starts and captures
FEW_ON_A_CPU, MANY_ON_A_CPU = 1, 2
PEER_STEPS = 100  # whole attacks are compared
MOST_SECONDS = 4.0  # of a case, beyond its first two rounds
# Expected on an H100 before anybody had measured.
EXPECTED = {
    "resnet18 bfloat16 1024 captured": "<= 0.010 ms (H100)",
    "resnet8 bfloat16 256 gain": ">= 1.5 (H100)",
    "torchattacks": ">= 3 (H100)",
}
BATCHES = {
    "resnet18": (1024, 256, 4096), "resnet8": (256, 1024, 4096), "resnet50": (256,), "vit-small": (1024, 256),
}  # fmt: skip
FLOAT32_BATCH, BATCH_ON_A_CPU = 256, 16

Attack = Callable[[int, Capture | None], Tensor]  # (steps, whether they may be captured) → the last iterate


@dataclass(frozen=True, slots=True)
class Setting:
    """What a step is timed on."""

    arch: str
    dtype: torch.dtype
    batch: int
    order: torch.memory_format = torch.channels_last

    def __str__(self) -> str:
        """Return it in a few words."""
        order = "" if self.order is torch.channels_last else " contiguous"
        return f"{self.arch} {name_of(self.dtype)} {self.batch}{order}"


def settings_for(device: torch.device) -> list[Setting]:
    """Return all settings; something is expected of the first two."""
    if device.type != "cuda":
        return [Setting(arch, torch.float32, BATCH_ON_A_CPU) for arch in networks(device)]
    inner = dtypes(device)[-1]
    first = [Setting("resnet18", inner, 1024), Setting("resnet8", inner, 256)]
    rest = [Setting(arch, inner, batch) for arch, batches in BATCHES.items() for batch in batches]
    rest += [Setting(arch, torch.float32, FLOAT32_BATCH) for arch in BATCHES]
    rest += [Setting(arch, inner, batches[0], torch.contiguous_format) for arch, batches in BATCHES.items()]
    return list(dict.fromkeys(first + rest))


def cases(device: torch.device) -> list[Case]:
    """Return the cases, those that something is expected of first."""
    settings = settings_for(device)
    peaks = [
        Case(f"matrix products {name_of(dtype)}", partial(_peak, device, dtype)) for dtype in dtypes(device)
    ]
    timed = [Case(str(setting), partial(_measure, setting, device)) for setting in settings]
    return [*peaks, *timed[:2], _torchattacks(settings[0], device), *timed[2:]]


def _peak(device: torch.device, dtype: torch.dtype) -> list[Finding]:
    value = round(matrix_peak(device, dtype) / 1e12, 3)
    return [Finding(f"matrix products {name_of(dtype)}, TFLOP/s", value)]


def _measure(setting: Setting, device: torch.device) -> list[Finding]:
    """Time eager and captured steps in turns."""
    model = _in_order(setting, device)
    refusals: list[str] = []
    ways: dict[str, Capture | None] = {"eager": None}
    if device.type == "cuda":
        ways["captured"] = Capture(tell=refusals.append)
    few, many = (FEW, MANY) if device.type == "cuda" else (FEW_ON_A_CPU, MANY_ON_A_CPU)
    run = attack_with(model.frozen, setting, device)
    seen = in_turns(
        {f"{way} {steps}": partial(run, steps, ways[way]) for way in ways for steps in (few, many)},
        device, MOST_SECONDS,
    )  # fmt: skip
    each = {
        way: [
            max(long - short, 1e-9) / (many - few) / setting.batch * 1000
            for short, long in zip(seen[f"{way} {few}"], seen[f"{way} {many}"], strict=True)
        ]
        for way in ways
    }
    found = [
        Finding(f"{setting} {way}, ms an image and step", round(statistics.median(each[way]), 6),
                wanted=EXPECTED.get(f"{setting} {way}", ""), note=f"{len(each[way])} rounds")
        for way in ways
    ]  # fmt: skip
    if "captured" in ways:
        gain = round(median_ratio(each["eager"], each["captured"]), 3)
        found.append(
            Finding(f"{setting}, eager over captured", gain, wanted=EXPECTED.get(f"{setting} gain", ""))
        )
    return found + [Finding(f"{setting}, captured", passed=False, note=line) for line in refusals]


def _in_order(setting: Setting, device: torch.device) -> PreparedModel:
    """Return the network's copy in the memory order of the setting."""
    if setting.order is torch.channels_last:
        return prepared(setting.arch, device, setting.dtype)
    model = copy.deepcopy(network(setting.arch, device)).to(memory_format=setting.order)
    images = probe_images(digits(device.type).splits["baseline"], device).contiguous()
    return prepare(model, images, setting.dtype, FOLDED)


def attack_with(frozen: nn.Module, setting: Setting, device: torch.device) -> Attack:
    """Return the attack on one batch that lies on the device."""
    x, target = _batch(frozen, setting, device)
    ball, start = BALLS["linf"](x, EPS), torch.zeros_like(x)
    objective = build_objective("target", frozen, [], x, target, target)

    def attack(steps: int, capture: Capture | None) -> Tensor:
        return pgd(objective, ball, start, Steps(steps, EPS / 10), capture=capture)

    return attack


@torch.no_grad()
def _batch(model: nn.Module, setting: Setting, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return images, and for each the label after the one that the model says."""
    split = digits(device.type).splits["attack"]
    rows = torch.arange(setting.batch) % len(split)
    x = split.batch(rows.numpy()).to(device).contiguous(memory_format=setting.order)
    return x, (model(x).argmax(1) + 1) % len(digits(device.type).classes)


def _torchattacks(setting: Setting, device: torch.device) -> Case:
    name = "torchattacks"
    if importlib.util.find_spec(name) is None:
        return skipped(name, "not installed beside the program; benchmarks/attack.py brings it along")
    return Case(name, partial(_beside_torchattacks, setting, device))


def _beside_torchattacks(setting: Setting, device: torch.device) -> list[Finding]:
    """Time both libraries' whole attacks in turns: ours as usual, theirs on the model as a user has it."""
    import torchattacks

    run = attack_with(prepared(setting.arch, device, setting.dtype).frozen, setting, device)
    # In a container: of a model with attributes `mean` and `std` it assumes that x comes normalized.
    model = nn.Sequential(
        copy.deepcopy(network(setting.arch, device)).to(memory_format=torch.contiguous_format)
    )
    peer = torchattacks.PGD(model, eps=EPS, alpha=EPS / 10, steps=PEER_STEPS)
    peer.set_mode_targeted_by_label(quiet=True)
    x, target = _batch(model, setting, device)
    x = x.contiguous()
    capture = Capture() if device.type == "cuda" else None
    ways = {"ours": lambda: run(PEER_STEPS, capture), "peer": lambda: peer(x, target)}
    seen = in_turns(ways, device, MOST_SECONDS)
    ratio = round(median_ratio(seen["peer"], seen["ours"]), 3)
    return [Finding(f"{setting}, torchattacks' time over ours", ratio, wanted=EXPECTED["torchattacks"])]
