"""Judges: who judges the two sides, and a refusal where they, or anything else that must agree, differ."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jsdelta_db.config.measures import JS_OF_MEAN
from jsdelta_db.errors import StoreError, UsageError
from jsdelta_db.queries.comparison.request import EVALUATORS, MUST_AGREE, N_EVALUATORS, Request
from jsdelta_db.queries.comparison.sides import Sides
from jsdelta_db.queries.facts.keys import FACTS
from jsdelta_db.queries.facts.values import show
from jsdelta_db.queries.judged import Judged
from jsdelta_db.queries.selection import CONFIGURATION_KEYS, EvaluationInfo, ModelInfo

MOST_NAMES = 3  # in a message
# What two sides may differ in, but not without a word.
TOLD = tuple(key for key in CONFIGURATION_KEYS if key not in (*MUST_AGREE, "device"))

Evaluations = Sequence[EvaluationInfo]
Pair = tuple[ModelInfo, ModelInfo]


def pair_members(a: Evaluations, b: Evaluations) -> list[Pair]:
    """Return the attacked models of both sides in pairs, one model or two of one seed; empty if they differ.

    A seed gives models their initial weights and the order of their images, so that models of one seed vary
    together whatever the method.
    """
    of_a, of_b = ({each.attacked.sha256: each.attacked for each in some} for some in (a, b))
    if of_a.keys() == of_b.keys():
        return [(of_a[sha256], of_b[sha256]) for sha256 in of_a]
    if any(model.name is not None for model in (*of_a.values(), *of_b.values())):
        return []  # trained elsewhere: their seeds are not known
    by_seed = [{model.seed: model for model in some.values()} for some in (of_a, of_b)]
    is_unique = len(by_seed[0]) == len(of_a) and len(by_seed[1]) == len(of_b)
    if not is_unique or by_seed[0].keys() != by_seed[1].keys():
        return []
    return [(by_seed[0][seed], by_seed[1][seed]) for seed in sorted(by_seed[0])]


def check_agreement(sides: Sides, request: Request) -> list[str]:
    """Check that the sides differ in what is compared, and return what else they differ in, in words.

    Raises:
        UsageError: in something that must agree, and that is not allowed.
    """
    exempt = {*request.compared, *request.allow, *sides.facts}
    differing = {
        key: values
        for key in MUST_AGREE
        if key not in (EVALUATORS, N_EVALUATORS) and (values := _list_differing(sides, key))
    }
    differing |= _find_different_judges(sides)
    for key, (of_a, of_b) in differing.items():
        if key not in exempt:
            where = ", ".join(f"{k} {_show(k, v, sides.of_a[0])}" for k, v in sides.facts.items())
            raise UsageError(
                f"the sides differ in {key}: {sides.a} {of_a}, {sides.b} {of_b} ({where}); "
                f"choose equal ones with --where, or add --allow {key}"
            )
    told = [key for key in TOLD if key not in exempt]
    found = {**{key: differing[key] for key in differing if key in request.allow}}
    found |= {key: values for key in told if (values := _list_differing(sides, key))}
    return [f"the sides also differ in {key} ({of_a} and {of_b})" for key, (of_a, of_b) in found.items()]


def choose_judges(sides: Sides) -> dict[int, tuple[int, ...]]:
    """Return the places of the evaluators that judge, by evaluation; those without an entry keep all.

    Fractions depend on the number of evaluators. Where that differs, those judge who judge both attacks of a
    pair: the standard model of seed s, which shares the start of the SAM model of seed s, is left out of its
    judges, as it is never among its own. Without pairs, or where nobody judges both, the first ones judge.
    """
    if N_EVALUATORS not in _find_different_judges(sides):
        return {}
    pairs = pair_members(sides.of_a, sides.of_b)
    chosen: dict[int, tuple[int, ...]] = {}
    for some in _divide(sides, pairs):
        both = (*some[0], *some[1])
        common = frozenset.intersection(*map(_judges, both)) if pairs else frozenset[str]()
        fewest = min(each.n_evaluators for each in both)
        for each in both:
            places = [k for k, model in enumerate(each.evaluators) if model.sha256 in common]
            chosen[each.id] = tuple(places or range(fewest))
    return {each.id: chosen[each.id] for each in sides.both if len(chosen[each.id]) < each.n_evaluators}


def keep_judges(judged: Judged, places: Sequence[int], measure: str) -> Judged:
    """Return attempts as some of their evaluators judge them; which of them count stays as it was.

    Raises:
        UsageError: the mean outputs of some evaluators are not stored.
        StoreError: the store lacks what each evaluator said.
    """
    if measure == JS_OF_MEAN:
        raise UsageError(
            "--measure js-of-mean is not stored for some of the evaluators; choose sides with as many, or "
            "another measure"
        )
    if "member_js" not in judged.columns:
        raise StoreError(
            f"evaluation {judged.evaluation.uid[:8]} lacks member_js, which leaving evaluators out needs; "
            "run jsdelta doctor --repair"
        )
    kept = list(places)
    evaluation = judged.evaluation._replace(evaluators=tuple(judged.evaluation.evaluators[k] for k in kept))
    js, rho = judged.columns["member_js"][:, kept], judged.rho.members[:, kept]
    with np.errstate(divide="ignore", invalid="ignore"):
        js_delta = js.sum(axis=1, dtype=np.float64) / rho.sum(axis=1)[judged.place]
    js_delta[np.isnan(judged.columns["js_delta"])] = np.nan
    columns = {**judged.columns, "member_js": js, "js_delta": js_delta}
    columns.pop("js_of_mean_without", None)
    return Judged(evaluation, columns, judged.rho._replace(members=rho))


def _list_differing(sides: Sides, key: str) -> tuple[str, str] | None:
    """Return the values of a fact on either side; None where they are the same."""
    of_a, of_b = ({each.facts[key]: each for each in some} for some in (sides.of_a, sides.of_b))
    if of_a.keys() == of_b.keys():
        return None
    shown = [",".join(_show(key, value, each) for value, each in some.items()) for some in (of_a, of_b)]
    return shown[0], shown[1]


def _find_different_judges(sides: Sides) -> dict[str, tuple[str, str]]:
    """Return how evaluators and their number differ, pair by pair where there are pairs."""
    found: dict[str, tuple[str, str]] = {}
    for of_a, of_b in _divide(sides, pair_members(sides.of_a, sides.of_b)):
        numbers = [sorted({each.n_evaluators for each in some}) for some in (of_a, of_b)]
        judges = [frozenset[str]().union(*map(_judges, some)) for some in (of_a, of_b)]
        if numbers[0] != numbers[1]:
            shown = [",".join(map(str, some)) for some in numbers]
            found.setdefault(N_EVALUATORS, (shown[0], shown[1]))
            if judges[0] <= judges[1] or judges[1] <= judges[0]:
                continue
        if judges[0] != judges[1]:
            found.setdefault(EVALUATORS, _name_judges(of_a, of_b))
    return found


def _name_judges(of_a: Evaluations, of_b: Evaluations) -> tuple[str, str]:
    """Return what the judges of either side are called: by their ensembles where that tells them apart."""
    key = "judged_by"
    if {each.facts[key] for each in of_a} & {each.facts[key] for each in of_b}:
        key = EVALUATORS
    names = [list(dict.fromkeys(str(each.facts[key]) for each in some)) for some in (of_a, of_b)]
    a, b = ("; ".join([*some[:MOST_NAMES], *(["…"] if some[MOST_NAMES:] else [])]) for some in names)
    return a, b


def _divide(sides: Sides, pairs: Sequence[Pair]) -> Iterator[tuple[Evaluations, Evaluations]]:
    """Yield the evaluations of either side, pair by pair where there are pairs."""
    if not pairs:
        yield sides.of_a, sides.of_b
    for one, other in pairs:
        yield (
            [each for each in sides.of_a if each.attacked.sha256 == one.sha256],
            [each for each in sides.of_b if each.attacked.sha256 == other.sha256],
        )


def _judges(evaluation: EvaluationInfo) -> frozenset[str]:
    return frozenset(each.sha256 for each in evaluation.evaluators)


def _show(key: str, value: object, each: EvaluationInfo) -> str:
    facts: Mapping[str, Any] = each.facts
    return show(value, FACTS[key], facts)
