"""Run by the peers' interpreter: attacks one model with every library and writes what each tool would save.

Arguments: a folder with ``job.npz`` (x, label, target_label, eps, steps) and ``checkpoint.pt``.
"""

import sys
from pathlib import Path

import numpy as np
import torch

from jsdelta_db.compute import data
from jsdelta_db.compute.attacks import BALLS, Steps, build_objective, pgd, prepare
from jsdelta_db.compute.models import build_model, load_checkpoint
from jsdelta_db.runtime.files import sha256_of


def main(folder: Path) -> None:
    job = np.load(folder / "job.npz")
    x, label, target = (torch.from_numpy(job[name]) for name in ("x", "label", "target_label"))
    eps, steps = float(job["eps"]), int(job["steps"])
    step_size = 2.5 * eps / steps
    model = build_model("cnn-small", data.load("digits", folder))
    checkpoint = folder / "checkpoint.pt"
    load_checkpoint(model, checkpoint, sha256_of(checkpoint.read_bytes()))
    made = {
        "ours": ours(model, x, target, eps, steps, step_size),
        "torchattacks": with_torchattacks(model, x, target, eps, steps, step_size),
        "torchattacks-apgdt": with_apgdt(model, x, label, eps, steps),
        "foolbox": with_foolbox(model, x, target, eps, steps, step_size),
        "art": with_art(model, x, target, eps, steps, step_size),
    }
    for name, x_adv in made.items():
        aimed = {} if name == "torchattacks-apgdt" else {"target_label": target.numpy()}
        np.savez(
            folder / f"{name}.npz",
            x=x.numpy(),
            x_adv=x_adv.detach().numpy(),
            label=label.numpy(),
            eps=eps,
            **aimed,
        )
    save_with_torchattacks(model, x, label, eps, steps, step_size, folder)


def save_with_torchattacks(model, x, label, eps, steps, step_size, folder):
    """Let torchattacks write its own files: with all that it can save, as bytes, and as it does untold."""
    import torchattacks
    from torch.utils.data import DataLoader, TensorDataset

    loader = DataLoader(TensorDataset(x, label), batch_size=100)
    everything = {"save_predictions": True, "save_clean_inputs": True}
    for name, size, options in (
        ("all", 1.0, everything),
        ("int", 1.0, {**everything, "save_type": "int"}),
        ("untold", 1 / 8, {}),  # so little that no other image is nearer than its own
    ):
        attack = torchattacks.PGD(
            torch.nn.Sequential(model).eval(), eps=size * eps, alpha=size * step_size, steps=steps,
            random_start=False,
        )  # fmt: skip
        attack.save(loader, str(folder / f"saved-{name}.pt"), **options)


def ours(model, x, target, eps, steps, step_size):
    prepared = prepare(model, x)
    objective = build_objective("target", prepared.frozen, [], x, target, target)
    return pgd(objective, BALLS["linf"](x, eps), torch.zeros_like(x), Steps(steps, step_size))


def with_torchattacks(model, x, target, eps, steps, step_size):
    import torchattacks

    # In a container: of a model with attributes `mean` and `std` it assumes that x comes normalized. In eval
    # mode: it gives back the mode that it found, and a new container is in train mode.
    attack = torchattacks.PGD(
        torch.nn.Sequential(model).eval(), eps=eps, alpha=step_size, steps=steps, random_start=False
    )
    attack.set_mode_targeted_by_label(quiet=True)
    return attack(x, target)


def with_apgdt(model, x, label, eps, steps):
    import torchattacks

    return torchattacks.APGDT(
        torch.nn.Sequential(model).eval(), eps=eps, steps=steps, n_restarts=1, n_classes=10
    )(x, label)


def with_foolbox(model, x, target, eps, steps, step_size):
    import foolbox

    attack = foolbox.attacks.LinfPGD(abs_stepsize=step_size, steps=steps, random_start=False)
    wrapped = foolbox.PyTorchModel(model, bounds=(0.0, 1.0), device="cpu")
    return attack(wrapped, x, foolbox.criteria.TargetedMisclassification(target), epsilons=eps)[1]


def with_art(model, x, target, eps, steps, step_size):
    from art.attacks.evasion import ProjectedGradientDescent
    from art.estimators.classification import PyTorchClassifier

    wrapped = PyTorchClassifier(
        model, torch.nn.CrossEntropyLoss(), tuple(x.shape[1:]), 10, clip_values=(0.0, 1.0), device_type="cpu"
    )
    attack = ProjectedGradientDescent(
        wrapped, eps=eps, eps_step=step_size, max_iter=steps, targeted=True, num_random_init=0, verbose=False
    )
    return torch.from_numpy(attack.generate(x.numpy(), np.eye(10)[target.numpy()]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
