"""Pooling: what a row may add up. No attempt counts twice, and what differs behind a row is named.

Attacks that differ in nothing but their images or the device asked for share attempts: the same model, image,
target and start. So do an attack and its second judgement. Of attempts that were judged alike the larger
attack's count; those that were judged by others are no more attempts but other answers, and get rows of their
own.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from jsdelta_db.config.attack import TARGET_RULES
from jsdelta_db.errors import UsageError
from jsdelta_db.queries.facts.keys import HYPERPARAMETERS
from jsdelta_db.queries.grouping import LABEL_KEYS
from jsdelta_db.queries.selection import CONFIGURATION_KEYS, DEFAULT_KEYS, EvaluationInfo

RECORDED = (*DEFAULT_KEYS, *CONFIGURATION_KEYS, "n_evaluators")
# What an attempt's samples depend on, beside its image and target.
OF_ATTEMPTS = (
    "attacked_sha256", "dataset_id", "split", "norm", "eps", "steps", "step_size", "random_start", "restarts",
    "objective", "surrogates", "stop", "attack_seed", "library", "used_device", "dtype", "attack_by",
    "accept_eps",
)  # fmt: skip
ACCEPTS, TRAINED_ON = "accept_eps", "trained_on"
# Who judged and how, the fact that people choose by first.
OF_JUDGES = ("judged_by", "temperature", "baseline", "evaluators")

MOST_NAMES = 3  # in a message

Values = tuple[Any, ...]
pick_recorded, pick_attempts = itemgetter(*RECORDED), itemgetter(*OF_ATTEMPTS)


def count_once(
    evaluations: Sequence[EvaluationInfo], keys: Sequence[str], chosen: Collection[str]
) -> tuple[tuple[str, ...], list[EvaluationInfo]]:
    """Return keys and evaluations of rows that count no attempt twice.

    An attack that accepts samples beyond ε gets rows of its own. So do models of a constructed data set,
    which have seen other images than those of its root, unless ``chosen``, the facts that a user's
    conditions name, has ``trained_on``.
    Evaluators and the rules that they judged by become keys where a row has the same attempts judged twice,
    target rules where two of them may aim an image at the same label. Evaluations whose attempts are then all
    among another's of the same row are left out.
    """
    found = tuple(keys)
    if ACCEPTS not in found and _is_pooled_with_any_eps(evaluations, found):
        found = (*found, ACCEPTS)
    if TRAINED_ON not in (*found, *chosen) and _pools_constructed(evaluations, found):
        found = (*found, TRAINED_ON)
    alike = _list_alike(evaluations, found)
    for key in (*OF_JUDGES, "targets"):
        if key not in found and any(_clash(key, some) for some in alike):
            found = (*found, key)
            alike = _divide(alike, key)
    # Smaller sets of images are subsets of larger ones. (Labels and untargeted attacks may share a row.)
    left_out = set()
    for same in _divide(alike, "targets"):
        largest = max(same, key=lambda each: each.facts["n_images"])
        left_out |= {each.id for each in same if each is not largest}
    return found, [each for each in evaluations if each.id not in left_out]


def check_counted_once(
    evaluations: Sequence[EvaluationInfo], keys: Sequence[str], chosen: Collection[str]
) -> list[EvaluationInfo]:
    """Return the evaluations that :func:`count_once` does, for figures, whose panels are what they are.

    Raises:
        UsageError: a panel would hold different answers to one attempt.
    """
    found, counted = count_once(evaluations, keys, chosen)
    if len(found) > len(keys):
        key = found[len(keys)]
        if key == ACCEPTS:
            raise UsageError("an attack by --accept-eps is pooled with no other; choose one with --attack")
        names = list(dict.fromkeys(str(each.facts[key]) for each in evaluations))
        if key == TRAINED_ON:
            raise UsageError(
                "models of constructed data sets are pooled with others only where it is asked for: choose "
                f"with --where trained_on={names[0]}, or --where trained_on={','.join(names)} for all of them"
            )
        raise UsageError(
            f"the same attempts would count more than once: they differ in {key} "
            f"({', '.join(names[:MOST_NAMES])}{', …' if names[MOST_NAMES:] else ''}); "
            "choose with --ensemble, --temperature or --attack"
        )
    return counted


def find_pooled(evaluations: Sequence[EvaluationInfo], keys: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """Return the facts that differ within a row though they are no key, with their values in such rows."""
    found: dict[str, dict[Any, None]] = {}
    for row in _group(evaluations, keys):
        if len(row) == 1:
            continue
        # Column by column: with thousands of evaluations this is most of a query's own work.
        recorded = [pick_recorded(each.facts) for each in row]
        columns = dict(zip(RECORDED, zip(*recorded, strict=True), strict=True))
        if _differ_in_judges(row):
            columns["evaluators"] = tuple(each.facts["evaluators"] for each in row)
        attacks = dict.fromkeys(each.attack_uid for each in row)
        if len(set(recorded)) < len(attacks):
            columns["attack"] = tuple(attacks)
        columns |= _list_settings(row)
        if _follows_from_recipes(row, columns):
            del columns["attacked_ensemble"]
        for key, values in columns.items():
            different = dict.fromkeys(values)
            if key not in keys and len(different) > 1:
                found.setdefault(key, {}).update(different)
    return {key: tuple(values) for key, values in found.items()}


def _differ_in_judges(row: Sequence[EvaluationInfo]) -> bool:
    """Tell whether the judges differ otherwise than in that no attacked model judges itself."""
    groups: dict[object, list[tuple[str, frozenset[str]]]] = {}
    for each in row:
        judges = frozenset(judge.sha256 for judge in each.evaluators)
        groups.setdefault(each.facts["judged_by_uid"], []).append((each.attacked.sha256, judges))
    for group in groups.values():
        everyone = frozenset().union(*(judges for _, judges in group))
        if any(judges != everyone - {attacked} for attacked, judges in set(group)):
            return True
    return False


def _list_settings(row: Sequence[EvaluationInfo]) -> dict[str, Values]:
    """Return the hyperparameters in which models of one method differ, with their values in the row."""
    recipes = {each.attacked.recipe: each for each in row}
    if len(recipes) == 1:
        return {}
    by_method = _group(recipes.values(), ("method",))
    different = [
        key
        for key in HYPERPARAMETERS
        if any(len({str(each.facts[key]) for each in some}) > 1 for some in by_method)
    ]
    # As text where JSON holds a list.
    return {key: tuple(_hashable(each.facts[key]) for each in recipes.values()) for key in different}


def _hashable(value: object) -> object:
    return str(value) if isinstance(value, list | dict) else value


def _follows_from_recipes(row: Sequence[EvaluationInfo], columns: Mapping[str, Values]) -> bool:
    """Tell whether the attacked models' ensembles differ only because their recipes do, which is named."""
    if len(set(columns["method"])) == len(set(columns["trained_on"])) == len(set(columns["arch"])) == 1:
        named = [key for key in HYPERPARAMETERS if key in columns]
        if not named:
            return False
    ensembles: dict[str, set[str]] = {}
    for each in row:
        ensembles.setdefault(each.attacked.recipe, set()).add(each.facts["attacked_ensemble_uid"])
    return all(len(of_recipe) == 1 for of_recipe in ensembles.values())


def _group(evaluations: Iterable[EvaluationInfo], keys: Sequence[str]) -> Iterable[list[EvaluationInfo]]:
    """Return the evaluations of each row; labels, which are attempts' facts, do not divide evaluations."""
    groups: dict[Values, list[EvaluationInfo]] = {}
    own = _leave_labels(keys)
    for each in evaluations:
        groups.setdefault(tuple(each.facts[key] for key in own), []).append(each)
    return groups.values()


def _list_alike(evaluations: Iterable[EvaluationInfo], keys: Sequence[str]) -> list[list[EvaluationInfo]]:
    """Return the evaluations of each row whose attempts are the same, as far as both have them."""
    groups: dict[Values, list[EvaluationInfo]] = {}
    own = _leave_labels(keys)
    for each in evaluations:
        is_ours = each.facts["steps"] or each.facts["attack_by"]
        made = pick_attempts(each.facts) if is_ours else (each.attack_id,)  # elsewhere: unknown
        groups.setdefault((*(each.facts[key] for key in own), made), []).append(each)
    return [alike for alike in groups.values() if len(alike) > 1]


def _divide(alike: Iterable[list[EvaluationInfo]], key: str) -> list[list[EvaluationInfo]]:
    return [part for some in alike for part in _group(some, (key,))]


def _leave_labels(keys: Iterable[str]) -> list[str]:
    return [key for key in keys if key not in LABEL_KEYS]


def _pools_constructed(evaluations: Sequence[EvaluationInfo], keys: Sequence[str]) -> bool:
    """Tell whether a model that was trained on a constructed data set shares a row with one that was not."""
    if not any(each.facts["is_constructed"] for each in evaluations):
        return False
    return any(
        any(each.facts["is_constructed"] for each in row)
        and len({each.facts[TRAINED_ON] for each in row}) > 1
        for row in _group(evaluations, keys)
    )


def _is_pooled_with_any_eps(evaluations: Sequence[EvaluationInfo], keys: Sequence[str]) -> bool:
    """Tell whether an attack that accepts any ε shares a row with another."""
    return any(len({each.facts[ACCEPTS] for each in row}) > 1 for row in _group(evaluations, keys))


def _clash(key: str, alike: Sequence[EvaluationInfo]) -> bool:
    """Tell whether evaluations with the same attempts must be told apart by a fact."""
    values = {each.facts[key] for each in alike}
    if key != "targets":
        return len(values) > 1
    # Two labels never share an attempt, two rules (or a rule and a label) may.
    targeted = values - {"untargeted"}
    return len(targeted) > 1 and not targeted.isdisjoint(TARGET_RULES)
