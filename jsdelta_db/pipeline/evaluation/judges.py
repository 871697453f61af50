"""Judges: whether a set of evaluators may judge an attacked model, by what all of them answer.

A copy of the attacked model moves with it, so every sample looks like a feature; weights tell a copy only
while its file has the same names. Hence outputs decide: before any work on clean images, and afterwards
on the weakest samples (``followers.py``).
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from jsdelta_db.compute.metrics.agreement import clean_outputs, measure_agreement
from jsdelta_db.compute.metrics.divergence import mean_js
from jsdelta_db.config.evaluation import (
    LARGEST_SPREAD,
    LOWEST_AGREEMENT,
    TEMPERATURE_FIT,
    USUAL_TEMPERATURES,
    lowest_accuracy,
)
from jsdelta_db.errors import ModelError, UsageError
from jsdelta_db.pipeline.evaluation.open_roles import OpenRoles
from jsdelta_db.pipeline.evaluation.roles import describe
from jsdelta_db.store.references import list_fellows
from jsdelta_db.workbench.models import LoadedModel

# Bits between two models' outputs on clean images, the mean over the baseline split.
COPY_SHARE = 0.1  # of the median over honest pairs: below it one is a copy of the other
FEWEST_PAIRS = 3
COPY_JS = 1e-4  # where there is no honest pair to compare with
ROUNDING = 1e-6  # what another order of additions changes: no honest pair


def check_judges(opened: Sequence[OpenRoles]) -> None:
    """Refuse copies among the models, and report what makes their verdict doubtful, each fact once.

    Raises:
        UsageError: an evaluator answers as the attacked model, a surrogate or another evaluator does.
    """
    for roles in opened:
        _refuse_copies(roles)
    for line in dict.fromkeys(line for roles in opened for line in _doubts(roles)):
        opened[0].bench.progress.report(line)


def _refuse_copies(roles: OpenRoles) -> None:
    @cache
    def outputs(model: LoadedModel) -> Tensor:
        return clean_outputs(model.logits("baseline"))

    @cache
    def js(one: LoadedModel, other: LoadedModel) -> float:
        return mean_js(outputs(one), outputs(other))

    looked_at = [roles.attacked, *roles.surrogates]
    for place, candidate in enumerate(roles.evaluators):
        least = _least_js(roles, candidate, js)
        for other in (*looked_at, *roles.evaluators[:place]):
            if js(candidate, other) < least:
                raise UsageError(
                    f"evaluator {describe(candidate.row)} answers as {describe(other.row)} does "
                    f"({js(candidate, other):.1g} bit apart on clean images: must be {least:.1g} or more); a "
                    "copy must not judge: name others by --evaluators"
                )


def _least_js(
    roles: OpenRoles, candidate: LoadedModel, js: Callable[[LoadedModel, LoadedModel], float]
) -> float:
    """Return how far an evaluator must be from each other model, from pairs that it is not part of."""

    def honest(models: Sequence[LoadedModel]) -> list[float]:
        labels = roles.dataset.splits["baseline"].labels.numpy()
        able = [each for each in models if each is not candidate and _has_learned(each, labels)]
        found = [js(one, other) for one, other in combinations(able, 2) if _recipe(one) == _recipe(other)]
        return [value for value in found if value >= ROUNDING]

    values = honest(roles.evaluators)
    if len(values) < FEWEST_PAIRS:
        values = honest(list(_fellows(roles)))
    return COPY_SHARE * float(np.median(values)) if values else COPY_JS


def _fellows(roles: OpenRoles) -> Iterator[LoadedModel]:
    """Yield the attacked model's own ensembles' members, those whose outputs can be had."""
    with roles.bench.store.read_session() as session:
        rows = list_fellows(session, roles.attacked.row)
    for row in rows:
        member = roles.load(row)
        try:
            member.logits("baseline")
        except ModelError:
            continue  # its weights are elsewhere; it takes no part
        yield member


def _recipe(model: LoadedModel) -> tuple[object, ...]:
    return model.row.recipe, model.row.dataset_id


def _accuracy(model: LoadedModel, labels: NDArray[np.int64]) -> float:
    return float((model.logits("baseline").argmax(1) == labels).mean())


def _has_learned(model: LoadedModel, labels: NDArray[np.int64]) -> bool:
    return _accuracy(model, labels) >= lowest_accuracy(model.logits("baseline").shape[1])


def _doubts(roles: OpenRoles) -> Iterator[str]:
    """Yield a line for each fact about the models on clean images that makes the outcome doubtful."""
    labels, n_classes = roles.dataset.splits["baseline"].labels.numpy(), len(roles.dataset.classes)
    for role, models in (("attacked model", [roles.attacked]), ("evaluator", roles.evaluators)):
        for model in models:
            if not _has_learned(model, labels):
                yield (
                    f"{role} {describe(model.row)} is right on {_accuracy(model, labels):.1%} of clean "
                    f"images, which is chance for {n_classes} classes: what comes of it says nothing"
                )
    agreement = measure_agreement([each.logits("baseline") for each in roles.evaluators], labels)
    if agreement.accuracy_spread > LARGEST_SPREAD:
        by_accuracy = np.argsort(agreement.accuracies)
        worst, best = (describe(roles.evaluators[place].row) for place in (by_accuracy[0], by_accuracy[-1]))
        yield (
            f"evaluator {worst} is right on {min(agreement.accuracies):.1%} of clean images and {best} on "
            f"{max(agreement.accuracies):.1%}: more than {LARGEST_SPREAD * 100:.0f} points apart they do not "
            "judge alike"
        )
    if agreement.same_label is not None and agreement.same_label < LOWEST_AGREEMENT:
        yield (
            f"the evaluators of {roles.rows.title} agree on {agreement.same_label:.1%} of clean images: "
            f"below {LOWEST_AGREEMENT:.0%} they do not share their features"
        )
    low, high = USUAL_TEMPERATURES
    for model in roles.evaluators:
        temperature = model.temperature(TEMPERATURE_FIT)
        if not low <= temperature <= high:
            yield (
                f"evaluator {describe(model.row)} has a fitted temperature of {temperature:.2g}, outside "
                f"{low:g} to {high:g}: the bug fraction hangs on it; compare --temperature 1 with fit"
            )
