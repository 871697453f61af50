"""Commands of attacks: what one would type to make an attack again, put together from what is recorded."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jsdelta_db.config.attack import AttackConfig
from jsdelta_db.config.attack_by import parse_recorded
from jsdelta_db.queries.facts.keys import FACTS
from jsdelta_db.queries.facts.names import AT
from jsdelta_db.queries.facts.values import show
from jsdelta_db.queries.selection import ModelInfo

DEFAULTS = AttackConfig(eps=1 / 255)
# The fact that each option sets; what is at its default goes unsaid.
OF_EVERY_ATTACK = {
    "norm": "norm",
    "targets": "targets",
    "split": "split",
    "images": "images",
    "seed": "attack_seed",
}
OF_OUR_STEPS = {each: each for each in ("steps", "relative_step_size", "restarts", "objective", "stop")}
USUAL_TEMPERATURE = "1"
SHORT_UID = 8  # characters: enough for every reference


def as_command(
    facts: Mapping[str, Any], recorded: object, surrogates: Sequence[ModelInfo], n_members: int
) -> str | None:
    """Return the command that makes an attack with its first evaluation; None for samples made elsewhere.

    Device, dtype and what is measured beside the scores are left out.

    Args:
        facts: of the attack's first evaluation.
        recorded: the column ``attack_by``.
        n_members: of the ensemble that judges.
    """
    if not facts["steps"] and recorded is None:
        return None
    words = ["jsdelta", "attack", *_name_roles(facts, surrogates, n_members)]
    words += ["--eps", show(facts["eps"], FACTS["eps"], facts), *_list_changed(facts, OF_EVERY_ATTACK)]
    words += _call(recorded) if recorded is not None else _list_changed(facts, OF_OUR_STEPS)
    words += ["--no-random-start"] if recorded is None and not facts["random_start"] else []
    rule = facts["temperature"]
    return shlex.join([*words, *(["--temperature", rule] if rule not in (None, USUAL_TEMPERATURE) else [])])


def _name_roles(facts: Mapping[str, Any], surrogates: Sequence[ModelInfo], n_members: int) -> Iterator[str]:
    judges, home = facts["judges"], facts["judged_by_uid"]
    attacked = facts["attacked_uid"][:SHORT_UID]
    are_the_others = bool(home) and home == facts["attacked_ensemble_uid"] and not surrogates
    if home:
        yield from ("--ensemble", _name_ensemble(facts["judged_by"], home))
    if are_the_others and facts["model_name"] is None:
        attacked = str(facts["model_seed"])
    yield from ("--attacked", facts["model_name"] or attacked)
    if not (are_the_others and len(judges) == n_members - 1):
        for reference in _refer_to(judges, home):
            yield from ("--evaluators", reference)
    for surrogate in surrogates:
        yield from ("--surrogates", surrogate.name or surrogate.uid[:SHORT_UID])


def _refer_to(judges: Sequence[ModelInfo], home: str | None) -> list[str]:
    """Return references to evaluators: by their seeds they are still an ensemble's, by uids nobody's."""
    if home and judges:
        return [",".join(str(judge.seed) for judge in judges)]
    return [judge.name or judge.uid[:SHORT_UID] for judge in judges]


def _name_ensemble(label: str, uid: str) -> str:
    """Return an ensemble's name; its uid where others have the same name."""
    return uid[:SHORT_UID] if AT in label else label


def _list_changed(facts: Mapping[str, Any], options: Mapping[str, str]) -> Iterator[str]:
    for name, key in options.items():
        value = facts[key]
        if value is not None and value != getattr(DEFAULTS, name):
            yield from (
                f"--{name.replace('_', '-')}",
                f"{value:g}" if isinstance(value, float) else str(value),
            )


def _call(recorded: object) -> Iterator[str]:
    by = parse_recorded(recorded)
    if by is None:
        return
    yield from ("--attack-by", by["name"])
    for key, value in by["arguments"].items():
        yield from ("--set", f"{key}={json.dumps(value)}")
    if by["accept_eps"]:
        yield "--accept-eps"
