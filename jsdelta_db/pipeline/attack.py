"""Attack: members of an ensemble at every ε, their samples judged by the others.

What is finished is answered from rows; torch and MLflow are loaded where there is work.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from jsdelta_db.config.attack import TARGET_RULES, AttackConfig
from jsdelta_db.config.evaluation import EvaluationConfig
from jsdelta_db.config.labels import parse_label
from jsdelta_db.errors import UsageError
from jsdelta_db.pipeline.evaluation.finished import Extras, Judged, find_attacked, find_finished
from jsdelta_db.pipeline.evaluation.followers import judge_following
from jsdelta_db.pipeline.evaluation.roles import RoleRequest, Roles, common_dataset, find_roles
from jsdelta_db.samples.origins import remark_on_split
from jsdelta_db.workbench.model_files import check_weights
from jsdelta_db.workbench.workbench import Workbench

if TYPE_CHECKING:
    from jsdelta_db.compute.data import Dataset

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
        dataset = common_dataset(session, found)
        numbered = [_with_label_number(config, dataset.classes) for config in configs]
        attacked = find_attacked(session, found, dataset, numbered)
        finished = None if attacked is None else find_finished(session, attacked, rules, extras)
    if finished is None:
        return _attack(bench, found, numbered, rules, extras, keeps_samples)
    for model in {model.uid: model for roles in found for model in roles.models}.values():
        check_weights(bench.workspace, model)
    _remark(bench, first.split, finished[0].attack.n_images)
    judge_following(bench, finished)
    return Judged.of(finished)


def _attack(
    bench: Workbench,
    found: Sequence[Roles],
    configs: Sequence[AttackConfig],
    rules: EvaluationConfig,
    extras: Extras,
    keeps_samples: bool,
) -> Judged:
    """Open the models, check them, and work off what is not finished."""
    from jsdelta_db.compute.attacks.preflight import check_range
    from jsdelta_db.compute.data.dataset import find_range
    from jsdelta_db.pipeline.evaluation.judges import check_judges
    from jsdelta_db.pipeline.evaluation.open_roles import check_models, open_roles
    from jsdelta_db.pipeline.evaluation.plan import plan_attack
    from jsdelta_db.pipeline.evaluation.work import work_on
    from jsdelta_db.workbench.datasets import check_split

    first = configs[0]
    opened = open_roles(bench, found, first.device)
    dataset = opened[0].dataset
    check_split(dataset, first.split)
    _check_targets(first, dataset)
    split = dataset.splits[first.split]
    check_range(*find_range(split), f"the images of {dataset.name!r}")
    for roles in opened:
        check_models(roles, first.split)
    check_judges(opened)
    _remark(bench, first.split, min(first.images or len(split), len(split)))
    plans = []
    for roles in opened:
        for config in configs:
            plans.append(plan_attack(roles, config, rules, keeps_samples=keeps_samples))
    return work_on(bench, f"attack {found[0].title}", plans, extras)


def _remark(bench: Workbench, split: str, n_images: int) -> None:
    """Report that images are not meant to be attacked."""
    if split != "attack":
        bench.progress.report(remark_on_split(split, n_images, n_images))


def _check_targets(config: AttackConfig, dataset: "Dataset") -> None:
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


def _with_label_number(config: AttackConfig, classes: Sequence[str]) -> AttackConfig:
    """Name a target label by its number: ``cat`` and ``3`` are one attack.

    Raises:
        UnknownNameError: neither a rule nor a label.
    """
    if config.targets in TARGET_RULES:
        return config
    label = parse_label("--targets", config.targets, classes, TARGET_RULES)
    return replace(config, targets=str(label))
