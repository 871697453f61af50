"""Baselines of an evaluation: of its evaluators together, for the label pairs that its samples may have.

They are found before the samples. Only untargeted attacks on many classes could reach half a million label
pairs and do reach a few: these pairs' baselines are found chunk by chunk.
"""

from collections.abc import Collection

from jsdelta_db.compute.metrics import combine_baselines
from jsdelta_db.compute.metrics.draws import draws
from jsdelta_db.config.evaluation import TEMPERATURE_ONE
from jsdelta_db.pipeline.evaluation.plan import Plan
from jsdelta_db.records import Baselines, LabelPair, Samples, label_pair
from jsdelta_db.store.baselines import write_evaluation_baselines


def find_baselines(plan: Plan, pairs: Collection[LabelPair]) -> Baselines:
    """Return the evaluators' baselines for some label pairs, those of labels that have images.

    The attacked model's own are stored, too: the measure ``relative`` divides by them.
    """
    evaluators, rule = plan.roles.evaluators, plan.evaluation.temperature_rule
    for each in dict.fromkeys((TEMPERATURE_ONE, rule)):
        plan.roles.attacked.baselines(pairs, each)
    return combine_baselines(
        [member.baselines(pairs, rule) for member in evaluators],
        [member.logits("baseline") for member in evaluators],
        plan.roles.dataset.splits["baseline"].labels.numpy(),
        plan.temperatures,
    )


def add_reached(plan: Plan, samples: Samples, baselines: Baselines) -> None:
    """Add, and store, the baselines of label pairs that could not be known before the samples."""
    if not draws(len(plan.roles.dataset.classes)):
        return
    reached = pairs_of(samples) - plan.pairs
    if not reached:
        return
    baselines.update(find_baselines(plan, reached - baselines.keys()))
    found = {pair: baselines[pair] for pair in sorted(reached & baselines.keys())}
    with plan.roles.bench.store.transaction() as session:
        write_evaluation_baselines(session, evaluation_id=plan.evaluation.id, baselines=found)


def pairs_of(samples: Samples) -> set[LabelPair]:
    """Return the label pairs of some samples."""
    labels = samples.attempts.source_label.tolist(), samples.target_label.tolist()
    return {label_pair(y, t) for y, t in zip(*labels, strict=True) if y != t}
