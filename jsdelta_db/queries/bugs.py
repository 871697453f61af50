"""Bugs: the share of successful attacks with JSΔ below β, by group.

They read segments and counts by image, not rows. A count below β is a sum over segments, of which only those
that β falls into are opened, so it is exact; the intervals come from the counts by image, which hold for any
β. Groups by label, and ``--population``, count attempt by attempt.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.config.evaluation import check_beta
from jsdelta_db.errors import UsageError
from jsdelta_db.queries.columns import read_counted, read_segments
from jsdelta_db.queries.grouping import (
    LABEL_KEYS,
    Table,
    common_norm,
    estimate_cells,
    resolve_keys,
    sort_key,
)
from jsdelta_db.queries.pooling import check_counted_once, count_once, find_pooled
from jsdelta_db.queries.selection import (
    ALL_CORRECT,
    ATTACKED_CORRECT,
    EvaluationInfo,
    Row,
    Selection,
    list_evaluations,
)
from jsdelta_db.queries.statistics import TOO_FEW_IMAGES, TOO_FEW_OF_A_KIND, Share, shares
from jsdelta_db.queries.tally import Tally, tally, tally_images
from jsdelta_db.store.outside import count_outside
from jsdelta_db.store.reading import Reader, without_collecting

PANELS = ("norm", "eps", "split")  # what the histogram's panels tell apart

# Facts, counts, and numbers by attack.
Group: TypeAlias = tuple[Row, Tally, "OfAttacks"]


class OfAttacks(NamedTuple):
    """Numbers that whole attacks have; None by label, which is finer than an attack.

    Attributes:
        n_skipped: images, which have no target.
        n_outside: samples beyond ε, which count as failures.
    """

    n_skipped: int | None
    n_outside: int | None


P = TypeVar("P", bound=tuple[EvaluationInfo, *tuple[Any, ...]])


@without_collecting()
def query_bugs(
    reader: Reader,
    betas: Sequence[float],
    by: Sequence[str] = (),
    selection: Selection = Selection(),  # noqa: B008 frozen
    limit: int = 0,
) -> Table:
    """Return the share of bugs among successful attacks, for each group and each β.

    Args:
        betas: thresholds on JSΔ; a sample is a bug strictly below.
        by: what to group by (see ``BY_CHOICES``), and whatever keeps an attempt from counting twice; empty
            for one row per dataset, attacked model and ensembles, norm and ε, and whatever else differs among
            the selected attacks.
        limit: return this many groups, those with the most bugs at the largest β first; 0 for all, by name.

    Raises:
        UsageError: a β outside (0, ∞), or an unknown grouping.
    """
    for beta in betas:
        check_beta(beta)
    betas = [float(beta) for beta in betas]
    if not betas:
        raise UsageError("no β is given; give at least one, such as 0.1")
    evaluations = list_evaluations(reader, selection)
    asked = resolve_keys(by, evaluations)
    keys, counted = count_once(evaluations, asked, selection.named_facts)
    groups = _tally_groups(reader, counted, keys, betas, selection.population)
    n_groups = len(groups)
    if limit:
        groups = _rank(groups, betas.index(max(betas)))[:limit]
    rows = [
        row for facts, tallied, of_attacks in groups for row in _count_bugs(facts, tallied, betas, of_attacks)
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


def _tally_groups(
    reader: Reader,
    evaluations: Sequence[EvaluationInfo],
    keys: Sequence[str],
    betas: Sequence[float],
    population: str,
) -> list[Group]:
    """Return the groups, sorted by their facts."""
    if population == ATTACKED_CORRECT and not set(keys) & set(LABEL_KEYS):
        groups = _tally_images(reader, evaluations, keys, betas)
    else:
        groups = _tally_attempts(reader, evaluations, keys, betas, population)
    return sorted(groups, key=lambda group: [sort_key(value) for value in group[0].values()])


def _rank(groups: Iterable[Group], beta: int) -> list[Group]:
    """Sort groups by their bugs at a β, given by its place; of equals the one with fewer successes first."""
    return sorted(groups, key=lambda group: (-group[1].bugs[beta].sum(), group[1].success.sum()))


def _tally_images(
    reader: Reader, evaluations: Sequence[EvaluationInfo], keys: Sequence[str], betas: Sequence[float]
) -> Iterator[Group]:
    """Yield groups of whole evaluations, counted by image when they were stored."""
    outside = count_outside(reader)
    for values, parts in _group(read_counted(reader, evaluations, betas), keys).items():
        of_attacks = _add_up([part.evaluation for part in parts], outside)
        yield dict(zip(keys, values, strict=True)), tally_images(parts, betas), of_attacks


def _tally_attempts(
    reader: Reader,
    evaluations: Sequence[EvaluationInfo],
    keys: Sequence[str],
    betas: Sequence[float],
    population: str,
) -> Iterator[Group]:
    """Yield groups by label, or of some images only, counted attempt by attempt."""
    label_keys = [key for key in keys if key in LABEL_KEYS]
    run_keys = [key for key in keys if key not in label_keys]
    names = ["sample_index"]
    if label_keys:
        names.append("label_pair")
    if population != ATTACKED_CORRECT:
        names.append("n_right")
    outside = count_outside(reader)
    for values, parts in _group(read_segments(reader, evaluations, names, betas=betas), run_keys).items():
        of_attacks = _add_up([evaluation for evaluation, _ in parts], outside)
        of_attacks = OfAttacks(None, None) if label_keys else of_attacks
        for labels, counted in tally(parts, betas, population, label_keys).items():
            facts = dict(zip((*run_keys, *label_keys), (*values, *labels), strict=True))
            yield {key: facts[key] for key in keys}, counted, of_attacks


def _add_up(evaluations: Sequence[EvaluationInfo], outside: Mapping[int, int]) -> OfAttacks:
    n_outside = sum(outside.get(each.attack_id, 0) for each in evaluations)
    return OfAttacks(sum(each.n_skipped for each in evaluations), n_outside)


def _group(parts: Iterable[P], keys: Sequence[str]) -> dict[tuple[object, ...], list[P]]:
    """Gather parts, each led by its evaluation, by the evaluation's facts."""
    groups: dict[tuple[object, ...], list[P]] = {}
    for part in parts:
        groups.setdefault(tuple(part[0].facts[key] for key in keys), []).append(part)
    return groups


def _count_bugs(facts: Row, counted: Tally, betas: Sequence[float], of_attacks: OfAttacks) -> Iterator[Row]:
    """Yield the rows of one group, one for each β."""
    attempted = counted.attempted
    n_success, n_attempted = int(counted.success.sum()), int(attempted.sum())
    n_bugs = counted.bugs.sum(1).astype(int).tolist()
    of_success, of_attempts = (shares(counted.bugs, trials) for trials in (counted.success, attempted))
    for beta, n, fraction, rate in zip(betas, n_bugs, of_success, of_attempts, strict=True):
        yield {
            **facts,
            "beta": beta,
            "n_attempted": n_attempted,
            "n_skipped": of_attacks.n_skipped,
            "n_success": n_success,
            "n_no_baseline": counted.n_undefined,
            "n_outside": of_attacks.n_outside,
            "n_bugs": n,
            **estimate_cells("bug_fraction", fraction),
            **estimate_cells("bug_rate", rate),
            "interval": " / ".join(dict.fromkeys(s.kind for s in (fraction, rate) if s.kind)) or None,
            "covers": None if fraction.kind is None else "images",
            "n_images": fraction.n_images,
            "n_images_bug": fraction.n_images_hit,
            "n_images_non_bug": fraction.n_images_other,
            "too_few": fraction.is_of_too_few,
            "warnings": "; ".join(_warn(fraction)) or None,
        }


def _warn(fraction: Share) -> Iterator[str]:
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
