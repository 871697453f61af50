"""Filling in: baselines that an earlier version did not store, from the models' clean logits.

The attacked models' own, and those of the mean outputs without each evaluator.
"""

from collections.abc import Iterator

import numpy as np
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from jsdelta_db.compute.metrics import combine_baselines
from jsdelta_db.config.evaluation import TEMPERATURE_ONE
from jsdelta_db.errors import JsdeltaError
from jsdelta_db.records import Baselines, LabelPair
from jsdelta_db.store.schema import (
    FINISHED,
    Attack,
    Dataset,
    Evaluation,
    EvaluationBaseline,
    EvaluationMember,
    Model,
    RhoBaseline,
)
from jsdelta_db.workbench.models import open_models
from jsdelta_db.workbench.workbench import Workbench


def fill_baselines(bench: Workbench) -> Iterator[str]:
    """Fill in the baselines that finished evaluations lack.

    Yields:
        A line for each evaluation: done, or why not.
    """
    with bench.store.read_session() as session:
        rows = session.execute(
            select(Evaluation, Attack)
            .join(Attack, Attack.id == Evaluation.attack_id)
            .where(Evaluation.status == FINISHED)
            .order_by(Evaluation.id)
        ).all()
        lacking = [(*row, lack) for row in rows if any(lack := _find_lacking(session, *row))]
    known: dict[object, Baselines] = {}  # the same at every ε
    for evaluation, attack, (attacked, without) in lacking:
        try:
            if attacked:
                _add_attacked(bench, evaluation, attack, attacked)
            if without:
                _add_without(bench, evaluation, attack, without, known)
        except JsdeltaError as error:
            yield f"evaluation {evaluation.uid} stays without some baselines: {error}"
        else:
            yield f"added the baselines that evaluation {evaluation.uid} lacked"


def _find_lacking(
    session: Session, evaluation: Evaluation, attack: Attack
) -> tuple[set[LabelPair], set[LabelPair]]:
    """Return the label pairs without a baseline of the attacked model, and those of the evaluators."""
    rows = session.execute(
        select(
            EvaluationBaseline.label_low,
            EvaluationBaseline.label_high,
            EvaluationBaseline.rho_of_mean_without,
        ).where(EvaluationBaseline.evaluation_id == evaluation.id)
    ).all()
    pairs = {(low, high) for low, high, _ in rows}
    attacked: set[LabelPair] = set()
    for rule in {TEMPERATURE_ONE, evaluation.temperature_rule}:
        stored = session.execute(
            select(RhoBaseline.label_low, RhoBaseline.label_high).filter_by(
                model_id=attack.attacked_model_id, dataset_id=attack.dataset_id, split="baseline",
                temperature_rule=rule,
            )
        )  # fmt: skip
        attacked |= pairs - {(low, high) for low, high in stored}
    members = session.query(EvaluationMember).filter_by(evaluation_id=evaluation.id).count()
    without = {(low, high) for low, high, packed in rows if packed is None and members > 1}
    return attacked, without


def _add_attacked(bench: Workbench, evaluation: Evaluation, attack: Attack, pairs: set[LabelPair]) -> None:
    with bench.store.read_session() as session:
        dataset_row = session.get_one(Dataset, attack.dataset_id)
        model = session.get_one(Model, attack.attacked_model_id)
    _, load = open_models(bench, dataset_row, "cpu")
    for rule in dict.fromkeys((TEMPERATURE_ONE, evaluation.temperature_rule)):
        load(model).baselines(pairs, rule)


def _add_without(
    bench: Workbench,
    evaluation: Evaluation,
    attack: Attack,
    pairs: set[LabelPair],
    known: dict[object, Baselines],
) -> None:
    with bench.store.read_session() as session:
        dataset_row = session.get_one(Dataset, attack.dataset_id)
        members = session.execute(
            select(Model, EvaluationMember.temperature)
            .join(EvaluationMember, EvaluationMember.model_id == Model.id)
            .where(EvaluationMember.evaluation_id == evaluation.id)
            .order_by(EvaluationMember.position)
        ).all()
    temperatures = [temperature for _, temperature in members]
    key = attack.dataset_id, tuple(model.id for model, _ in members), tuple(temperatures), frozenset(pairs)
    if key not in known:
        dataset, load = open_models(bench, dataset_row, "cpu")
        evaluators = [load(model) for model, _ in members]
        known[key] = combine_baselines(
            [member.baselines(pairs, evaluation.temperature_rule) for member in evaluators],
            [member.logits("baseline") for member in evaluators],
            dataset.splits["baseline"].labels.numpy(),
            temperatures,
        )
    with bench.store.transaction() as session:
        for (low, high), baseline in known[key].items():
            session.execute(
                update(EvaluationBaseline)
                .where(
                    EvaluationBaseline.evaluation_id == evaluation.id,
                    EvaluationBaseline.label_low == low,
                    EvaluationBaseline.label_high == high,
                    EvaluationBaseline.rho_of_mean_without.is_(None),
                )
                .values(rho_of_mean_without=np.array(baseline.rho_of_mean_without, "<f8").tobytes())
            )
