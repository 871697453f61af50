"""Attack: members of an ensemble at every ε, their samples judged by the others."""

from collections.abc import Sequence
from dataclasses import replace

from jsdelta_db.compute.attacks.preflight import check_range
from jsdelta_db.compute.data import Dataset
from jsdelta_db.compute.data.dataset import find_range
from jsdelta_db.config.attack import TARGET_RULES, AttackConfig
from jsdelta_db.config.evaluation import EvaluationConfig
from jsdelta_db.config.labels import parse_label
from jsdelta_db.errors import UsageError
from jsdelta_db.pipeline.evaluation.judges import check_judges
from jsdelta_db.pipeline.evaluation.plan import plan_attack
from jsdelta_db.pipeline.evaluation.roles import RoleRequest, check_models, find_roles, open_roles
from jsdelta_db.pipeline.evaluation.work import Extras, Judged, work_on
from jsdelta_db.samples.origins import remark_on_split
from jsdelta_db.workbench.datasets import check_split
from jsdelta_db.workbench.workbench import Workbench

MOST_TARGETS = 100  # of an image, without a question


def attack_and_score(
    bench: Workbench,
    configs: Sequence[AttackConfig],
    request: RoleRequest = RoleRequest(),  # noqa: B008 frozen
    *,
    rules: EvaluationConfig = EvaluationConfig(),  # noqa: B008 frozen
    extras: Extras = Extras(),  # noqa: B008 frozen
    keeps_samples: bool = True,
) -> Judged:
    """Attack members of an ensemble at every ε; the others judge the samples.

    Finished attacks are found and not repeated; a stopped one goes on where it was.

    Args:
        configs: one per ε, alike in all else.
        request: who takes part.
        keeps_samples: whether the perturbations are stored; without them nothing can use them again.

    Raises:
        NothingToDoError: no ensemble, or no image that could be attacked.
        UsageError: no such model, no evaluator that may judge, or a setting that does not fit.
        ModelError: a checkpoint, outputs or gradients cannot be used.
    """
    if extras.stability and not keeps_samples:
        raise UsageError("--stability looks at the samples again; leave --no-save-samples out")
    first = configs[0]
    with bench.store.read_session() as session:
        found = find_roles(session, request, first.objective)
    opened = open_roles(bench, found, first.device)
    dataset = opened[0].dataset
    check_split(dataset, first.split)
    _check_targets(first, dataset)
    check_range(*find_range(dataset.splits[first.split]), f"the images of {dataset.name!r}")
    numbered = [_with_label_number(config, dataset) for config in configs]
    for roles in opened:
        check_models(roles, first.split)
    check_judges(opened)
    if first.split != "attack":
        n = min(first.images or len(dataset.splits[first.split]), len(dataset.splits[first.split]))
        bench.progress.report(remark_on_split(first.split, n, n))
    plans = []
    for roles in opened:
        for config in numbered:
            plans.append(plan_attack(roles, config, rules, keeps_samples=keeps_samples))
    return work_on(bench, f"attack {found[0].title}", plans, extras)


def _check_targets(config: AttackConfig, dataset: Dataset) -> None:
    """Ask before each image is aimed at very many labels.

    Raises:
        UsageError: nobody agreed to it.
    """
    n_targets, n_images = len(dataset.classes) - 1, len(dataset.splits[config.split])
    if config.targets == "all" and n_targets > MOST_TARGETS and not config.yes:
        attempts = n_targets * min(config.images or n_images, n_images)
        raise UsageError(
            f"--targets all is {n_targets:,} targets an image, up to {attempts:,} attempts at each ε: add "
            "--yes to start them, or take --targets random, or fewer --images"
        )


def _with_label_number(config: AttackConfig, dataset: Dataset) -> AttackConfig:
    """Name a target label by its number: ``cat`` and ``3`` are one attack.

    Raises:
        UnknownNameError: neither a rule nor a label.
    """
    if config.targets in TARGET_RULES:
        return config
    label = parse_label("--targets", config.targets, dataset.classes, TARGET_RULES)
    return replace(config, targets=str(label))
