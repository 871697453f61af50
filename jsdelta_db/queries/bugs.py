"""Bugs: the share of successful attacks with JSΔ, or another measure, below β, by group.

Over images alone they read segments and counts by image, not rows. A count below β is a sum over segments, of
which only those that β falls into are opened, so it is exact; the intervals come from the counts by image,
which hold for any β. Whatever else is asked counts attempt by attempt (``bug_groups.py``).
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.config.evaluation import check_beta
from jsdelta_db.config.measures import Measuring
from jsdelta_db.errors import UsageError
from jsdelta_db.queries.bug_groups import Group, OfAttacks, Question, tally_groups
from jsdelta_db.queries.columns import read_segments
from jsdelta_db.queries.grouping import Table, common_norm, estimate_cells, resolve_keys
from jsdelta_db.queries.pooling import check_counted_once, count_once, find_pooled
from jsdelta_db.queries.selection import ALL_CORRECT, Row, Selection, list_evaluations
from jsdelta_db.queries.statistics import OfModels, Share, shares
from jsdelta_db.queries.statistics.fractions import TOO_FEW_IMAGES, TOO_FEW_OF_A_KIND
from jsdelta_db.queries.tally import Tally
from jsdelta_db.store.reading import Reader, without_collecting

PANELS = ("norm", "eps", "split")  # what the histogram's panels tell apart


@without_collecting()
def query_bugs(
    reader: Reader,
    betas: Sequence[float],
    by: Sequence[str] = (),
    selection: Selection = Selection(),  # noqa: B008 frozen
    limit: int = 0,
    measuring: Measuring = Measuring(),  # noqa: B008 frozen
) -> Table:
    """Return the share of bugs among successful attacks, for each group and each β.

    Args:
        betas: thresholds on the measure; a sample is a bug strictly below.
        by: what to group by (see ``BY_CHOICES``), and whatever keeps an attempt from counting twice; empty
            for one row per dataset, attacked model and ensembles, norm and ε, and whatever else differs among
            the selected attacks.
        limit: return this many groups, those with the most bugs at the largest β first; 0 for all, by name.
        measuring: what β is a threshold on, and whose draw the intervals cover.

    Raises:
        UsageError: a β outside (0, ∞), or an unknown grouping.
        StoreError: the store lacks what the measure needs.
    """
    for beta in betas:
        check_beta(beta)
    betas = [float(beta) for beta in betas]
    if not betas:
        raise UsageError("no β is given; give at least one, such as 0.1")
    evaluations = list_evaluations(reader, selection)
    asked = resolve_keys(by, evaluations)
    keys, counted = count_once(evaluations, asked, selection.named_facts)
    measuring = measuring.for_attempts(sum(each.n_attempts for each in counted))
    question = Question(tuple(betas), selection, measuring)
    groups = tally_groups(reader, counted, keys, question)
    n_groups = len(groups)
    if limit:
        groups = _rank(groups, betas.index(max(betas)))[:limit]
    rows = [
        row
        for facts, tallied, of_attacks in groups
        for row in count_bugs(facts, tallied, question, of_attacks)
    ]
    return Table(
        keys, rows, find_pooled(counted, keys), common_norm(counted), separated=keys[len(asked) :],
        n_left_out=len(evaluations) - len(counted), n_more=n_groups - len(groups),
    )  # fmt: skip


def summary_metrics(rows: Iterable[Row]) -> dict[int, dict[str, float | None]]:
    """Return the metrics that a tracker logs of ``query_bugs``, by step = round(255·ε)."""
    by_step: dict[int, dict[str, float | None]] = {}
    for row in rows:
        metrics = by_step.setdefault(round(row["eps"] * 255), {})
        attempted = row["n_attempted"]
        metrics["success_rate"] = row["n_success"] / attempted if attempted else None
        metrics[f"bug_fraction_beta_{row['beta']:g}"] = row["bug_fraction"]
    return by_step


def js_delta_by_eps(
    reader: Reader,
    selection: Selection = Selection(),  # noqa: B008 frozen
) -> dict[tuple[str, float, str], NDArray[np.float64]]:
    """Return the JSΔ of all successful samples that have one, by ``PANELS``, ascending.

    Raises:
        UsageError: the selection has the same attempts judged twice.
    """
    found: dict[tuple[str, float, str], list[NDArray[np.float64]]] = {}
    found_evaluations = list_evaluations(reader, selection)
    evaluations = check_counted_once(found_evaluations, PANELS, selection.named_facts)
    names = ("js_delta", "n_right") if selection.population == ALL_CORRECT else ("js_delta",)
    for evaluation, segments in read_segments(reader, evaluations, names, successes_only=True):
        norm, eps, split = (evaluation.facts[key] for key in PANELS)
        pieces = found.setdefault((norm, eps, split), [np.zeros(0)])
        for segment in segments:
            if segment.is_defined:
                assert segment.js_delta is not None
                right = segment.n_right == evaluation.n_evaluators
                pieces.append(segment.js_delta if len(names) == 1 else segment.js_delta[right])
    return {key: np.concatenate(found[key]) for key in sorted(found)}


def _rank(groups: Iterable[Group], beta: int) -> list[Group]:
    """Sort groups by their bugs at a β, given by its place; of equals the one with fewer successes first."""
    return sorted(groups, key=lambda group: (-group[1].bugs[beta].sum(), group[1].success.sum()))


def count_bugs(facts: Row, counted: Tally, question: Question, of_attacks: OfAttacks) -> Iterator[Row]:
    """Yield the rows of one group, one for each β."""
    attempted = counted.attempted
    n_success, n_attempted = int(counted.success.sum()), int(attempted.sum())
    n_bugs = counted.bugs.sum(1).astype(int).tolist()
    of_models = counted.deletions.of_fractions() if counted.deletions else []
    of_models_rates = counted.deletions.of_rates() if counted.deletions else []
    of_success = shares(counted.bugs, counted.success, of_models)
    of_attempts = shares(counted.bugs, attempted, of_models_rates)
    for place, beta in enumerate(question.betas):
        fraction, rate = of_success[place], of_attempts[place]
        models = of_models[place] if of_models else None
        yield {
            **facts,
            "beta": beta,
            "n_attempted": n_attempted,
            "n_skipped": of_attacks.n_skipped,
            "n_success": n_success,
            "n_no_baseline": counted.n_undefined,
            "n_outside": of_attacks.n_outside,
            "n_bugs": n_bugs[place],
            **estimate_cells("bug_fraction", fraction),
            **estimate_cells("bug_rate", rate),
            "interval": " / ".join(dict.fromkeys(s.kind for s in (fraction, rate) if s.kind)) or None,
            "covers": fraction.covers,
            "n_images": fraction.n_images,
            "n_images_bug": fraction.n_images_hit,
            "n_images_non_bug": fraction.n_images_other,
            "too_few": fraction.is_of_too_few,
            "warnings": "; ".join(_warn(fraction, models)) or None,
            "measure": question.measuring.measure,
            "n_no_relative": counted.n_no_relative,
            "n_models": models.n_models if models else None,
            "share_models": fraction.share_models,
        }


def _warn(fraction: Share, models: OfModels | None) -> Iterator[str]:
    """Yield what a reader of a bug fraction must know."""
    if not fraction.n_images:
        return
    if fraction.n_images < TOO_FEW_IMAGES:
        yield f"fewer than {TOO_FEW_IMAGES} images"
    for n, of in ((fraction.n_images_hit, "a bug"), (fraction.n_images_other, "a non-bug")):
        if n < TOO_FEW_OF_A_KIND:
            yield f"fewer than {TOO_FEW_OF_A_KIND} images with {of}"
    if fraction.kind is None:
        yield (
            "no interval: one image alone" if fraction.n_images == 1 else "no interval: no spread over images"
        )
    elif fraction.value in (0, 1):
        yield "all successes alike: Wilson's interval over images"
    if models is not None:
        yield from models.warnings
