"""Records that travel between the stages: one chunk of samples, then the same chunk's scores.

Arrays are NumPy, row i of each belongs to attempt i, and nothing here knows a database or a GPU.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNTARGETED = -1  # requested_target of an attempt that may end at any wrong label
SEEN_SPLITS = ("train", "baseline")  # whose images models have seen, or are measured on
SMALLEST_RHO = 0.05  # in bits, of a baseline that JSΔ may be divided by
LARGEST_JS_DELTA = 1.0 / SMALLEST_RHO  # a divergence has at most one bit
FILE_SPLIT = "file"  # the split of images that came with their samples and are stored beside them
FOLDED, PLAIN = "folded", "plain"  # the copy of a model that gradient steps run on


@dataclass(frozen=True, slots=True)
class Attempts:
    """``n`` pairs of an image and a requested target.

    Attributes:
        sample_index: stable index of the clean image in its split, ``(n,)``.
        source_label: its label y, ``(n,)``.
        requested_target: the label t aimed at, ``(n,)``; −1 for any wrong label.
    """

    sample_index: NDArray[np.int64]
    source_label: NDArray[np.int64]
    requested_target: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.sample_index)

    def chunk(self, position: int, size: int) -> "Attempts":
        """Return the attempts of one chunk; the last chunk may be shorter."""
        return self.pick(slice(position * size, (position + 1) * size))

    def pick(self, rows: "slice | NDArray[np.int64]") -> "Attempts":
        """Return some rows."""
        return Attempts(self.sample_index[rows], self.source_label[rows], self.requested_target[rows])


@dataclass(frozen=True, slots=True)
class Samples:
    """The result of an attack on one chunk of attempts.

    Attributes:
        attempts: the attempts, in order.
        target_label: label aimed at (targeted) or reached (untargeted), ``(n,)``.
        success: the attacked model classified x correctly and x_adv as the target, ``(n,)``.
        confidence: the attacked model's probability of ``target_label`` on x_adv, ``(n,)``.
        linf: largest change of a pixel, ``(n,)``, in [0, 1].
        l2: Euclidean length of the change, ``(n,)``.
        x: the clean images, float32 ``(n, c, h, w)`` in [0, 1].
        delta: the change at stored precision, ``(n, c, h, w)``: float16, float32 for samples made
            elsewhere; x + delta, clipped to [0, 1] in float32, is the image that was checked and scored.
        clean_logits, logits: the attacked model's on x and on x_adv, float32 ``(n, classes)``.
    """

    attempts: Attempts
    target_label: NDArray[np.int64]
    success: NDArray[np.bool_]
    confidence: NDArray[np.float64]
    linf: NDArray[np.float64]
    l2: NDArray[np.float64]
    x: NDArray[np.float32]
    delta: NDArray[np.floating[Any]]
    clean_logits: NDArray[np.float32]
    logits: NDArray[np.float32]

    def pick(self, rows: "slice | NDArray[np.int64]") -> "Samples":
        """Return some rows."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "attempts"}
        return Samples(self.attempts.pick(rows), **{name: array[rows] for name, array in arrays.items()})

    def joined(self, other: "Samples") -> "Samples":
        """Return these rows and then the others."""
        names = [field.name for field in fields(self) if field.name != "attempts"]
        one, two = self.attempts, other.attempts
        attempts = (np.concatenate([getattr(one, f.name), getattr(two, f.name)]) for f in fields(one))
        return Samples(
            Attempts(*attempts),
            **{name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in names},
        )


@dataclass(frozen=True, slots=True)
class Effort:
    """What it took to attack a chunk.

    Attributes:
        sub_batch: attempts that were attacked at a time; None for all of them.
        forward_passes, backward_passes: images that went through the attacked model while it was attacked,
            added up over the passes; None where nobody counted.
    """

    sub_batch: int | None = None
    forward_passes: int | None = None
    backward_passes: int | None = None


@dataclass(frozen=True, slots=True)
class Scores:
    """The evaluators' scores of one chunk of samples; divergences in bits.

    Attributes:
        attempts: the attempts, in order.
        js: mean divergence over the evaluators, ``(n,)``.
        js_of_mean: divergence of the evaluators' mean outputs, ``(n,)``.
        js_delta: js over the baseline of the label pair, ``(n,)``; NaN where the pair has none.
        js_attacked: the attacked model's own divergence, ``(n,)``.
        n_right: number of evaluators that predict y on x, ``(n,)``.
        n_at_target: number that predict t on x already, ``(n,)``.
        n_at_target_adv: number that predict t on x_adv, ``(n,)``.
        n_right_adv: number that predict y on x_adv, ``(n,)``.
        member_js: each evaluator's divergence, float32 ``(n, evaluators)``, in member order.
        js_of_mean_without: divergence of the mean outputs without each evaluator, float32
            ``(n, evaluators)``; ``(n, 0)`` of a single one, without which none is left.
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
    n_right_adv: NDArray[np.int64]
    member_js: NDArray[np.float32]
    js_of_mean_without: NDArray[np.float32]
    logits: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Baseline:
    """The divergence of one model or a set of evaluators between clean images of two labels, in bits.

    Attributes:
        rho: mean divergence over clean pairs.
        rho_of_mean: the same for the mean outputs of a set; equal to ``rho`` for one model.
        rho_of_mean_without: for the mean outputs without each evaluator; empty of one model, and of baselines
            from before there was such a column.
        standard_error: of ``rho``, from the spread of the image means (pairs share images).
        pairs: number of clean pairs compared.
        images: the smaller of the two labels' image counts.
    """

    rho: float
    rho_of_mean: float
    standard_error: float
    pairs: int
    images: int
    rho_of_mean_without: tuple[float, ...] = ()

    @property
    def is_defined(self) -> bool:
        """True if JSΔ may be divided by it: large and certain enough, on enough images."""
        return self.rho >= SMALLEST_RHO and self.standard_error <= 0.1 * self.rho and self.images >= 10


@dataclass(frozen=True, slots=True)
class ImageMeans:
    """Each image's mean divergence from the images of the other label, of one model and label pair.

    The mean over images is ρ; their spread is its standard error. Means over members are means of
    these, so a set of evaluators needs no second pass over the pairs.

    Attributes:
        low, high: per image of the lower and the higher label, float64 ``(n_low,)`` and ``(n_high,)``.
        n_drawn: how many image pairs were compared, where it was a draw of them; None for all.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    n_drawn: int | None = None

    @property
    def rho(self) -> float:
        """Mean divergence over all pairs."""
        return float(self.low.mean())

    @property
    def standard_error(self) -> float:
        """Standard error of ``rho``: pairs share images, so the images are the independent draws.

        Infinite where a label has a single image.
        """
        if min(len(self.low), len(self.high)) < 2:
            return float("inf")
        return float(np.sqrt(self.low.var(ddof=1) / len(self.low) + self.high.var(ddof=1) / len(self.high)))

    def as_baseline(
        self, rho_of_mean: float | None = None, rho_of_mean_without: tuple[float, ...] = ()
    ) -> Baseline:
        """Return the summary that JSΔ divides by."""
        return Baseline(
            rho=self.rho,
            rho_of_mean=self.rho if rho_of_mean is None else rho_of_mean,
            standard_error=self.standard_error,
            pairs=self.n_drawn or len(self.low) * len(self.high),
            images=min(len(self.low), len(self.high)),
            rho_of_mean_without=rho_of_mean_without,
        )


LabelPair = tuple[int, int]  # unordered: the lower label first
Baselines = dict[LabelPair, Baseline]


def label_pair(one: int, other: int) -> LabelPair:
    """Return the unordered pair, the key of a baseline."""
    return (one, other) if one < other else (other, one)


@dataclass(frozen=True, slots=True)
class Control:
    """The outcome of a control: a value whose answer is known beforehand.

    Attributes:
        value: the measured one; None if nothing could be measured.
        low, high: allowed bounds, included; None for no bound.
        has_verdict: False if the value is only shown.
    """

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    has_verdict: bool = True

    @property
    def passed(self) -> bool | None:
        """True if the value is within its bounds; None without a verdict."""
        if self.value is None or not self.has_verdict:
            return None
        return (self.low is None or self.value >= self.low) and (self.high is None or self.value <= self.high)
