"""The frozen copy compiled: whether it gains enough, and whether compiling pays within one attack.

By itself and last: nobody knows how long a compiler takes.
"""

import statistics
from functools import partial

import torch
from clock import in_turns, median_ratio, now

from gpu_checks.attack_speed import MANY, Setting, attack_with, settings_for
from gpu_checks.findings import Case, Finding, skipped
from gpu_checks.subjects import prepared
from jsdelta_db.compute.attacks.capture import Capture
from jsdelta_db.errors import first_line

LEAST_GAIN = 1.2  # to be adopted
IMAGE_STEPS = 10_000 * 100  # of one attack: CIFAR-10's test images
MOST_SECONDS = 5.0


def cases(device: torch.device) -> list[Case]:
    """Return the one case, ResNet-18 as attacks run on it."""
    setting = settings_for(device)[0]
    if device.type != "cuda":
        return [skipped("compiled copy", "to be decided on a card alone")]
    return [Case(str(setting), partial(_compare, setting, device))]


def _compare(setting: Setting, device: torch.device) -> list[Finding]:
    frozen = prepared(setting.arch, device, setting.dtype).frozen
    usual = attack_with(frozen, setting, device)
    begun = now(device)
    try:
        compiled = attack_with(torch.compile(frozen), setting, device)
        compiled(1, None)
    except Exception as error:  # noqa: BLE001 that there is no compiler beside torch is no fault of the program
        return [Finding(str(setting), note=f"cannot be compiled here ({first_line(error)})")]
    seconds = now(device) - begun
    ways = {"usual": partial(usual, MANY, Capture()), "compiled": partial(compiled, MANY, Capture())}
    seen = in_turns(ways, device, MOST_SECONDS)
    gain = median_ratio(seen["usual"], seen["compiled"])
    saved = statistics.median(seen["usual"]) - statistics.median(seen["compiled"])
    saved_of_attack = saved / MANY / setting.batch * IMAGE_STEPS
    adopt = gain >= LEAST_GAIN and saved_of_attack > seconds
    return [
        Finding(f"{setting}, compiled over usual", round(gain, 3), wanted=f">= {LEAST_GAIN:g} to be adopted"),
        Finding("seconds of compiling", round(seconds, 1)),
        Finding("seconds saved of one attack", round(saved_of_attack, 1), wanted="more than of compiling"),
        Finding("compiled copy", "adopt" if adopt else "leave"),
    ]
