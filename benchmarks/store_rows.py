"""Made-up attempts of many runs for ``store.py``, as attacks and evaluators would leave them."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.records import Attempts, Baseline, Baselines, Samples, Scores

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
EPS = tuple(level / 255 for level in (1, 3, 5, 8))
METHODS = ("standard", "adversarial", "sam")
ENSEMBLES = 4  # of each method
MEMBERS = 5  # of an ensemble: one is attacked, the other four judge
IMAGES = 6_000  # of the split that is attacked
ATTEMPTS = 5_000  # of a run: the images that the attacked model has right
# By ε, of a standard model: the two parameters of JS's Beta distribution, and the share of successes.
SHAPES = dict(zip(EPS, ((0.35, 2.0), (0.5, 1.2), (0.8, 0.9), (1.2, 0.7)), strict=True))
SUCCESS = dict(zip(EPS, (0.08, 0.45, 0.75, 0.95), strict=True))
# By method: what the first parameter and the share of successes are multiplied with.
CHANGES = {"standard": (1.0, 1.0), "adversarial": (2.0, 0.4), "sam": (1.3, 0.8)}
_SPLIT, _MODEL, _RUN = range(3)  # what a random number belongs to

Counts = dict[tuple[float | str, ...], tuple[int, int, int, int]]


@dataclass(frozen=True, slots=True)
class Run:
    """One attack with its evaluation: the wide facts, and one row per attempt.

    Attributes:
        ensemble: which of the method's ensembles.
        attacked: position of the attacked member in it.
    """

    number: int
    eps: float
    method: str
    ensemble: int
    attacked: int
    attack_seed: int
    samples: Samples
    scores: Scores
    baselines: Baselines

    @property
    def cell(self) -> int:
        """Number of its ε and method."""
        return EPS.index(self.eps) * len(METHODS) + METHODS.index(self.method)

    def chunks(self, size: int) -> Iterator[tuple[Samples, Scores]]:
        """Yield its rows in chunks."""
        for start in range(0, ATTEMPTS, size):
            rows = slice(start, start + size)
            yield self.samples.pick(rows), _pick_scores(self.scores, rows)


def make_run(number: int) -> Run:
    """Make a run: always the same one for a number, with every ε × method among twelve in a row."""
    eps, method = EPS[number % len(EPS)], METHODS[number % len(METHODS)]
    rest, attacked = divmod(number // (len(EPS) * len(METHODS)), MEMBERS)
    attack_seed, ensemble = divmod(rest, ENSEMBLES)
    model = (METHODS.index(method) * ENSEMBLES + ensemble) * MEMBERS + attacked
    rng = np.random.default_rng((_RUN, number))
    index, label, baselines = _images_of(model)
    target = (label + rng.integers(1, len(CLASSES), ATTEMPTS)) % len(CLASSES)
    attempts = Attempts(index, label, target)
    sharper, stronger = CHANGES[method]
    first, second = SHAPES[eps]
    spread = np.exp(rng.normal(0, 0.3, (ATTEMPTS, MEMBERS - 1)))
    js_of_mean = rng.beta(first * sharper, second, ATTEMPTS)
    member_js = np.minimum(js_of_mean[:, None] * spread, 1).astype(np.float32)
    js = member_js.mean(axis=1, dtype=np.float64)
    return Run(
        number, eps, method, ensemble, attacked, attack_seed,
        Samples(
            attempts, target, rng.random(ATTEMPTS) < SUCCESS[eps] * stronger, rng.random(ATTEMPTS),
            np.full(ATTEMPTS, eps), eps * 55 * rng.uniform(0.8, 1, ATTEMPTS),
            # The store keeps no images and no logits.
            np.empty((ATTEMPTS, 0), np.float32), np.empty((ATTEMPTS, 0), np.float16),
            np.empty((ATTEMPTS, 0), np.float32), np.empty((ATTEMPTS, 0), np.float32),
        ),
        Scores(
            attempts, js, js_of_mean, js / _rho_by_label(baselines)[label, target], rng.beta(3, 1, ATTEMPTS),
            rng.binomial(MEMBERS - 1, 0.95, ATTEMPTS), rng.binomial(MEMBERS - 1, 0.02, ATTEMPTS),
            rng.binomial(MEMBERS - 1, js), rng.binomial(MEMBERS - 1, 1 - js), member_js,
            member_js[:, ::-1], np.empty((MEMBERS - 1, ATTEMPTS, 0), np.float32),
        ),
        baselines,
    )  # fmt: skip


@lru_cache(maxsize=len(METHODS) * ENSEMBLES * MEMBERS)
def _images_of(model: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Baselines]:
    """Return the images that a model has right, their labels, and the baselines of the four others."""
    labels = np.random.default_rng(_SPLIT).integers(0, len(CLASSES), IMAGES)
    rng = np.random.default_rng((_MODEL, model))
    index = np.sort(rng.permutation(IMAGES)[:ATTEMPTS])
    pairs = list(combinations(range(len(CLASSES)), 2))
    rho = rng.uniform(0.6, 0.98, len(pairs))
    rho[rng.integers(len(pairs))] = 0.03  # too small to divide by
    baselines = {
        pair: Baseline(float(value), float(value), 0.002, 250_000, 500, (float(value),) * (MEMBERS - 1))
        for pair, value in zip(pairs, rho, strict=True)
    }
    return index, labels[index], baselines


def _rho_by_label(baselines: Baselines) -> NDArray[np.float64]:
    """Return what JSΔ divides by ``(classes, classes)``; NaN where there is no usable baseline."""
    rho = np.full((len(CLASSES), len(CLASSES)), np.nan)
    for (low, high), baseline in baselines.items():
        if baseline.is_defined:
            rho[low, high] = rho[high, low] = baseline.rho
    return rho


def _pick_scores(scores: Scores, rows: slice) -> Scores:
    arrays = {field.name: getattr(scores, field.name) for field in fields(scores)}
    attempts, logits = arrays.pop("attempts").pick(rows), arrays.pop("logits")[:, rows]
    return Scores(attempts, logits=logits, **{name: array[rows] for name, array in arrays.items()})


class Truth:
    """What was written, as four columns in memory, and the counts that any query must give.

    Args:
        n_runs: how many runs there is room for; they come in order.
    """

    def __init__(self, n_runs: int) -> None:
        rows = n_runs * ATTEMPTS
        self._n, self._room = 0, rows
        self._cell, self._pair = np.empty(rows, np.uint8), np.empty(rows, np.uint8)
        self._success, self._js_delta = np.empty(rows, np.bool_), np.empty(rows)

    def add(self, run: Run) -> None:
        """Take in one run."""
        rows = slice(self._n, self._n + ATTEMPTS)
        attempts = run.samples.attempts
        self._cell[rows] = run.cell
        self._pair[rows] = attempts.source_label * len(CLASSES) + run.samples.target_label
        self._success[rows], self._js_delta[rows] = run.samples.success, run.scores.js_delta
        self._n += ATTEMPTS

    def columns(self) -> dict[str, NDArray[np.generic]]:
        """Return all there is, without copies: number of ε and method, of the pair, success, JSΔ."""
        names = ("cell", "pair", "success", "js_delta")
        return {name: getattr(self, f"_{name}")[: self._n] for name in names}

    def count(self, by: str, beta: float) -> Counts:
        """Count by ``eps,method`` or ``label-pair``.

        Returns:
            By key: attempts and successes with a JSΔ, attempts without, bugs.
        """
        group = (self._cell if by == "eps,method" else self._pair)[: self._n]
        success, js_delta = self._success[: self._n], self._js_delta[: self._n]
        defined = ~np.isnan(js_delta)
        masks = (defined, defined & success, ~defined, success & (js_delta < beta))
        counts = np.stack([np.bincount(group[mask], minlength=100) for mask in masks], axis=1)
        found = np.flatnonzero(np.bincount(group, minlength=100))
        return {key_of(by, int(each)): tuple(counts[each].tolist()) for each in found}

    def check(self, who: str, by: str, answers: Mapping[str, Sequence[Sequence[Any]]]) -> None:
        """End the benchmark unless every answer is the exact one.

        Args:
            answers: by β, rows of two keys and four counts.
        """
        for beta, rows in answers.items():
            expected, found = self.count(by, float(beta)), {tuple(row[:2]): tuple(row[2:]) for row in rows}
            if found != expected:
                wrong = {key for key in expected | found if expected.get(key) != found.get(key)}
                key = min(wrong, key=str)
                sys.exit(
                    f"benchmarks/store.py: {who} counts {found.get(key)} for {key} at β = {beta}, "
                    f"the rows have {expected.get(key)}; {len(wrong)} groups are wrong"
                )


def key_of(by: str, group: int) -> tuple[float | str, ...]:
    """Return what stands in the first two columns of a row for a number of ε and method, or of a pair."""
    if by == "eps,method":
        return EPS[group // len(METHODS)], METHODS[group % len(METHODS)]
    return CLASSES[group // len(CLASSES)], CLASSES[group % len(CLASSES)]
