"""READ FIRST. Four verbs, each a few steps in a row.

Train an ensemble; attack it and judge the samples; judge stored samples again; judge foreign samples.

One sample's walk: a split gives ``x`` → ``attacks.perturb`` pushes it towards ``t`` → the other
members say how far their outputs moved (``metrics.score``), divided by what a real change from y to t
does to them (``metrics.combine_baselines``) → a row in ``sample`` and one in ``score``
(``store.write``) → ``store.queries`` counts the bugs.
"""

from collections.abc import Sequence
from dataclasses import replace

from jsdelta_db.compute.attacks.preflight import check_images
from jsdelta_db.compute.data import Dataset
from jsdelta_db.config.attack import TARGET_RULES, AttackConfig
from jsdelta_db.config.evaluation import EvaluationConfig
from jsdelta_db.config.labels import parse_label
from jsdelta_db.errors import UsageError
from jsdelta_db.pipeline.evaluation.plan import plan_attack, plan_evaluation
from jsdelta_db.pipeline.evaluation.roles import cast_attacks, set_name
from jsdelta_db.pipeline.evaluation.roles_dataset import common_dataset
from jsdelta_db.pipeline.evaluation.work import Extras, Judged, work_on
from jsdelta_db.workbench.models import look_at_model, open_models
from jsdelta_db.workbench.workbench import Workbench


def attack_and_score(
    bench: Workbench,
    configs: Sequence[AttackConfig],
    *,
    ensemble: str | None = None,
    attacked: str = "first",
    evaluators: Sequence[str] = (),
    surrogates: Sequence[str] = (),
    rules: EvaluationConfig = EvaluationConfig(),  # noqa: B008 frozen
    extras: Extras = Extras(),  # noqa: B008 frozen
    keeps_samples: bool = True,
) -> Judged:
    """Attack members of an ensemble at every ε; the others judge the samples.

    Finished attacks are found and not repeated; what was stopped goes on where it was.

    Args:
        configs: one per ε, alike in all else.
        ensemble: name or uid prefix; the newest finished one if None.
        attacked: ``first``, ``all`` or a reference to models (see ``store/find.py``).
        evaluators, surrogates: references; the defaults are those of
            :func:`jsdelta_db.pipeline.evaluation.roles.cast_attacks`.
        keeps_samples: whether the perturbations are kept; without them nothing can look at them again.

    Raises:
        NothingToDoError: no ensemble, or no image that could be attacked.
        UsageError: no such model, nobody left to judge, or a setting that does not fit.
        ModelError: a checkpoint, outputs or gradients cannot be used.
    """
    if extras.stability and not keeps_samples:
        raise UsageError("--stability looks at the samples again; leave --no-save-samples out")
    with bench.store.transaction() as session:
        casts = cast_attacks(
            session, ensemble=ensemble, attacked=attacked, objective=configs[0].objective,
            evaluators=evaluators, surrogates=surrogates,
        )  # fmt: skip
        dataset_row = common_dataset(session, casts)
    dataset, load = open_models(bench, dataset_row, configs[0].device)
    check_images(dataset.splits[configs[0].split].batch(slice(None)), f"the images of {dataset.name!r}")
    plans = []
    for cast in casts:
        attacked_model = load(cast.attacked)
        look_at_model(attacked_model, configs[0].split)
        judges, held = [load(row) for row in cast.evaluators], [load(row) for row in cast.surrogates]
        for model in (*judges, *held):
            model.check_weights()
        attacked_model.logits("baseline")  # kept of every model, so that it can be judged by without it
        for config in configs:
            planned = plan_attack(
                bench, _with_label_number(config, dataset), dataset, dataset_row, attacked_model, held,
                keeps_samples=keeps_samples,
            )  # fmt: skip
            plans.append(plan_evaluation(bench, planned, rules, dataset, dataset_row, judges, cast.ensemble))
    return work_on(bench, f"attack {set_name(casts[0])}", plans, extras)


def _with_label_number(config: AttackConfig, dataset: Dataset) -> AttackConfig:
    """Name a target label by its number: ``cat`` and ``3`` are one attack.

    Raises:
        UnknownNameError: neither a rule nor a label.
    """
    if config.targets in TARGET_RULES:
        return config
    label = parse_label("--targets", config.targets, dataset.classes, TARGET_RULES)
    return replace(config, targets=str(label))
