"""What the controls came to, and whether the evaluators are what the metric takes them for."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jsdelta_db.queries.selection import EvaluationInfo, Row, Selection, list_evaluations
from jsdelta_db.store.reading import Reader, fetch

# In the order of their rows; a test holds them against controls.py, which loads torch.
AGREEMENT = ("agreement_label", "agreement_js", "accuracy_spread")
INVARIANCE = {
    "invariance_flip": "flips",
    "invariance_shift": "small shifts",
    "invariance_noise": "faint noise",
}
ASSUMPTIONS = (*AGREEMENT, *INVARIANCE)
CONTROLS = (
    "identity", "noise_js_delta", "noise_success", "clean_pairs", "attacked_among_evaluators",
    "attacked_among_evaluators_bugs", "joint_attack", "joint_attack_success", "bug_seeking",
)  # fmt: skip
RESULTS = """
SELECT control_result.evaluation_id, control_result.name, control_result.value, control_result.low,
       control_result.high, control_result.passed
FROM control_result
JOIN evaluation ON evaluation.id = control_result.evaluation_id
ORDER BY control_result.evaluation_id, control_result.name
"""
OF_EVALUATION = ("evaluation", "attack", "attacked", "norm", "eps")
OF_RESULT = ("value", "low", "high", "verdict")
CONTROL_KEYS = (*OF_EVALUATION, "control", *OF_RESULT)
ASSUMPTION_KEYS = (*OF_EVALUATION, "evaluators", "assumption", *OF_RESULT)


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Rows of stored outcomes, and the uids of evaluations that lack them."""

    rows: list[Row]
    without: tuple[str, ...]


def query_controls(
    reader: Reader,
    selection: Selection = Selection(),  # noqa: B008 frozen
) -> Outcomes:
    """Return what the controls of the selected evaluations came to, evaluation by evaluation."""
    return _query(reader, selection, "control", (), CONTROLS)


def query_assumptions(
    reader: Reader,
    selection: Selection = Selection(),  # noqa: B008 frozen
) -> Outcomes:
    """Return how far the evaluators agree, and how little they mind changes that keep the label.

    Agreement is stored with every evaluation; those lack something that did not look at the changes.
    """
    return _query(reader, selection, "assumption", ASSUMPTIONS, tuple(INVARIANCE))


def explain_failures(rows: Iterable[Row]) -> list[str]:
    """Say in plain words what a failed invariance means, each kind once, by its largest value."""
    worst: dict[str, float] = {}
    for row in rows:
        if row["verdict"] == "fail" and row["assumption"] in INVARIANCE:
            worst[row["assumption"]] = max(row["value"], worst.get(row["assumption"], row["value"]))
    return [
        f"JSΔ of {INVARIANCE[name]} is {value:.2f}: these models were not trained to expect "
        f"{INVARIANCE[name]}; to them that is a change of features, though the label stays"
        + (" (if it does: a mirrored digit is another sign)" if name == "invariance_flip" else "")
        for name, value in worst.items()
    ]


def _query(
    reader: Reader,
    selection: Selection,
    what: str,
    names: Sequence[str],
    needed: Sequence[str],
) -> Outcomes:
    """Return rows of these names (of all but the assumptions if none are given), in their order."""
    stored: dict[int, dict[str, Row]] = {}
    for evaluation_id, name, value, low, high, passed in fetch(reader, RESULTS):
        if name in names if names else name not in ASSUMPTIONS:
            verdict = "shown" if passed is None else "pass" if passed else "fail"
            stored.setdefault(evaluation_id, {})[name] = {
                what: name, "value": value, "low": low, "high": high, "verdict": verdict,
            }  # fmt: skip
    rows: list[Row] = []
    without: list[str] = []
    for evaluation in list_evaluations(reader, selection):
        found = stored.get(evaluation.id, {})
        if not any(name in found for name in needed):
            without.append(evaluation.uid)
        ordered = sorted(found, key=lambda name: (_place(name, names or CONTROLS), name))
        rows += [{**_facts(evaluation), **found[name]} for name in ordered]
    return Outcomes(rows, tuple(without))


def _place(name: str, order: Sequence[str]) -> int:
    return order.index(name) if name in order else len(order)


def _facts(evaluation: EvaluationInfo) -> Row:
    facts = {key: evaluation.facts[key] for key in ("attacked", "norm", "eps", "evaluators")}
    return {"evaluation": evaluation.uid, "attack": evaluation.attack_uid, **facts}
