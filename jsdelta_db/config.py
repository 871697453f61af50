"""What a run is asked to do: frozen, validated when made, hashed to recognise the same run again."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from jsdelta_db.errors import UsageError

DEFAULT_BETAS = (0.01, 0.05, 0.10)  # strict, middling, borderline
DTYPES = ("auto", "float32", "bfloat16")
DEVICES = ("auto", "cpu", "cuda")
SCHEDULES = ("one-cycle", "constant")
TEMPERATURE_ONE, TEMPERATURE_FIT = TEMPERATURES = ("1", "fit")
# What an attack can carry out: a row must not record a setting that nothing obeyed.
NORMS = ("linf", "l2")
OBJECTIVES = ("target", "margin", "bug", "feature")
SURROGATE_OBJECTIVES = ("bug", "feature")  # these look at held-back models, too
ATTACK_CHOICES = {
    "norm": NORMS,
    "objective": OBJECTIVES,
    "stop": ("never", "first-hit"),
    "split": ("train", "baseline", "attack"),
    "dtype": DTYPES,
}
# or one label, by name or number
TARGET_RULES = ("random", "all", "next", "least-likely", "untargeted")
LARGEST_L2 = 1000.0  # beyond the diagonal of a 1,000 × 1,000 image; a slip of the keyboard


def parse_eps(text: str, norm: str = "linf", option: str = "--eps") -> float:
    """Read a perturbation size; complaints name the option.

    For linf a bare number is in units of 1/255 (``3`` is 3/255) and a fraction is taken as written
    (``8/255``); for every other norm a number is as written, in that norm's unit (``0.5``).

    Raises:
        UsageError: not a number, or outside (0, 1] after conversion (l2: outside (0, 1000]).
    """
    valid = (
        "valid is a number in (0, 255], in units of 1/255, or a fraction such as 8/255"
        if norm == "linf"
        else f"valid for {norm} is a number in (0, {LARGEST_L2:g}] such as 0.5"
    )
    numerator, slash, denominator = text.strip().partition("/")
    try:
        divisor = float(denominator) if slash else 255.0 if norm == "linf" else 1.0
        eps = float(numerator) / divisor
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"{option} {text!r} is not a perturbation size; {valid}") from None
    if not (0.0 < eps <= largest_eps(norm) and divisor > 0):
        raise UsageError(f"{option} {text!r} is out of range; {valid}")
    return eps


def largest_eps(norm: str) -> float:
    """Return the largest radius that makes sense: all of [0, 1] for linf."""
    return 1.0 if norm == "linf" else LARGEST_L2


def format_eps(eps: float, norm: str = "linf") -> str:
    """Show a stored ε: ``3/255`` where it is a whole number of pixel levels, else the plain number."""
    levels = eps * 255
    if norm == "linf" and round(levels) >= 1 and abs(levels - round(levels)) < 1e-6:
        return f"{round(levels)}/255"
    return f"{levels:.4g}/255" if norm == "linf" else f"{eps:g}"


def check_beta(beta: float) -> float:
    """Return β if it can be a threshold on JSΔ, which has no upper bound.

    Raises:
        UsageError: not in (0, ∞).
    """
    if not (math.isfinite(beta) and beta > 0.0):
        raise UsageError(f"β = {beta:g} is out of range; valid is a number above 0, such as 0.01 or 0.10")
    return beta


def config_hash(configuration: Mapping[str, Any], parents: Sequence[str]) -> str:
    """Hash a canonical configuration and the uids of what it builds on (sha256, 64 hex digits)."""
    canonical = json.dumps(
        [dict(configuration), list(parents)], sort_keys=True, separators=(",", ":"), allow_nan=False
    )
    return hashlib.sha256(canonical.encode()).hexdigest()


def _check(name: str, value: object, ok: bool, valid: str) -> None:
    if not ok:
        raise UsageError(f"{name} {value!r} is not valid; valid is {valid}")


def _is_positive(value: float) -> bool:
    return math.isfinite(value) and value > 0


def _is_not_negative(value: float) -> bool:
    return math.isfinite(value) and value >= 0


FEATURE_KINDS = ("robust", "nonrobust")  # another image with the features of x
BALL_KINDS = ("rand", "det")  # x itself, moved a little towards another label
CONSTRUCTION_KINDS = (*FEATURE_KINDS, *BALL_KINDS)
# The settings that belong to one training method alone.
METHOD_FIELDS = {
    "adversarial": ("train_norm", "train_eps", "train_steps", "train_step_size"),
    "sam": ("sam_rho", "sam_adaptive"),
}
OPTIONAL_FIELDS = {name for names in METHOD_FIELDS.values() for name in names}


# Beyond these a number was mistyped: nothing would come of it for days, or no machine could hold it.
MOST_EPOCHS, MOST_WIDTH, MOST_STEPS = 100_000, 4_096, 10_000


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
        _check("epochs", self.epochs, 1 <= self.epochs <= MOST_EPOCHS, f"1 to {MOST_EPOCHS}")
        _check("width", self.width, self.width is None or 1 <= self.width <= MOST_WIDTH, f"1 to {MOST_WIDTH}")
        _check("batch_size", self.batch_size, self.batch_size >= 1, "a whole number from 1")
        _check(
            "learning_rate", self.learning_rate, _is_positive(self.learning_rate), "a finite number above 0"
        )
        _check("momentum", self.momentum, 0 <= self.momentum < 1, "a number in [0, 1)")
        _check("weight_decay", self.weight_decay, _is_not_negative(self.weight_decay), "a number from 0")
        _check("schedule", self.schedule, self.schedule in SCHEDULES, " or ".join(SCHEDULES))
        _check("crop_padding", self.crop_padding, self.crop_padding >= 0, "a whole number from 0")
        _check("dtype", self.dtype, self.dtype in DTYPES, ", ".join(DTYPES))
        _check("device", self.device, self.device in DEVICES, ", ".join(DEVICES))

    def _check_method(self) -> None:
        """Refuse settings that the method would not obey, and ask for those that it needs."""
        for method, names in METHOD_FIELDS.items():
            for name in names:
                value = getattr(self, name)
                if method != self.method and value is not None:
                    raise UsageError(
                        f"{name} {value!r} belongs to --method {method}, and this is {self.method!r}; "
                        "leave it out"
                    )
                if method == self.method and value is None:
                    raise UsageError(
                        f"--method {method} needs {name}; give --{name.replace('_', '-')}, "
                        "or take a recipe of that method (jsdelta recipes list)"
                    )
        if self.method == "adversarial":
            assert self.train_norm is not None
            _check("train_norm", self.train_norm, self.train_norm in NORMS, ", ".join(NORMS))
            limit = largest_eps(self.train_norm)
            for name in ("train_eps", "train_step_size"):
                value = getattr(self, name)
                _check(name, value, _is_positive(value) and value <= limit, f"a number in (0, {limit:g}]")
            _check(
                "train_steps",
                self.train_steps,
                1 <= (self.train_steps or 0) <= MOST_STEPS,
                f"1 to {MOST_STEPS}",
            )
        if self.method == "sam":
            assert self.sam_rho is not None
            _check("sam_rho", self.sam_rho, _is_positive(self.sam_rho), "a finite number above 0")

    def canonical(self, seed: int) -> dict[str, Any]:
        """Return what a member's ``config_hash`` is made of: of a method's own settings those it has."""
        settings = {
            name: value
            for name, value in asdict(self).items()
            if value is not None or name not in OPTIONAL_FIELDS
        }
        return {"kind": "model", "seed": seed, **settings}


TRAIN_FIELDS = {field.name for field in fields(TrainConfig)}


@dataclass(frozen=True, slots=True)
class AttackConfig:
    """One attack on one model at one ε; targets and starts depend on ``seed`` and the image alone.

    Args:
        eps: radius of the ball, in pixel units of [0, 1], in the norm.
        steps: gradient steps; every sample runs all of them.
        targets: ``random``, ``all``, ``next``, ``least-likely``, ``untargeted`` or a label number as text.
        images: how many images of the attack split (None: all); smaller sets are subsets of larger ones.
        relative_step_size: step size in units of eps/steps; 2.5 lets an iterate cross the ball and return.
        restarts: how many starts; the best end of each image is kept.
        objective: ``target``, ``margin``, ``bug`` or ``feature`` (see ``attacks/objectives.py``).
        stop: ``first-hit`` leaves an image where it first reached its target: other samples, another attack.
        dtype: of the arithmetic inside the network, as requested; x, δ, logits and loss stay float32.
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

    def __post_init__(self) -> None:
        limit = largest_eps(self.norm)
        _check("eps", self.eps, _is_positive(self.eps) and self.eps <= limit, f"a number in (0, {limit:g}]")
        _check("restarts", self.restarts, self.restarts >= 1, "a whole number from 1")
        _check("steps", self.steps, self.steps >= 1, "a whole number from 1")
        _check(
            "relative_step_size", self.relative_step_size, _is_positive(self.relative_step_size),
            "a number above 0",
        )  # fmt: skip
        for name, choices in ATTACK_CHOICES.items():
            value = getattr(self, name)
            _check(name, value, value in choices, ", ".join(map(str, choices)))
        _check("images", self.images, self.images is None or self.images >= 1, "a whole number from 1")
        _check("device", self.device, self.device in DEVICES, ", ".join(DEVICES))

    @property
    def step_size(self) -> float:
        """Length of one step in pixel units."""
        return self.relative_step_size * self.eps / self.steps

    def canonical(self) -> dict[str, Any]:
        """Return what an attack's ``config_hash`` is made of, beside the attacked model and the data."""
        return {"kind": "attack", **asdict(self)}


# What robust accuracy means, by data set: one attack, the same for every training method.
ROBUST_CHECKS = {
    "digits": AttackConfig(eps=4 / 255, steps=20, targets="untargeted", dtype="float32"),
    "cifar10": AttackConfig(eps=8 / 255, steps=20, targets="untargeted", images=1000, dtype="float32"),
    "svhn": AttackConfig(eps=8 / 255, steps=20, targets="untargeted", images=1000, dtype="float32"),
}


@dataclass(frozen=True, slots=True)
class ConstructionConfig:
    """A data set made with a trained model.

    Args:
        kind: ``robust``, ``nonrobust``, ``rand`` or ``det``.
        steps: gradient steps an image.
        step_size: length of a step, l2.
        eps: radius of the l2 ball; None for the kinds that have none.
        images: how many images of the train split (None: all).
        seed: decides which images are started from, or which labels are drawn.
    """

    kind: str
    steps: int
    step_size: float
    eps: float | None = None
    images: int | None = None
    seed: int = 0
    dtype: str = "auto"
    device: str = "auto"

    def __post_init__(self) -> None:
        _check("kind", self.kind, self.kind in CONSTRUCTION_KINDS, ", ".join(CONSTRUCTION_KINDS))
        _check("steps", self.steps, self.steps >= 1, "a whole number from 1")
        sized = _is_positive(self.step_size) and self.step_size <= LARGEST_L2
        _check("step_size", self.step_size, sized, f"a number in (0, {LARGEST_L2:g}]")
        _check("images", self.images, self.images is None or self.images >= 1, "a whole number from 1")
        if (self.eps is None) != (self.kind in FEATURE_KINDS):
            raise UsageError(
                f"--eps {self.eps} does not fit a {self.kind} data set; {' and '.join(BALL_KINDS)} stay in a "
                f"ball, {' and '.join(FEATURE_KINDS)} have none"
            )
        if self.eps is not None:
            valid = _is_positive(self.eps) and self.eps <= LARGEST_L2
            _check("eps", self.eps, valid, f"a number in (0, {LARGEST_L2:g}]")
        _check("seed", self.seed, self.seed >= 0, "a whole number from 0")
        _check("dtype", self.dtype, self.dtype in DTYPES, ", ".join(DTYPES))
        _check("device", self.device, self.device in DEVICES, ", ".join(DEVICES))

    def canonical(self) -> dict[str, Any]:
        """Return what a data set's ``config_hash`` is made of, beside the model and the data."""
        return {"kind_of_run": "construction", **asdict(self)}


@dataclass(frozen=True, slots=True)
class EvaluationConfig:
    """How samples are judged: the rules for the softmax temperature and for the baseline.

    ``temperature`` is ``1``, or ``fit`` for one temperature per evaluator, the likeliest on the baseline
    split. The baseline has one rule so far: ρ over all clean pairs of the baseline split.
    """

    temperature: str = TEMPERATURE_ONE
    baseline: str = "clean-pairs"

    def __post_init__(self) -> None:
        _check("--temperature", self.temperature, self.temperature in TEMPERATURES, " or ".join(TEMPERATURES))

    def canonical(self) -> dict[str, Any]:
        """Return what an evaluation's ``config_hash`` is made of, beside the attack and the evaluators."""
        return {"kind": "evaluation", **asdict(self)}
