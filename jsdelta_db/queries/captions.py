"""Captions: what the evaluations behind a figure have in common, in words."""

from collections.abc import Iterable, Sequence

from jsdelta_db.queries.selection import EvaluationInfo

MOST_VALUES = 3  # of a fact, named
OURS = "jsdelta"


def describe(evaluations: Sequence[EvaluationInfo]) -> list[str]:
    """Return pieces of a subtitle: data set, attacked models, attack, evaluators."""
    if not evaluations:
        return []
    facts = [each.facts for each in evaluations]
    models = len({each.attacked.sha256 for each in evaluations})
    judges = sorted({each.n_evaluators for each in evaluations})
    n_judges = f"{judges[0]}" if len(judges) == 1 else f"{judges[0]} to {judges[-1]}"
    elsewhere = {each["dataset"] for each in facts} != {each["trained_on"] for each in facts}
    trained_on = [f"trained on {_join(each['trained_on'] for each in facts)}"] if elsewhere else []
    return [
        _join(each["dataset"] for each in facts),
        f"{models} {_join(each['arch'] for each in facts)} model{'s' if models > 1 else ''} "
        f"({_join(each['method'] for each in facts)})",
        *trained_on,
        _describe_attack(evaluations),
        f"{n_judges} evaluator{'' if judges == [1] else 's'}",
    ]


def _describe_attack(evaluations: Sequence[EvaluationInfo]) -> str:
    """Return the attack's norm, kind, steps, objective and targets."""
    facts = [each.facts for each in evaluations]
    kinds = dict.fromkeys(
        str(each["attack_by"] or ("PGD" if each["library"] == OURS else each["library"])) for each in facts
    )
    parts = [f"{_join(each['norm'] for each in facts)} {_join(kinds)}"]
    steps = [each["steps"] for each in facts if each["steps"]]
    parts += [f"{_join(steps)} steps"] if steps else []
    objectives = dict.fromkeys(each["objective"] for each in facts)
    parts += [f"objective {_join(objectives)}"] if list(objectives) != ["target"] else []
    targets = _join(each["targets"] for each in facts)
    parts.append(targets if targets == "untargeted" else f"targets: {targets}")
    return ", ".join(parts)


def _join(values: Iterable[object]) -> str:
    """Return a few values in words."""
    found = list(dict.fromkeys(map(str, values)))
    return ", ".join(found[:MOST_VALUES]) + (", …" if found[MOST_VALUES:] else "")
