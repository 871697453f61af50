"""Distributions of JSΔ: bins, shares below, and quantiles of the successful samples of each group."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.config.evaluation import check_beta
from jsdelta_db.errors import UsageError
from jsdelta_db.queries.grouping import Table, common_norm, estimate_cells, resolve_keys
from jsdelta_db.queries.pooling import count_once, find_pooled
from jsdelta_db.queries.selection import Row, Selection, list_evaluations
from jsdelta_db.queries.statistics import Estimate, Share, shares
from jsdelta_db.queries.successes import Successes, read_successes
from jsdelta_db.store.reading import Reader, without_collecting

HISTOGRAM_KEYS = (
    "js_delta_from", "js_delta_to", "n_success", "n", "share", "share_low", "share_high", "covers",
    "n_images",
)  # fmt: skip
QUANTILE_KEYS = (
    "q", "n_success", "js_delta", "js_delta_low", "js_delta_high", "covers", "n_images",
)  # fmt: skip
BELOW_KEYS = (
    "js_delta", "n_success", "n_below", "share_below", "share_below_low", "share_below_high", "covers",
    "n_images",
)  # fmt: skip
RADIUS = ("norm", "eps")  # what a figure's columns tell apart
DEFAULT_BINS, MOST_BINS = 40, 1000  # between JSΔ = 0 and 1
DEFAULT_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
LAST_EDGE = 1.5  # the last bin holds everything from here on: JSΔ has no upper bound
COARSE = 64  # ranks at which intervals are computed at once, before one is sought between two of them

Floats = NDArray[np.float64]
Count = Callable[[Successes], Iterator[Row]]


def choose_edges(bins: int, betas: Sequence[float]) -> list[float]:
    """Return the edges of bins, the last of which is open; every β is one, so that bins add up to bugs.

    The width is the one closest to 1 / bins that divides the largest β; a β between two edges divides a bin.

    Raises:
        UsageError: bins out of range, or a β outside (0, ∞).
    """
    if not 1 <= bins <= MOST_BINS:
        raise UsageError(f"--bins {bins} is out of range: must be a whole number from 1 to {MOST_BINS}")
    for beta in betas:
        check_beta(beta)
    largest = max(betas, default=1.0)
    width = largest / max(1, round(largest * bins))
    last = max(LAST_EDGE, largest)
    edges = {round(step * width, 12) for step in range(round(last / width) + 1)}
    kept = [edge for edge in edges if not any(abs(edge - beta) < 1e-9 for beta in betas)]
    return sorted([*kept, *dict.fromkeys(map(float, betas))])


def query_histogram(
    reader: Reader,
    bins: int = DEFAULT_BINS,
    betas: Sequence[float] = (),
    by: Sequence[str] = (),
    selection: Selection = Selection(),  # noqa: B008 frozen
) -> Table:
    """Return how many successful samples have a JSΔ in each bin, ``js_delta_to`` excluded, None the last.

    Args:
        bins: between 0 and 1; see :func:`choose_edges`.
        betas: thresholds that bins end at.

    Raises:
        UsageError: as :func:`choose_edges`, or an unknown grouping.
    """
    edges = choose_edges(bins, betas)

    def count(group: Successes) -> Iterator[Row]:
        place = np.searchsorted(edges, group.js_delta, side="right") - 1
        n_images = group.n_images
        cells = np.bincount(place * n_images + group.image, minlength=len(edges) * n_images)
        hits = cells.reshape(len(edges), n_images).astype(np.float64)
        for (low, high), n, share in zip(
            pairwise([*edges, None]), hits.sum(1), shares(hits, hits.sum(0)), strict=True
        ):
            yield {
                "js_delta_from": low, "js_delta_to": high, "n_success": len(place), "n": int(n),
                **estimate_cells("share", share), **_tell_images(share),
            }  # fmt: skip

    return _query(reader, by, selection, count)


def query_below(
    reader: Reader,
    points: Sequence[float],
    by: Sequence[str] = (),
    selection: Selection = Selection(),  # noqa: B008 frozen
) -> Table:
    """Return the share of successful samples with a JSΔ below each of some points, ascending."""

    def count(group: Successes) -> Iterator[Row]:
        n_images, ordered = group.n_images, np.argsort(group.js_delta, kind="stable")
        ranks = np.searchsorted(group.js_delta[ordered], points, side="left")
        hits = _count_first(group.image[ordered], ranks, n_images)
        trials = np.bincount(group.image, minlength=n_images).astype(np.float64)
        for point, n, share in zip(points, ranks.tolist(), shares(hits, trials), strict=True):
            yield {
                "js_delta": float(point), "n_success": len(ordered), "n_below": n,
                **estimate_cells("share_below", share), **_tell_images(share),
            }  # fmt: skip

    return _query(reader, by, selection, count)


def query_quantiles(
    reader: Reader,
    quantiles: Sequence[float] = DEFAULT_QUANTILES,
    by: Sequence[str] = (),
    selection: Selection = Selection(),  # noqa: B008 frozen
) -> Table:
    """Return quantiles of the JSΔ of successful samples, interpolated, each with its interval.

    The interval holds the values that the share below does not speak against: those at which its own
    interval holds the quantile. An upper bound is None where no value is too large.

    Raises:
        UsageError: a quantile outside (0, 1), or an unknown grouping.
    """
    for q in quantiles:
        if not 0.0 < q < 1.0:
            raise UsageError(f"quantile {q:g} is out of range: must be a number between 0 and 1, such as 0.5")

    def count(group: Successes) -> Iterator[Row]:
        finder = _Finder(group)
        for q in quantiles:
            yield {
                "q": float(q), "n_success": len(group.js_delta),
                **estimate_cells("js_delta", finder.estimate(q)), **_tell_images(finder.whole),
            }  # fmt: skip

    return _query(reader, by, selection, count)


@without_collecting()
def _query(reader: Reader, by: Sequence[str], selection: Selection, count: Count) -> Table:
    """Return the rows that a function makes of each group, as ``query bugs`` groups."""
    evaluations = list_evaluations(reader, selection)
    asked = resolve_keys(by, evaluations)
    keys, counted = count_once(evaluations, asked, selection.named_facts)
    rows = [
        {**group.facts, **row}
        for group in read_successes(reader, counted, keys, selection.population)
        for row in count(group)
    ]
    return Table(
        keys, rows, find_pooled(counted, keys), common_norm(counted), separated=keys[len(asked) :],
        n_left_out=len(evaluations) - len(counted),
    )  # fmt: skip


def _tell_images(share: Share) -> Row:
    return {"covers": "images" if share.n_images > 1 else None, "n_images": share.n_images}


def _count_first(image: NDArray[np.int32], ranks: Sequence[int] | NDArray[np.int64], n_images: int) -> Floats:
    """Return how many of the first k attempts each image has, for each k of ascending ranks."""
    pieces = [np.bincount(image[low:high], minlength=n_images) for low, high in pairwise([0, *ranks])]
    return np.cumsum(np.stack(pieces), axis=0).astype(np.float64)


class _Finder:
    """Finds quantiles and their bounds: the share among the first k attempts, ascending by JSΔ."""

    def __init__(self, group: Successes) -> None:
        order = np.argsort(group.js_delta, kind="stable")
        self.js_delta, self.image = group.js_delta[order], group.image[order]
        self.n_images, n = group.n_images, len(order)
        self.trials = np.bincount(self.image, minlength=self.n_images).astype(np.float64)
        self.ranks = sorted({round(n * step / COARSE) for step in range(COARSE + 1)})
        self.hits = _count_first(self.image, self.ranks, self.n_images)
        self.coarse = shares(self.hits, self.trials)
        self.whole = self.coarse[-1]

    def estimate(self, q: float) -> Estimate | None:
        """Return a quantile, interpolated, with its interval; None without attempts."""
        if not len(self.js_delta):
            return None
        value = float(np.quantile(self.js_delta, q))
        if self.whole.n_images == 1:
            return Estimate(value, None, None)
        first = self._find_rank(lambda share: _high(share) >= q)  # whose share may be q
        beyond = self._find_rank(lambda share: _low(share) > q)  # whose share is too large
        low = float(self.js_delta[first - 1]) if first else 0.0
        high = float(self.js_delta[beyond - 1]) if beyond <= len(self.js_delta) else None
        return Estimate(value, min(low, value), high if high is None else max(high, value))

    def _find_rank(self, is_reached: Callable[[Share], bool]) -> int:
        """Return the smallest k from which a condition holds; one above all where it never does."""
        end = bisect_left(self.coarse, True, key=is_reached)
        if end == 0:
            return 0
        if end == len(self.ranks):
            return len(self.js_delta) + 1
        start, stop = self.ranks[end - 1], self.ranks[end]
        between = range(start + 1, stop + 1)

        def holds(k: int) -> bool:
            more = np.bincount(self.image[start:k], minlength=self.n_images)
            (share,) = shares((self.hits[end - 1] + more)[np.newaxis], self.trials)
            return is_reached(share)

        return between[bisect_left(between, True, key=holds)]


def _low(share: Share) -> float:
    """Return the lower bound of a share; the share itself where images do not differ."""
    assert share.value is not None
    return share.value if share.low is None else share.low


def _high(share: Share) -> float:
    assert share.value is not None
    return share.value if share.high is None else share.high
