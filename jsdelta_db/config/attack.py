"""Attack configuration: one attack, frozen and validated when made."""

from dataclasses import dataclass, fields
from typing import Any

from jsdelta_db.config.attack_by import AttackBy
from jsdelta_db.config.checks import (
    DTYPES,
    NORMS,
    check,
    check_choice,
    check_device,
    device_kind,
    is_positive,
)
from jsdelta_db.config.eps import largest_eps

OBJECTIVES = ("target", "margin", "bug", "feature")
SURROGATE_OBJECTIVES = ("bug", "feature")  # these evaluate held-back models, too
ATTACK_CHOICES = {
    "norm": NORMS,
    "objective": OBJECTIVES,
    "stop": ("never", "first-hit"),
    "split": ("train", "baseline", "attack"),
    "dtype": DTYPES,
}
# or one label, by name or number
TARGET_RULES = ("random", "all", "next", "least-likely", "untargeted")
# Settings of our own steps, which nobody else's attack obeys.
OF_OUR_STEPS = ("steps", "relative_step_size", "random_start", "restarts", "objective", "stop", "dtype")
UNHASHED = ("yes", "attack_by")  # no part of an attack, and a part with a form of its own


@dataclass(frozen=True, slots=True)
class AttackConfig:
    """One attack on one model at one ε.

    Targets and starts depend on ``seed`` and the image alone.

    Args:
        eps: radius of the ball, in pixel units of [0, 1], in the norm.
        steps: gradient steps; every sample runs all of them.
        targets: ``random``, ``all``, ``next``, ``least-likely``, ``untargeted`` or a label number as text.
        split: whose images are attacked; models have seen ``train`` and are measured on ``baseline``.
        images: how many images of the split (None: all); smaller sets are subsets of larger ones.
        relative_step_size: step size in units of eps/steps; 2.5 lets an iterate cross the ball and return.
        restarts: number of starts; each image's best result is taken.
        objective: ``target``, ``margin``, ``bug`` or ``feature`` (see ``compute/attacks/objectives.py``).
        stop: ``first-hit`` stops an image where it first reached its target, else ``never``.
        dtype: of the arithmetic inside the network, as requested; x, δ, logits and loss stay float32.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; on which card is no part of the attack.
        yes: agrees to more than 100 targets an image; no part of the attack.
        attack_by: what takes the place of our steps, with settings of its own; None for our steps.
    """

    eps: float
    steps: int = 100
    targets: str = "random"
    seed: int = 0
    images: int | None = None
    norm: str = "linf"
    relative_step_size: float = 2.5
    random_start: bool = True
    restarts: int = 1
    objective: str = "target"
    stop: str = "never"
    split: str = "attack"
    dtype: str = "auto"
    device: str = "auto"
    yes: bool = False
    attack_by: AttackBy | None = None

    def __post_init__(self) -> None:
        limit = largest_eps(self.norm)
        check("eps", self.eps, is_positive(self.eps) and self.eps <= limit, f"a number in (0, {limit:g}]")
        check("restarts", self.restarts, self.restarts >= 1, "a whole number from 1")
        check("steps", self.steps, self.steps >= 1, "a whole number from 1")
        check(
            "relative_step_size", self.relative_step_size, is_positive(self.relative_step_size),
            "a number above 0",
        )  # fmt: skip
        for name, choices in ATTACK_CHOICES.items():
            value = getattr(self, name)
            check_choice(name, value, choices)
        check("images", self.images, self.images is None or self.images >= 1, "a whole number from 1")
        check_device(self.device)
        if self.attack_by is not None:
            self._check_not_ours(self.attack_by)

    def _check_not_ours(self, by: AttackBy) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            ok = each.name not in OF_OUR_STEPS or value == each.default
            check(each.name, value, ok, f"left out: {by.name} has settings of its own, --set KEY=VALUE")

    @property
    def step_size(self) -> float:
        """Length of one step in pixel units."""
        return self.relative_step_size * self.eps / self.steps

    def canonical(self) -> dict[str, Any]:
        """Return the content of an attack's ``config_hash``, without the attacked model and the data."""
        settings = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in UNHASHED}
        if self.attack_by is not None:
            settings = {name: value for name, value in settings.items() if name not in OF_OUR_STEPS}
            settings["attack_by"] = self.attack_by.canonical()
        return {"kind": "attack", **settings, "device": device_kind(self.device)}


# The attack that robust accuracy is measured with, by data set: the same for every training method.
ROBUST_CHECKS = {
    "digits": AttackConfig(eps=4 / 255, steps=20, targets="untargeted", dtype="float32"),
    "cifar10": AttackConfig(eps=8 / 255, steps=20, targets="untargeted", images=1000, dtype="float32"),
    "svhn": AttackConfig(eps=8 / 255, steps=20, targets="untargeted", images=1000, dtype="float32"),
    # The usual radii: 0.3 of MNIST (Madry et al. 2018), 0.1 of what is harder to tell in grey.
    "mnist": AttackConfig(eps=76.5 / 255, steps=20, targets="untargeted", images=1000, dtype="float32"),
    "fashion-mnist": AttackConfig(
        eps=25.5 / 255, steps=20, targets="untargeted", images=1000, dtype="float32"
    ),
    "kmnist": AttackConfig(eps=25.5 / 255, steps=20, targets="untargeted", images=1000, dtype="float32"),
    "cifar100": AttackConfig(eps=8 / 255, steps=20, targets="untargeted", images=1000, dtype="float32"),
}
