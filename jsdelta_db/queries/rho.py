"""Rho: baselines that measures divide by, of evaluators, of their mean outputs, of the attacked model."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.config.evaluation import TEMPERATURE_ONE
from jsdelta_db.queries.selection import EvaluationInfo
from jsdelta_db.records import Baseline
from jsdelta_db.store.reading import Reader, fetch_many

DOUBLE_BYTES = 8  # of one image's mean
LabelPair = tuple[int, int]  # the lower label first


class Rho(NamedTuple):
    """Baselines of one evaluation by label pair; NaN where the store has none.

    The last row is NaN throughout: that of label pairs without a baseline.

    Attributes:
        place: the row of a label pair, by its number (source label · classes + target label).
        members: each evaluator's own ρ, in their order, ``(rows, evaluators)``.
        of_mean: of the evaluators' mean outputs, ``(rows,)``.
        attacked: the attacked model's own, ``(rows,)``; NaN also where nothing may be divided by it.
        of_mean_without: of the mean outputs without each evaluator, ``(rows, evaluators)``.
    """

    place: NDArray[np.int32]
    members: NDArray[np.float64]
    of_mean: NDArray[np.float64]
    attacked: NDArray[np.float64]
    of_mean_without: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Baselines:
    """The baselines of some evaluations.

    Attributes:
        of_models: by model, data set and temperature rule, then by label pair.
        of_means, of_means_without: by evaluation, then by label pair.
    """

    of_models: Mapping[tuple[int, int, str], Mapping[LabelPair, Baseline]]
    of_means: Mapping[int, Mapping[LabelPair, float]]
    of_means_without: Mapping[int, Mapping[LabelPair, NDArray[np.float64]]]

    def of(self, evaluation: EvaluationInfo) -> Rho:
        """Return those of one evaluation."""
        dataset_id, _, _ = evaluation.image_set
        rule = evaluation.facts["temperature"]
        members = [self.of_models.get((each.id, dataset_id, rule), {}) for each in evaluation.evaluators]
        # What is stored of the attacked model itself is at temperature 1, whatever the rule of the judges.
        attacked = self.of_models.get((evaluation.attacked.id, dataset_id, TEMPERATURE_ONE), {})
        of_mean, without = self.of_means.get(evaluation.id, {}), self.of_means_without.get(evaluation.id, {})
        nowhere = np.full(len(members), np.nan)
        pairs = sorted({*of_mean, *attacked}.union(*members))
        return Rho(
            _places(pairs, len(evaluation.classes)),
            np.array([*([_rho(each, pair) for each in members] for pair in pairs), [np.nan] * len(members)]),
            np.array([*(of_mean.get(pair, np.nan) for pair in pairs), np.nan]),
            np.array([*(_rho(attacked, pair, usable=True) for pair in pairs), np.nan]),
            np.array([*(_fitting(without.get(pair), nowhere) for pair in pairs), nowhere]),
        )


def read_baselines(reader: Reader, evaluations: Sequence[EvaluationInfo]) -> Baselines:
    """Return the baselines of some evaluations, as far as they are stored."""
    if not evaluations:
        return Baselines({}, {}, {})
    models = {model.id for each in evaluations for model in (each.attacked, *each.evaluators)}
    datasets = {each.image_set[0] for each in evaluations}
    of_models: dict[tuple[int, int, str], dict[LabelPair, Baseline]] = {}
    statement = (
        "SELECT model_id, dataset_id, temperature_rule, label_low, label_high, rho, standard_error, pairs, "  # noqa: S608 whole numbers
        "n_low, length(image_means) FROM rho_baseline WHERE split = 'baseline' "
        f"AND model_id IN ({_listed(models)}) AND dataset_id IN ({_listed(datasets)})"
    )
    for model_id, dataset_id, rule, low, high, rho, error, pairs, n_low, size in fetch_many(
        reader, statement
    ):
        images = min(n_low, size // DOUBLE_BYTES - n_low)
        baseline = Baseline(rho, rho, np.inf if error is None else error, pairs, images)
        of_models.setdefault((model_id, dataset_id, rule), {})[low, high] = baseline
    of_means: dict[int, dict[LabelPair, float]] = {}
    without: dict[int, dict[LabelPair, NDArray[np.float64]]] = {}
    statement = (
        "SELECT evaluation_id, label_low, label_high, rho_of_mean, rho_of_mean_without "  # noqa: S608 whole numbers
        "FROM evaluation_baseline "
        f"WHERE evaluation_id IN ({_listed(each.id for each in evaluations)})"
    )
    for evaluation_id, low, high, rho_of_mean, packed in fetch_many(reader, statement):
        of_means.setdefault(evaluation_id, {})[low, high] = rho_of_mean
        if packed is not None:
            without.setdefault(evaluation_id, {})[low, high] = np.frombuffer(
                packed[: len(packed) // DOUBLE_BYTES * DOUBLE_BYTES], "<f8"
            )
    return Baselines(of_models, of_means, without)


def _fitting(values: NDArray[np.float64] | None, nowhere: NDArray[np.float64]) -> NDArray[np.float64]:
    return nowhere if values is None or len(values) != len(nowhere) else values


def _listed(ids: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(ids)))


def _rho(of_pairs: Mapping[LabelPair, Baseline], pair: LabelPair, *, usable: bool = False) -> float:
    baseline = of_pairs.get(pair)
    return np.nan if baseline is None or (usable and not baseline.is_defined) else baseline.rho


def _places(pairs: Sequence[LabelPair], n_classes: int) -> NDArray[np.int32]:
    """Return the row of each label pair's baseline, the same in both orders."""
    places = np.full(n_classes * n_classes, len(pairs), np.int32)
    for row, (low, high) in enumerate(pairs):
        places[[low * n_classes + high, high * n_classes + low]] = row
    return places
