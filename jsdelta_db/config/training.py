"""Training configuration: a method, its settings and the usual hyper-parameters."""

from dataclasses import asdict, dataclass
from typing import Any

from jsdelta_db.config.checks import (
    DTYPES,
    MOST_EPOCHS,
    MOST_STEPS,
    MOST_WIDTH,
    NORMS,
    check,
    check_choice,
    check_device,
    device_kind,
    is_not_negative,
    is_positive,
)
from jsdelta_db.config.eps import largest_eps
from jsdelta_db.errors import UnknownNameError, UsageError

SCHEDULES = ("one-cycle", "constant")

# The settings that belong to one training method alone.
METHOD_FIELDS = {
    "adversarial": ("train_norm", "train_eps", "train_steps", "train_step_size"),
    "sam": ("sam_rho", "sam_adaptive"),
}

METHODS = ("standard", *METHOD_FIELDS)

ARCHITECTURES = ("cnn-small", "resnet8", "resnet20", "resnet18", "resnet50", "vit-small")  # built-in ones

OPTIONAL_FIELDS = {name for names in METHOD_FIELDS.values() for name in names}


def check_method(name: str) -> None:
    """Refuse what is no training method.

    Raises:
        UnknownNameError: no method of that name.
    """
    if name not in METHODS:
        raise UnknownNameError("method", name, METHODS)


def check_architecture(name: str) -> None:
    """Refuse a name that no built-in architecture has; ``module:callable`` is the user's own.

    Raises:
        UnknownNameError: no such built-in name.
    """
    if ":" not in name and name not in ARCHITECTURES:
        raise UnknownNameError("architecture", name, ARCHITECTURES, "or your own as module:callable")


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Everything that decides one member's weights, but the data and the seed.

    Args:
        width: scales the built-in architectures; None for their own default.
        crop_padding: largest shift of a random crop in pixels, 0 for none.
        dtype, device: as requested, before ``auto`` is resolved.
        train_norm, train_eps, train_steps, train_step_size: of adversarial training's inner attack, the
            sizes in pixel units; one step is FGSM with a random start. None for the other methods.
        sam_rho: radius of SAM's ascent step; None for the other methods.
        sam_adaptive: whether the radius is in units of each weight (ASAM); False of SAM if None.
    """

    dataset: str
    arch: str
    epochs: int
    method: str = "standard"
    width: int | None = None
    batch_size: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "one-cycle"
    crop_padding: int = 0
    flip: bool = False
    dtype: str = "auto"
    device: str = "auto"
    train_norm: str | None = None
    train_eps: float | None = None
    train_steps: int | None = None
    train_step_size: float | None = None
    sam_rho: float | None = None
    sam_adaptive: bool | None = None

    def __post_init__(self) -> None:
        if self.method == "sam" and self.sam_adaptive is None:
            object.__setattr__(self, "sam_adaptive", False)
        self._check_method()
        check("epochs", self.epochs, 1 <= self.epochs <= MOST_EPOCHS, f"1 to {MOST_EPOCHS}")
        check("width", self.width, self.width is None or 1 <= self.width <= MOST_WIDTH, f"1 to {MOST_WIDTH}")
        check("batch_size", self.batch_size, self.batch_size >= 1, "a whole number from 1")
        check("learning_rate", self.learning_rate, is_positive(self.learning_rate), "a finite number above 0")
        check("momentum", self.momentum, 0 <= self.momentum < 1, "a number in [0, 1)")
        check("weight_decay", self.weight_decay, is_not_negative(self.weight_decay), "a number from 0")
        check_choice("schedule", self.schedule, SCHEDULES)
        check("crop_padding", self.crop_padding, self.crop_padding >= 0, "a whole number from 0")
        check_choice("dtype", self.dtype, DTYPES)
        check_device(self.device)

    def _check_method(self) -> None:
        """Refuse settings of other methods, and require the method's own."""
        for method, names in METHOD_FIELDS.items():
            for name in names:
                value = getattr(self, name)
                if method != self.method and value is not None:
                    raise UsageError(
                        f"{name} {value!r} belongs to --method {method}, and this is {self.method!r}; "
                        "leave it out",
                        name,
                    )
                if method == self.method and value is None:
                    raise UsageError(
                        f"--method {method} needs {name}; give --{name.replace('_', '-')}, "
                        "or take a recipe of that method (jsdelta recipes list)"
                    )
        if self.method == "adversarial":
            assert self.train_norm is not None
            check_choice("train_norm", self.train_norm, NORMS)
            limit = largest_eps(self.train_norm)
            for name in ("train_eps", "train_step_size"):
                value = getattr(self, name)
                check(name, value, is_positive(value) and value <= limit, f"a number in (0, {limit:g}]")
            check(
                "train_steps",
                self.train_steps,
                1 <= (self.train_steps or 0) <= MOST_STEPS,
                f"1 to {MOST_STEPS}",
            )
        if self.method == "sam":
            assert self.sam_rho is not None
            check("sam_rho", self.sam_rho, is_positive(self.sam_rho), "a finite number above 0")

    def as_recipe(self) -> dict[str, Any]:
        """Return the configuration as a model's row stores it: on which card is no part of it."""
        return {**asdict(self), "device": device_kind(self.device)}

    def canonical(self, seed: int) -> dict[str, Any]:
        """Return the content of a member's ``config_hash``, without the settings of other methods."""
        settings = {
            name: value
            for name, value in self.as_recipe().items()
            if value is not None or name not in OPTIONAL_FIELDS
        }
        return {"kind": "model", "seed": seed, **settings}
