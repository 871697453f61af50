"""One attack engine in a process of its own, told by lines of JSON on stdin when to attack what.

``attack.py`` starts one per engine (the peers' with the interpreter of their environment) and lets them take
turns, so that a shared machine's noise hits all alike and each process shows its own peak memory.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from attack_memory import peak_memory_mb
from attack_models import CLASSES, IMAGE_SHAPE, load_model
from clock import now
from matrix_peak import matrix_peak
from torch import Tensor, nn

from jsdelta_db.runtime.devices import resolve_device

Attack = Callable[[Tensor, Tensor, int, int], Tensor]  # (x, target_label, seed of the start, steps) → x_adv


def draw_start(x: Tensor, eps: float, seed: int) -> Tensor:
    """Draw the change that every engine starts with: what torchattacks draws by itself after that seed."""
    torch.manual_seed(seed)
    return torch.empty_like(x).uniform_(-eps, eps)


def ours(job: dict[str, Any], dtype: torch.dtype) -> Attack:
    """Return the project's engine."""
    from jsdelta_db.compute.attacks.balls import BALLS
    from jsdelta_db.compute.attacks.objectives import build_objective
    from jsdelta_db.compute.attacks.pgd import Steps, pgd
    from jsdelta_db.compute.attacks.prepare import prepare
    from jsdelta_db.compute.models.memory_order import arrange

    eps = job["eps"]
    with np.load(job["images"]) as arrays:
        images = torch.from_numpy(arrays["x"][:32]).to(job["device"])
    images = images.contiguous(memory_format=torch.channels_last)
    model = arrange(load_model(job["model"], job["checkpoint"], job["device"]), images)
    prepared = prepare(model, images, dtype)

    def attack(x: Tensor, target_label: Tensor, seed: int, steps: int) -> Tensor:
        start = (draw_start(x, eps, seed) / eps).contiguous(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
        objective = build_objective("target", prepared.frozen, [], x, target_label, target_label)
        ball = BALLS["linf"](x, eps)
        size = Steps(steps, job["step_size"])
        return pgd(objective, ball, start, size, capture=prepared.capture)

    return attack


def with_torchattacks(job: dict[str, Any]) -> Attack:
    """Return torchattacks' PGD."""
    import torchattacks

    # In a container: of a model with attributes `mean` and `std` it assumes that x comes normalized.
    model = nn.Sequential(load_model(job["model"], job["checkpoint"], job["device"]))
    pgd = torchattacks.PGD(model, eps=job["eps"], alpha=job["step_size"])
    pgd.set_mode_targeted_by_label(quiet=True)

    def attack(x: Tensor, target_label: Tensor, seed: int, steps: int) -> Tensor:
        pgd.steps = steps
        torch.manual_seed(seed)
        found: Tensor = pgd(x, target_label)
        return found

    return attack


def with_foolbox(job: dict[str, Any]) -> Attack:
    """Return foolbox' LinfPGD, without the check of success that its front adds."""
    import eagerpy
    import foolbox

    model = foolbox.PyTorchModel(
        load_model(job["model"], job["checkpoint"], job["device"]), bounds=(0.0, 1.0), device=job["device"]
    )
    pgd = foolbox.attacks.LinfPGD(abs_stepsize=job["step_size"], random_start=True)

    def attack(x: Tensor, target_label: Tensor, seed: int, steps: int) -> Tensor:
        start = x + draw_start(x, job["eps"], seed)
        pgd.steps, pgd.get_random_start = steps, lambda *rest: eagerpy.astensor(start)
        criterion = foolbox.criteria.TargetedMisclassification(target_label)
        found: Tensor = pgd.run(model, x, criterion, epsilon=job["eps"])
        return found

    return attack


def with_art(job: dict[str, Any]) -> Attack:
    """Return ART's ProjectedGradientDescentPyTorch, without the check of success that it ends with."""
    from art.attacks.evasion.projected_gradient_descent import projected_gradient_descent_pytorch as module
    from art.estimators.classification import PyTorchClassifier

    model = load_model(job["model"], job["checkpoint"], job["device"])
    estimator = PyTorchClassifier(
        model, nn.CrossEntropyLoss(), IMAGE_SHAPE, CLASSES, clip_values=(0.0, 1.0),
        device_type="cpu" if job["device"] == "cpu" else "gpu",
    )  # fmt: skip
    pgd = module.ProjectedGradientDescentPyTorch(
        estimator, eps=job["eps"], eps_step=job["step_size"], targeted=True,
        num_random_init=1, batch_size=job["batch_size"], verbose=False,
    )  # fmt: skip
    module.compute_success = lambda *rest, **options: 0.0

    def attack(x: Tensor, target_label: Tensor, seed: int, steps: int) -> Tensor:
        start = draw_start(x, job["eps"], seed).cpu().numpy()
        module.random_sphere = lambda *rest: start
        pgd.set_params(max_iter=steps)
        y = nn.functional.one_hot(target_label, CLASSES).cpu().numpy()
        return torch.from_numpy(pgd.generate(x.cpu().numpy(), y))

    return attack


ENGINES: dict[str, Callable[[dict[str, Any]], Attack]] = {
    "float32": lambda job: ours(job, torch.float32),
    "bfloat16": lambda job: ours(job, torch.bfloat16),
    "torchattacks": with_torchattacks,
    "foolbox": with_foolbox,
    "art": with_art,
}


def timed_attack(attack: Attack, job: dict[str, Any], turn: int, steps: int) -> dict[str, float]:
    """Attack one batch of the job's images, and keep what came out in the job's folder."""
    rows = slice(turn * job["batch_size"], (turn + 1) * job["batch_size"])
    device = torch.device(job["device"])
    with np.load(job["images"]) as arrays:
        x, target_label = (
            torch.from_numpy(arrays[name][rows]).to(job["device"]) for name in ("x", "target_label")
        )
    start = now(device)
    x_adv = attack(x, target_label, turn, steps)
    seconds = now(device) - start
    np.save(
        Path(job["folder"]) / f"{job['model']}-{job['engine']}-{turn}.npy", x_adv.cpu().contiguous().numpy()
    )
    return {"seconds": seconds / (len(x) * steps), "memory_mb": peak_memory_mb(device.type)}


def main() -> None:
    """Answer each line ``{"turn": …, "steps": …}`` with a line; nothing else goes to stdout."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints
    job = json.loads(sys.argv[1])
    torch.set_num_threads(job["threads"])
    resolve_device(job["device"])  # the same arithmetic for all: no TF32, on a card no racing kernels
    kind, _, dtype = job["engine"].partition("-")
    attack = None if kind == "matmul" else ENGINES[kind](job)
    for line in sys.stdin:
        if attack is None:
            reply = {"flops": matrix_peak(torch.device(job["device"]), getattr(torch, dtype))}
        else:
            reply = timed_attack(attack, job, **json.loads(line))
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main()
