"""READ FIRST. Two verbs, each a few steps in a row: train an ensemble; attack it and judge the samples.

One sample's walk: a split gives ``x`` → ``attacks.perturb`` pushes it towards ``t`` → the other
members say how far their outputs moved (``metrics.score``), divided by what a real change from y to t
does to them (``metrics.combine_baselines``) → a row in ``sample`` and one in ``score``
(``store.write``) → ``store.queries`` counts the bugs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from sqlalchemy.orm import Session

from jsdelta_db import data
from jsdelta_db.attacks.targets import parse_label
from jsdelta_db.config import DEFAULT_BETAS, TARGET_RULES, AttackConfig, EvaluationConfig, config_hash
from jsdelta_db.data import Dataset
from jsdelta_db.devices import resolve_device
from jsdelta_db.errors import UnknownNameError, UsageError
from jsdelta_db.judging import forget_run, open_run, work_off
from jsdelta_db.members import clean_logits, load_member, plan_member, train_member
from jsdelta_db.models.zoo import find_factory
from jsdelta_db.planning import Member, Plan, find_baselines, plan
from jsdelta_db.plots.histogram import draw_histogram, save_figure
from jsdelta_db.recipes import Recipe
from jsdelta_db.records import Baselines
from jsdelta_db.store import queries, runs
from jsdelta_db.store.schema import FINISHED, Ensemble, EnsembleMember, Model
from jsdelta_db.store.schema import Dataset as DatasetRow
from jsdelta_db.tracking import RunLog
from jsdelta_db.training import find_method
from jsdelta_db.workbench import Workbench


@dataclass(frozen=True, slots=True)
class TrainedEnsemble:
    """A finished ensemble and its members, in order; ``trained`` are the seeds that were not there before."""

    name: str
    uid: str
    members: Sequence[Model]
    trained: Sequence[int]


@dataclass(frozen=True, slots=True)
class AttackedEnsemble:
    """The evaluations that an attack call was about; ``worked_on`` of them were not finished before."""

    ensemble: str
    evaluations: Sequence[str]
    worked_on: int


def train_ensemble(
    bench: Workbench, recipe: Recipe, *, seed: int = 0, name: str | None = None, download: bool = False
) -> TrainedEnsemble:
    """Train members with seeds ``seed``, ``seed`` + 1, …; finished members are found and reused.

    Args:
        name: of the ensemble; defaults to the recipe's, with the first seed if that is not 0.
        download: fetch a data set that is missing.

    Raises:
        UnknownNameError: no such data set, architecture or method.
        DataError: the data set's files are missing.
        TrainingError, ModelError: a member can not be trained; finished ones are kept.
    """
    check_training(recipe)
    config = recipe.train
    dataset = data.load(config.dataset, bench.workspace.data_dir, download=download)
    with bench.store.transaction() as session:
        dataset_row = _dataset_row(session, dataset)
    rows = [
        plan_member(
            bench, dataset_id=dataset_row.id, dataset_uid=dataset_row.uid, recipe_name=recipe.name,
            config=config, seed=seed + i,
        )
        for i in range(recipe.members)
    ]  # fmt: skip
    ensemble = _plan_ensemble(
        bench, name or (f"{recipe.name}-seed{seed}" if seed else recipe.name), dataset_row, rows
    )
    to_train = [row.seed for row in rows if row.status != FINISHED]
    if ensemble.status == FINISHED:
        return TrainedEnsemble(ensemble.name, ensemble.uid, rows, [])
    run = bench.tracker.start(
        f"train {ensemble.name}", uid=ensemble.uid,
        params={"recipe": recipe.name, "members": recipe.members, "first_seed": seed, "method": config.method,
                "arch": config.arch, "dataset": config.dataset, "epochs": config.epochs},
    )  # fmt: skip
    with run.closing():
        run.dataset(name=dataset.name, digest=dataset_row.uid, source=dataset.name, context="training")
        members = [train_member(bench, row, dataset, config, run) for row in rows]
        with bench.store.transaction() as session:
            done = session.get_one(Ensemble, ensemble.id)
            done.finished_at, done.mlflow_run_id = runs.now(), run.logged_id
            runs.leave(done, FINISHED)
        for member in members:
            run.metrics({"clean_accuracy": member.clean_accuracy}, step=member.seed)
    return TrainedEnsemble(ensemble.name, ensemble.uid, members, to_train)


def check_training(recipe: Recipe) -> None:
    """Refuse a recipe that this machine and version can not train, before anything is made.

    Raises:
        UnknownNameError, UsageError: no such data set, architecture, method or device.
    """
    if recipe.train.dataset not in data.LOADERS:
        raise UnknownNameError("dataset", recipe.train.dataset, data.LOADERS)
    find_factory(recipe.train.arch)
    find_method(recipe.train.method)
    resolve_device(recipe.train.device)


def attack_and_score(
    bench: Workbench,
    configs: Sequence[AttackConfig],
    *,
    ensemble: str | None = None,
    attacked: str = "first",
    rules: EvaluationConfig = EvaluationConfig(),  # noqa: B008 frozen
) -> AttackedEnsemble:
    """Attack members of an ensemble at every ε; the others judge the samples.

    Finished attacks are found and not repeated; what was stopped goes on where it was.

    Args:
        configs: one per ε.
        ensemble: name or uid prefix; the newest finished one if None.
        attacked: ``first``, ``all`` or a member's seed.

    Raises:
        NothingToDoError: no ensemble, or no image that could be attacked.
        UsageError: no such member, or nobody left to judge.
        ModelError: a checkpoint or its outputs can not be used.
    """
    with bench.store.transaction() as session:
        chosen = runs.get_ensemble(session, ensemble)
        rows = runs.list_members(session, chosen)
        dataset_row = session.get_one(DatasetRow, chosen.dataset_id)
    to_attack = _choose_attacked(chosen, rows, attacked)
    dataset = data.load(dataset_row.name, bench.workspace.data_dir)
    _check_fingerprint(dataset, dataset_row)
    device = resolve_device(configs[0].device)
    members = [_load(bench, row, dataset, dataset_row.id, configs[0].split, device) for row in rows]
    configs = [_with_label_number(config, dataset) for config in configs]
    plans = [
        plan(bench, config, rules, dataset, dataset_row, chosen, member, members, device)
        for member in members
        if member.row.seed in to_attack
        for config in configs
    ]
    unfinished = [each for each in plans if not each.is_finished]
    elsewhere = next((each for each in unfinished if each.attack.device != device.type), None)
    if elsewhere is not None:
        raise UsageError(
            f"{elsewhere.title} was begun on {elsewhere.attack.device} and this is {device.type}; "
            f"go on with it there, or attack with another --seed"
        )
    if unfinished:
        _work_on(bench, chosen, unfinished, device)
    return AttackedEnsemble(chosen.name, [each.evaluation.uid for each in plans], len(unfinished))


def _work_on(bench: Workbench, ensemble: Ensemble, plans: Sequence[Plan], device: torch.device) -> None:
    """Work off plans under one MLflow run, each in a nested one."""
    parent = bench.tracker.start(
        f"attack {ensemble.name}", uid=runs.new_uid(),
        params={"ensemble": ensemble.uid, "attacks": len(plans), "steps": plans[0].config.steps,
                "targets": plans[0].config.targets},
    )  # fmt: skip
    baselines: dict[str, Baselines] = {}  # by attacked model: the attempts are the same at every ε
    with parent.closing():
        for each in plans:
            attacked = each.attacked.row.uid
            if attacked not in baselines:
                baselines[attacked] = find_baselines(bench, each)
            run = open_run(bench, each, parent)
            with run.closing():
                work_off(bench, each, baselines[attacked], run, device)
                try:
                    _log_results(bench, run, [each])
                except BaseException:
                    forget_run(bench, each)  # finished, but a repair has to log it
                    raise
            if bench.tracker.failed:
                forget_run(bench, each)
        _log_results(bench, parent, plans)


def _log_results(bench: Workbench, run: RunLog, plans: Sequence[Plan]) -> None:
    """Log success and bug fractions with step = round(255·ε), and the histogram, as MLflow shows them."""
    selection = queries.Selection(uids=tuple(each.evaluation.uid for each in plans))
    with bench.store.reading() as connection:
        table = queries.query_bugs(connection, DEFAULT_BETAS, ("norm", "eps"), selection)
        js_delta = queries.js_delta_by_eps(connection, selection)
    for step, metrics in queries.summary_metrics(table.rows).items():
        run.metrics(metrics, step=step)
    run.folder.mkdir(parents=True, exist_ok=True)
    figure = run.folder / "js_delta.png"
    save_figure(draw_histogram(js_delta), figure)
    run.file(figure)


def _dataset_row(session: Session, dataset: Dataset) -> DatasetRow:
    return runs.ensure_dataset(
        session, name=dataset.name, classes=dataset.classes, fingerprint=dataset.fingerprint()
    )


def _check_fingerprint(dataset: Dataset, row: DatasetRow) -> None:
    if dataset.fingerprint() != row.fingerprint:
        raise UsageError(
            f"dataset {dataset.name!r} is not the one the ensemble was trained on "
            f"({dataset.fingerprint()[:16]}, recorded {row.uid}); check --data-dir"
        )


def _plan_ensemble(bench: Workbench, name: str, dataset_row: DatasetRow, rows: Sequence[Model]) -> Ensemble:
    key = config_hash({"kind": "ensemble", "name": name}, [row.uid for row in rows])
    with bench.store.transaction() as session:
        ensemble = runs.find_or_create(
            session, Ensemble, key, lambda: Ensemble(name=name, dataset_id=dataset_row.id)
        )
        for position, row in enumerate(rows):
            session.merge(EnsembleMember(ensemble_id=ensemble.id, position=position, model_id=row.id))
    return ensemble


def _with_label_number(config: AttackConfig, dataset: Dataset) -> AttackConfig:
    """Name a target label by its number: ``cat`` and ``3`` are one attack.

    Raises:
        UnknownNameError: neither a rule nor a label.
    """
    if config.targets in TARGET_RULES:
        return config
    return replace(config, targets=str(parse_label(config.targets, dataset.classes)))


def _choose_attacked(ensemble: Ensemble, rows: Sequence[Model], attacked: str) -> set[int]:
    """Return the seeds of the members to attack.

    Raises:
        UsageError: no such member, or fewer than two members.
    """
    if len(rows) < 2:
        raise UsageError(
            f"ensemble {ensemble.name!r} has {len(rows)} member; one is attacked and the others judge, "
            "so train at least two: jsdelta train --members 5"
        )
    seeds = [row.seed for row in rows]
    if attacked in ("first", "all"):
        return set(seeds[:1] if attacked == "first" else seeds)
    if attacked.isdecimal() and int(attacked) in seeds:
        return {int(attacked)}
    raise UsageError(
        f"--attacked {attacked!r} is no member of {ensemble.name!r}; valid is first, all or a seed: "
        f"{', '.join(map(str, seeds))}"
    )


def _load(
    bench: Workbench, row: Model, dataset: Dataset, dataset_id: int, split: str, device: torch.device
) -> Member:
    network = load_member(bench, row, dataset, device)
    logits = {
        name: clean_logits(bench, row, network, dataset, dataset_id, name) for name in ("baseline", split)
    }
    return Member(row, network, logits)
