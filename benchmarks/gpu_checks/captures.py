"""Captured steps beside eager ones, and the card beside the CPU: the same attack has to find the same."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch

from gpu_checks.findings import Case, Finding, skipped
from gpu_checks.subjects import (
    EPS,
    attack_on,
    chunk_of,
    digits,
    dtypes,
    name_of,
    network,
    networks,
    prepared,
    small_digits,
    trained,
)
from jsdelta_db.compute.attacks import PreparedAttack, PreparedModel, choose_attempts, perturb, prepare
from jsdelta_db.compute.models.equivalence import probe_images
from jsdelta_db.compute.models.inference import forward
from jsdelta_db.config.attack import ATTACK_CHOICES, SURROGATE_OBJECTIVES, AttackConfig
from jsdelta_db.records import PLAIN, Samples

IMAGES, STEPS = 32, 16
STEPS_ON_A_CPU = 3
LARGEST_LOGIT_CHANGE = 1e-5  # between devices, in units of the largest logit
ONE_POINT = 0.01
SUCCESS_IMAGES, SUCCESS_STEPS, SUCCESS_EPS = 300, 20, 4 / 255


def cases(device: torch.device) -> list[Case]:
    """Return the cases, the networks that are quickest first."""
    found = []
    if device.type != "cuda":
        found.append(skipped("captured = eager", "a CPU captures nothing: eager is compared with eager"))
    for arch, dtype in product(networks(device), dtypes(device)):
        for setting in _settings(device):
            name = f"{arch} {name_of(dtype)} {setting}"
            found.append(Case(name, partial(_compare, name, arch, device, dtype, setting)))
    if device.type == "cuda":
        found += [
            Case(f"{arch} beside the CPU", partial(_beside_cpu, arch, device)) for arch in networks(device)
        ]
        found.append(Case("success beside the CPU", partial(_success_beside_cpu, device)))
    else:
        found.append(skipped("beside the CPU", "this is the CPU"))
    return found


@dataclass(frozen=True, slots=True)
class Setting:
    """What an attack is asked for."""

    norm: str = "linf"
    objective: str = "target"
    stop: str = "never"
    untargeted: bool = False

    def __str__(self) -> str:
        """Return it in a few words."""
        return " ".join([self.norm, self.objective, self.stop, *(["untargeted"] if self.untargeted else [])])


def _settings(device: torch.device) -> list[Setting]:
    if device.type != "cuda":  # enough to run all of this module's lines
        return [Setting(), Setting("l2", "bug", "first-hit")]
    choices = (ATTACK_CHOICES[name] for name in ("norm", "objective", "stop"))
    return [Setting(*each) for each in product(*choices)] + [Setting(untargeted=True)]


def _compare(
    name: str, arch: str, device: torch.device, dtype: torch.dtype, setting: Setting
) -> list[Finding]:
    """Attack one chunk twice: as it is done, and with the same copy but no capture."""
    attacked, attempts_of = prepared(arch, device, dtype), network(arch, device)
    surrogates = [prepared(arch, device, dtype, seed=1)] if setting.objective in SURROGATE_OBJECTIVES else []
    config = AttackConfig(
        eps=EPS if setting.norm == "linf" else 1.0, norm=setting.norm, objective=setting.objective,
        stop=setting.stop, steps=STEPS if device.type == "cuda" else STEPS_ON_A_CPU, dtype=name_of(dtype),
    )  # fmt: skip
    chunk = chunk_of(attempts_of, digits(device.type), IMAGES if device.type == "cuda" else 8, device)
    if setting.untargeted:
        aimless = np.full(len(chunk.attempts), -1, dtype=np.int64)
        chunk = replace(chunk, attempts=replace(chunk.attempts, requested_target=aimless))

    refusals: list[str] = []

    def run(change: Callable[[PreparedModel], PreparedModel]) -> Samples:
        attack = PreparedAttack(change(attacked), tuple(map(change, surrogates)), config, len(chunk.attempts))
        attack.capture.tell = refusals.append
        return perturb(attack, chunk.attempts, chunk.x, chunk.clean_logits)

    eager = run(not_captured)
    with counting_replays() as replays:
        captured = run(replace)  # a copy that nothing was refused of before
    finding = _judge(name, device, arch, (eager, captured), replays[0])
    return [replace(finding, note="; ".join(refusals))]


def _judge(
    name: str, device: torch.device, arch: str, pair: tuple[Samples, Samples], replays: int
) -> Finding:
    """Compare two runs: convolutions to the bit, transformers by their success where bits differ."""
    eager, captured = pair
    equal = bool(
        np.array_equal(eager.delta, captured.delta) and np.array_equal(eager.logits, captured.logits)
    )
    moved = abs(float(eager.success.mean() - captured.success.mean()))
    close = equal or (arch.startswith("vit") and moved <= ONE_POINT)
    value: dict[str, Any] = {"equal": equal, "success": float(captured.success.mean()), "replays": replays}
    if not equal:
        value["different images"] = int(
            (eager.delta != captured.delta).reshape(len(eager.delta), -1).any(1).sum()
        )
    wanted = "equal bytes" + (", replayed" if device.type == "cuda" else "")
    return Finding(name, value, close and (replays > 0 or device.type != "cuda"), wanted)


def not_captured(model: PreparedModel) -> PreparedModel:
    """Return the same copy under the name of one that no graph is recorded of."""
    return replace(model, prepared_as=PLAIN)


@contextmanager
def counting_replays() -> Iterator[list[int]]:
    """Count how often a CUDA graph is replayed within the block, in the one number of the list."""
    count, replay = [0], torch.cuda.CUDAGraph.replay

    def counted(graph: torch.cuda.CUDAGraph) -> None:
        count[0] += 1
        replay(graph)

    torch.cuda.CUDAGraph.replay = counted  # type: ignore[method-assign]
    try:
        yield count
    finally:
        torch.cuda.CUDAGraph.replay = replay  # type: ignore[method-assign]


def _beside_cpu(arch: str, device: torch.device) -> list[Finding]:
    """Compare a network's logits with the CPU's on the same images and weights."""
    model = network(arch, device)
    images = probe_images(digits(device.type).splits["baseline"], device)
    expected = forward(copy.deepcopy(model).cpu(), images.cpu())
    change = float(np.abs(forward(model, images) - expected).max() / np.abs(expected).max())
    wanted = f"<= {LARGEST_LOGIT_CHANGE:g} of the largest logit"
    return [Finding(f"logits of {arch} beside the CPU's", change, change <= LARGEST_LOGIT_CHANGE, wanted)]


def _success_beside_cpu(device: torch.device) -> list[Finding]:
    """Attack one trained network on both devices, with the same targets and starts."""
    cpu = torch.device("cpu")
    model = trained(cpu)
    rates = {each.type: _success(copy.deepcopy(model).to(each), each) for each in (cpu, device)}
    close = abs(rates["cpu"] - rates[device.type]) <= ONE_POINT
    return [Finding("success beside the CPU's", rates, close, f"within {ONE_POINT:g}")]


def _success(model: torch.nn.Module, device: torch.device) -> float:
    split = small_digits().splits["attack"]
    rows = np.arange(SUCCESS_IMAGES)
    x, labels = split.batch(rows), split.labels.numpy()[rows]
    attempts = choose_attempts("random", split.index[rows], labels, small_digits().classes, seed=0)
    copy_of = prepare(model, probe_images(split, device))
    attack = attack_on(copy_of, len(rows), steps=SUCCESS_STEPS, dtype=torch.float32)
    config = replace(attack.config, eps=SUCCESS_EPS)
    logits = forward(model, x.to(device))
    return float(perturb(replace(attack, config=config), attempts, x, logits).success.mean())
