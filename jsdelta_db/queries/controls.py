"""Control outcomes: known answers of an evaluation, and the metric's assumptions about its evaluators."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jsdelta_db.config.controls import (
    ASSUMPTIONS,
    CONTROLS,
    FOLLOWS_ATTACKED,
    IDENTITIES,
    INVARIANCE,
    INVARIANCE_FLIP,
    INVARIANCE_NOISE,
    INVARIANCE_SHIFT,
    PAIRS,
)
from jsdelta_db.queries.selection import EvaluationInfo, Row, Selection, list_evaluations
from jsdelta_db.store.reading import Reader, fetch

TOO_FEW_TO_FOLLOW = (
    f"{FOLLOWS_ATTACKED}: with fewer than three evaluators nobody can tell which one is out of line; "
    "no verdict is possible"
)
CHANGES = {INVARIANCE_FLIP: "flips", INVARIANCE_SHIFT: "small shifts", INVARIANCE_NOISE: "faint noise"}
RESULTS = """
SELECT control_result.evaluation_id, control_result.name, control_result.value, control_result.low,
       control_result.high, control_result.passed
FROM control_result
JOIN evaluation ON evaluation.id = control_result.evaluation_id
ORDER BY control_result.evaluation_id, control_result.name
"""
OF_EVALUATION = ("evaluation", "attack", "attacked", "norm", "eps")
OF_RESULT = ("value", "low", "high", "verdict")
TEST, OF_CODE = "test", "identity"  # kinds: what can fail for these models, and what algebra makes hold
CONTROL_KEYS = (*OF_EVALUATION, "control", "kind", *OF_RESULT)
ASSUMPTION_KEYS = (*OF_EVALUATION, "evaluators", "assumption", *OF_RESULT)


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Rows of stored outcomes, and the uids of evaluations without any."""

    rows: list[Row]
    without: tuple[str, ...]


def query_controls(
    reader: Reader,
    selection: Selection = Selection(),  # noqa: B008 frozen
) -> Outcomes:
    """Return the control outcomes of the selected evaluations, evaluation by evaluation.

    Those that can fail come first, then, apart, the algebraic identities, which test the code alone.
    """
    found = _query(reader, selection, "control", CONTROLS, needed=PAIRS)
    rows = [{**row, "kind": OF_CODE if row["control"] in IDENTITIES else TEST} for row in found.rows]
    return Outcomes(sorted(rows, key=lambda row: row["kind"] == OF_CODE), found.without)


def summarize_controls(rows: Iterable[Row]) -> list[str]:
    """Return a line for each kind: how many pass, and which fail."""
    lines = []
    for kind, title in ((TEST, "controls"), (OF_CODE, "identities, which test the code alone")):
        judged = [row for row in rows if row["kind"] == kind and row["verdict"] != "shown"]
        failed = dict.fromkeys(row["control"] for row in judged if row["verdict"] == "fail")
        passed = sum(row["verdict"] == "pass" for row in judged)
        names = f"; failed: {', '.join(failed)}" if failed else ""
        lines.append(f"{title}: {passed} of {len(judged)} pass{names}")
    return lines


def explain_controls(rows: Iterable[Row]) -> list[str]:
    """Say once where no verdict on copies is possible."""
    undecided = any(row["control"] == FOLLOWS_ATTACKED and row["value"] is None for row in rows)
    return [TOO_FEW_TO_FOLLOW] if undecided else []


def query_assumptions(
    reader: Reader,
    selection: Selection = Selection(),  # noqa: B008 frozen
) -> Outcomes:
    """Return how far the evaluators agree, and how invariant they are to label-preserving changes.

    Agreement is stored with every evaluation; ``without`` names those whose invariance was not measured.
    """
    return _query(reader, selection, "assumption", ASSUMPTIONS, needed=INVARIANCE)


def explain_failures(rows: Iterable[Row]) -> list[str]:
    """Explain each failed invariance once, by its largest value."""
    worst: dict[str, float] = {}
    for row in rows:
        if row["verdict"] == "fail" and row["assumption"] in CHANGES:
            worst[row["assumption"]] = max(row["value"], worst.get(row["assumption"], row["value"]))
    return [
        f"JSΔ of {CHANGES[name]} is {value:.2f}: these models were not trained to expect "
        f"{CHANGES[name]}; to them that is a change of features, though the label stays"
        + (" (if it does: a mirrored digit is another sign)" if name == INVARIANCE_FLIP else "")
        for name, value in worst.items()
    ]


def _query(
    reader: Reader, selection: Selection, kind: str, order: Sequence[str], *, needed: Sequence[str]
) -> Outcomes:
    """Return the outcomes of one kind, in order; names that this version does not know come last.

    Args:
        kind: ``control`` or ``assumption``, the key of the name in a row.
        needed: an evaluation without any of these is listed in ``without``.
    """
    stored: dict[int, dict[str, Row]] = {}
    for evaluation_id, name, value, low, high, passed in fetch(reader, RESULTS):
        if (name in ASSUMPTIONS) == (kind == "assumption"):
            verdict = "shown" if passed is None else "pass" if passed else "fail"
            stored.setdefault(evaluation_id, {})[name] = {
                kind: name, "value": value, "low": low, "high": high, "verdict": verdict,
            }  # fmt: skip
    rows: list[Row] = []
    without: list[str] = []
    for evaluation in list_evaluations(reader, selection):
        found = stored.get(evaluation.id, {})
        if not any(name in found for name in needed):
            without.append(evaluation.uid)
        ordered = sorted(found, key=lambda name: (_place(name, order), name))
        rows += [{**_facts(evaluation), **found[name]} for name in ordered]
    return Outcomes(rows, tuple(without))


def _place(name: str, order: Sequence[str]) -> int:
    return order.index(name) if name in order else len(order)


def _facts(evaluation: EvaluationInfo) -> Row:
    facts = {key: evaluation.facts[key] for key in ("attacked", "norm", "eps", "evaluators")}
    return {"evaluation": evaluation.uid, "attack": evaluation.attack_uid, **facts}
