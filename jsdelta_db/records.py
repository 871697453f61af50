"""What travels between the stages: one chunk of samples, then the same chunk's scores.

Arrays are NumPy, row i of each belongs to attempt i, and nothing here knows a database or a GPU.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

UNTARGETED = -1  # requested_target of an attempt that may end at any wrong label


@dataclass(frozen=True, slots=True)
class Attempts:
    """What will be tried: ``n`` pairs of an image and a requested target.

    Attributes:
        sample_index: stable index of the clean image in its split, ``(n,)``.
        source_label: its label y, ``(n,)``.
        requested_target: the label t aimed at, ``(n,)``.
    """

    sample_index: NDArray[np.int64]
    source_label: NDArray[np.int64]
    requested_target: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.sample_index)

    def chunk(self, position: int, size: int) -> "Attempts":
        """Return the attempts of one chunk; the last chunk may be shorter."""
        part = slice(position * size, (position + 1) * size)
        return Attempts(self.sample_index[part], self.source_label[part], self.requested_target[part])


@dataclass(frozen=True, slots=True)
class Samples:
    """What an attack made of one chunk of attempts.

    Attributes:
        attempts: the attempts, in order.
        target_label: label aimed at (targeted) or reached (untargeted), ``(n,)``.
        success: the attacked model called x by its label before and says the target now, ``(n,)``.
        confidence: the attacked model's probability of ``target_label`` on x_adv, ``(n,)``.
        linf: largest change of a pixel, ``(n,)``, in [0, 1].
        l2: Euclidean length of the change, ``(n,)``.
        delta: the change itself at stored precision, float16 ``(n, c, h, w)``; x + delta, clipped to
            [0, 1] in float32, is the image that was checked and scored.
        logits: the attacked model's logits on x_adv, float32 ``(n, classes)``.
    """

    attempts: Attempts
    target_label: NDArray[np.int64]
    success: NDArray[np.bool_]
    confidence: NDArray[np.float64]
    linf: NDArray[np.float64]
    l2: NDArray[np.float64]
    delta: NDArray[np.float16]
    logits: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Scores:
    """What the evaluators say of one chunk of samples; divergences in bits.

    Attributes:
        attempts: the attempts, in order.
        js: mean divergence over the evaluators, ``(n,)``.
        js_of_mean: divergence of the evaluators' mean outputs, ``(n,)``.
        js_delta: js over the baseline of the label pair, ``(n,)``; NaN where the pair has none.
        js_attacked: the attacked model's own divergence, ``(n,)``.
        n_right: evaluators that say y on x, ``(n,)``.
        n_at_target: evaluators that say t on x already, ``(n,)``.
        n_at_target_adv: evaluators that say t on x_adv, ``(n,)``.
        member_js: each evaluator's divergence, float32 ``(n, evaluators)``, in member order.
        logits: each evaluator's logits on x_adv, float32 ``(evaluators, n, classes)``.
    """

    attempts: Attempts
    js: NDArray[np.float64]
    js_of_mean: NDArray[np.float64]
    js_delta: NDArray[np.float64]
    js_attacked: NDArray[np.float64]
    n_right: NDArray[np.int64]
    n_at_target: NDArray[np.int64]
    n_at_target_adv: NDArray[np.int64]
    member_js: NDArray[np.float32]
    logits: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a real change between two labels does to a model or to a set of evaluators, in bits.

    Attributes:
        rho: mean divergence over clean pairs.
        rho_of_mean: the same for the mean outputs of a set; equal to ``rho`` for one model.
        standard_error: of ``rho``, from the spread of the image means (pairs share images).
        pairs: how many clean pairs were compared.
        images: the smaller of the two labels' image counts.
    """

    rho: float
    rho_of_mean: float
    standard_error: float
    pairs: int
    images: int

    @property
    def is_defined(self) -> bool:
        """Whether JSΔ may be divided by it: large enough, sure enough, on enough images."""
        return self.rho >= 0.05 and self.standard_error <= 0.1 * self.rho and self.images >= 10


LabelPair = tuple[int, int]  # unordered: the lower label first
Baselines = dict[LabelPair, Baseline]


def label_pair(one: int, other: int) -> LabelPair:
    """Return the unordered pair, the key of a baseline."""
    return (one, other) if one < other else (other, one)
