"""Usual sizes of the constructions: the paper's, and smaller ones for the digits."""

from dataclasses import asdict, dataclass

from jsdelta_db.config.construction import FEATURE_KINDS, ConstructionConfig, ConstructionRequest


@dataclass(frozen=True, slots=True)
class Sizes:
    """Steps of a length, l2, and the radius of the ball; None for no ball."""

    steps: int
    step_size: float
    eps: float | None


# Source: Ilyas et al. 2019, section 3 and appendix C.
OF_FEATURES, OF_LABELS = Sizes(1000, 0.1, None), Sizes(100, 0.1, 0.5)
# 8×8 at 1/8 contrast: two digits are 0.4 apart (median, l2), two images of CIFAR-10 18. Measured with one
# seed of the digits recipes: 200 steps of 0.01 bring the features within 3 % (robust) and 8 % (nonrobust),
# 1,000 no further; in a ball of 0.2 all images reach their label (0.1: 55 to 61 %), and networks trained
# on D_rand and D_det have 89 and 64 % right on the real test images.
DIGITS_OF_FEATURES, DIGITS_OF_LABELS = Sizes(200, 0.01, None), Sizes(40, 0.02, 0.2)


def choose_sizes(kind: str, root: str) -> Sizes:
    """Return the usual sizes of a construction, by the builtin data set it starts from."""
    if root == "digits":
        return DIGITS_OF_FEATURES if kind in FEATURE_KINDS else DIGITS_OF_LABELS
    return OF_FEATURES if kind in FEATURE_KINDS else OF_LABELS


def configure(request: ConstructionRequest, root: str) -> ConstructionConfig:
    """Return a construction's configuration, with the usual sizes where none are given.

    Args:
        root: name of the builtin data set at the start of the chain of parents.

    Raises:
        UsageError: an unknown kind, or a value that is not valid.
    """
    usual = choose_sizes(request.kind, root)
    given = {name: value for name, value in asdict(request).items() if value is not None}
    return ConstructionConfig(**{**asdict(usual), **given})
