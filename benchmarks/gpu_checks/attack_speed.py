"""Attack speed: matrix peaks, then milliseconds of a step, eager and captured, by network and batch."""

import importlib.util
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from clock import in_turns, median_ratio, seconds_of
from matrix_peak import matrix_peak
from torch import Tensor, nn

from gpu_checks.findings import Case, Finding, skipped
from gpu_checks.subjects import EPS, digits, dtypes, name_of, network, networks, prepared
from jsdelta_db.compute.attacks import BALLS, PreparedModel, Steps, build_objective, pgd, prepare
from jsdelta_db.compute.models.equivalence import probe_images
from jsdelta_db.errors import first_line

FEW, MANY = 10, 40  # steps: their difference is free of starts and captures
MOST_SECONDS = 4.0  # of a case, beyond its first two rounds
PEER_STEPS = 40
LEAST_GAIN = 1.2  # of a compiled copy, to be adopted
IMAGE_STEPS = 10_000 * 100  # of one attack: CIFAR-10's test images
# Expected on an H100 before anybody had measured.
EXPECTED = {
    "resnet18 bfloat16 1024 captured": "<= 0.010 ms (H100)",
    "resnet8 bfloat16 256 gain": ">= 1.5 (H100)",
    "torchattacks": ">= 3 (H100)",
    "compiled": "adopted from 1.2 on",
}
BATCHES = {
    "resnet8": (256, 1024, 4096),
    "resnet18": (1024, 256, 4096),
    "resnet50": (256,),
    "vit-small": (1024, 256),
}
BATCHES_ON_A_CPU = (16,)


def cases(device: torch.device) -> list[Case]:
    """Return the cases, what was expected of them first."""
    found = [
        Case(f"matrix products {name_of(dtype)}", partial(_peak, device, dtype)) for dtype in dtypes(device)
    ]
    settings = _settings(device)
    found += [Case(str(setting), partial(_measure, setting, device)) for setting in settings[:2]]
    found.append(_torchattacks(device))
    if device.type == "cuda":
        found.append(Case("compiled", partial(_compiled, device)))
    else:
        found.append(skipped("compiled", "decided on a card alone"))
    return found + [Case(str(setting), partial(_measure, setting, device)) for setting in settings[2:]]


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


def _settings(device: torch.device) -> list[Setting]:
    """Return all settings: the two that something is expected of, then the rest of the table."""
    if device.type != "cuda":
        return [Setting(arch, torch.float32, BATCHES_ON_A_CPU[0]) for arch in networks(device)]
    inner = dtypes(device)[-1]
    first = [Setting("resnet18", inner, 1024), Setting("resnet8", inner, 256)]
    rest = [
        Setting(arch, dtype, batch)
        for dtype in reversed(dtypes(device)) for arch, batches in BATCHES.items() for batch in batches
    ]  # fmt: skip
    rest += [Setting(arch, inner, BATCHES[arch][0], torch.contiguous_format) for arch in BATCHES]
    return first + [each for each in rest if each not in first]


def _peak(device: torch.device, dtype: torch.dtype) -> list[Finding]:
    value = round(matrix_peak(device, dtype) / 1e12, 3)
    return [Finding(f"matrix products {name_of(dtype)}, TFLOP/s", value)]


def _measure(setting: Setting, device: torch.device) -> list[Finding]:
    """Time eager and captured steps in turns."""
    model = _in_order(setting, device)
    if model.dtype is not setting.dtype:
        return [Finding(str(setting), note=f"the copy is in {name_of(model.dtype)}: {model.reason}")]
    ways = {"eager": False, "captured": True} if device.type == "cuda" else {"eager": False}
    steps = (FEW, MANY) if device.type == "cuda" else (1, 2)
    run = _attack(model.frozen, setting, device)
    seen = in_turns(
        {f"{way} {n}": partial(run, n, captures) for way, captures in ways.items() for n in steps},
        device, MOST_SECONDS,
    )  # fmt: skip
    each = {
        way: [
            max(long - short, 1e-9) / (steps[1] - steps[0]) / setting.batch * 1000
            for short, long in zip(seen[f"{way} {steps[0]}"], seen[f"{way} {steps[1]}"], strict=True)
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
    return found


def _in_order(setting: Setting, device: torch.device) -> PreparedModel:
    if setting.order is torch.channels_last:
        return prepared(setting.arch, device, setting.dtype)
    images = probe_images(digits(device.type).splits["baseline"], device).contiguous()
    model = network(setting.arch, device)
    try:
        return prepare(model.to(memory_format=setting.order), images, setting.dtype)
    finally:
        model.to(memory_format=torch.channels_last)


def _attack(frozen: nn.Module, setting: Setting, device: torch.device) -> Callable[[int, bool], Tensor]:
    """Return the attack on one batch that lies on the device, a function of its steps and its capture."""
    split = digits(device.type).splits["attack"]
    rows = torch.arange(setting.batch) % len(split)
    x = split.batch(rows.numpy()).to(device).contiguous(memory_format=setting.order)
    with torch.no_grad():
        label = frozen(x).argmax(1)
    target = (label + 1) % len(digits(device.type).classes)
    ball = BALLS["linf"](x, EPS)
    start = torch.zeros_like(x)

    def attack(steps: int, captures: bool) -> Tensor:
        objective = build_objective("target", frozen, [], x, label, target)
        return pgd(objective, ball, start, Steps(steps, EPS / 10), capture=captures)

    return attack


def _torchattacks(device: torch.device) -> Case:
    name = "torchattacks"
    if importlib.util.find_spec(name) is None:
        return skipped(name, "not installed beside the program; benchmarks/attack.py brings it along")
    return Case(name, partial(_beside_torchattacks, device))


def _beside_torchattacks(device: torch.device) -> list[Finding]:
    """Time both libraries' whole attacks in turns."""
    import torchattacks

    setting = _settings(device)[0]
    run = _attack(prepared(setting.arch, device, setting.dtype).frozen, setting, device)
    model = network(setting.arch, device)
    peer = torchattacks.PGD(nn.Sequential(model), eps=EPS, alpha=EPS / 10, steps=PEER_STEPS)
    peer.set_mode_targeted_by_label(quiet=True)
    split = digits(device.type).splits["attack"]
    x = split.batch((torch.arange(setting.batch) % len(split)).numpy()).to(device)
    with torch.no_grad():
        target = (model(x).argmax(1) + 1) % len(digits(device.type).classes)
    ways = {"ours": lambda: run(PEER_STEPS, True), "peer": lambda: peer(x, target)}
    seen = in_turns(ways, device, MOST_SECONDS)
    ratio = round(median_ratio(seen["peer"], seen["ours"]), 3)
    return [Finding(f"{setting}, torchattacks' time over ours", ratio, wanted=EXPECTED["torchattacks"])]


def _compiled(device: torch.device) -> list[Finding]:
    """Compile the frozen copy of ResNet-18, and ask whether that pays within one attack."""
    setting = _settings(device)[0]
    frozen = prepared(setting.arch, device, setting.dtype).frozen
    usual = _attack(frozen, setting, device)
    try:
        compiled = _attack(torch.compile(frozen), setting, device)
        compile_seconds = seconds_of(lambda: compiled(1, False), device)
    except Exception as error:  # noqa: BLE001 no compiler beside torch is no fault of the program
        return [Finding("compiled", note=f"cannot be compiled here ({first_line(error)})")]
    ways = {"usual": lambda: usual(MANY, True), "compiled": lambda: compiled(MANY, True)}
    seen = in_turns(ways, device, MOST_SECONDS)
    gain = median_ratio(seen["usual"], seen["compiled"])
    saved = (statistics.median(seen["usual"]) - statistics.median(seen["compiled"])) / MANY / setting.batch
    pays = saved * IMAGE_STEPS > compile_seconds
    return [
        Finding(f"{setting}, compiled: gain", round(gain, 3), wanted=EXPECTED["compiled"]),
        Finding("compiling, seconds", round(compile_seconds, 1)),
        Finding("compiled copy", "adopt" if gain >= LEAST_GAIN and pays else "leave",
                note=f"saves {saved * IMAGE_STEPS:.1f} s of an attack"),
    ]  # fmt: skip
