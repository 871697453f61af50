"""Construction configuration: a data set made with a trained model."""

from dataclasses import asdict, dataclass
from typing import Any

from jsdelta_db.config.checks import DTYPES, check, check_choice, check_device, device_kind, is_positive
from jsdelta_db.config.eps import LARGEST_L2
from jsdelta_db.errors import UsageError

FEATURE_KINDS = ("robust", "nonrobust")  # another image with the features of x
BALL_KINDS = ("rand", "det")  # x itself, moved a little towards another label
CONSTRUCTION_KINDS = (*FEATURE_KINDS, *BALL_KINDS)


@dataclass(frozen=True, slots=True)
class ConstructionRequest:
    """A construction as a user asks for it; None for the usual size (``compute/constructions/sizes.py``)."""

    kind: str
    steps: int | None = None
    step_size: float | None = None
    eps: float | None = None
    images: int | None = None
    seed: int = 0
    dtype: str = "auto"
    device: str = "auto"


@dataclass(frozen=True, slots=True)
class ConstructionConfig:
    """The construction of a data set with a trained model.

    Args:
        kind: ``robust``, ``nonrobust``, ``rand`` or ``det``.
        steps: gradient steps an image.
        step_size: length of a step, l2.
        eps: radius of the l2 ball; None for the kinds that have none.
        images: how many images of the train split (None: all).
        seed: decides the start images, or the labels that are drawn.
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
        check_choice("kind", self.kind, CONSTRUCTION_KINDS)
        check("steps", self.steps, self.steps >= 1, "a whole number from 1")
        sized = is_positive(self.step_size) and self.step_size <= LARGEST_L2
        check("step_size", self.step_size, sized, f"a number in (0, {LARGEST_L2:g}]")
        check("images", self.images, self.images is None or self.images >= 1, "a whole number from 1")
        if (self.eps is None) != (self.kind in FEATURE_KINDS):
            raise UsageError(
                f"--eps {self.eps} does not fit a {self.kind} data set; {' and '.join(BALL_KINDS)} stay in a "
                f"ball, {' and '.join(FEATURE_KINDS)} have none"
            )
        if self.eps is not None:
            valid = is_positive(self.eps) and self.eps <= LARGEST_L2
            check("eps", self.eps, valid, f"a number in (0, {LARGEST_L2:g}]")
        check("seed", self.seed, self.seed >= 0, "a whole number from 0")
        check_choice("dtype", self.dtype, DTYPES)
        check_device(self.device)

    def canonical(self) -> dict[str, Any]:
        """Return the content of a data set's ``config_hash``, without the model and its data."""
        return {"kind_of_run": "construction", **asdict(self), "device": device_kind(self.device)}
