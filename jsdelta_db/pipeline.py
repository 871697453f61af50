"""READ FIRST. Four verbs, each a few steps in a row.

Train an ensemble; attack it and judge the samples; judge stored samples again; judge foreign samples.

One sample's walk: a split gives ``x`` → ``attacks.perturb`` pushes it towards ``t`` → the other
members say how far their outputs moved (``metrics.score``), divided by what a real change from y to t
does to them (``metrics.combine_baselines``) → a row in ``sample`` and one in ``score``
(``store.write``) → ``store.queries`` counts the bugs.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from jsdelta_db.attacks.preflight import check_images
from jsdelta_db.attacks.targets import parse_label
from jsdelta_db.cast import Cast, cast_attacks, cast_judges
from jsdelta_db.chunks import check_kept
from jsdelta_db.config import DEFAULT_BETAS, TARGET_RULES, AttackConfig, EvaluationConfig
from jsdelta_db.controls import run_controls
from jsdelta_db.data import Dataset
from jsdelta_db.devices import resolve_device
from jsdelta_db.ensembles import (
    default_name,
    measure_ensemble,
    plan_ensemble,
    read_robust_accuracies,
    train_members,
)
from jsdelta_db.errors import UnknownNameError, UsageError
from jsdelta_db.foreign import Measured, plan_foreign
from jsdelta_db.judging import add_stability, forget_run, open_run, work_off
from jsdelta_db.models.zoo import find_factory
from jsdelta_db.opening import common_dataset, look_at_model, open_dataset, open_models
from jsdelta_db.planning import Plan, PlannedAttack, find_baselines, plan_attack, plan_evaluation
from jsdelta_db.plots.histogram import draw_histogram, save_figure
from jsdelta_db.recipes import Recipe
from jsdelta_db.records import Baselines
from jsdelta_db.sample_file import ForeignSamples
from jsdelta_db.store import find, queries, runs, write
from jsdelta_db.store.schema import FINISHED, Attack, Ensemble, Model
from jsdelta_db.store.selection import Selection
from jsdelta_db.tracking import RunLog
from jsdelta_db.training import find_method
from jsdelta_db.workbench import Workbench


@dataclass(frozen=True, slots=True)
class TrainedEnsemble:
    """A finished ensemble and its members, in order.

    Attributes:
        trained: the seeds that were not there before.
        robust_accuracies: the members', under the data set's one attack; None where not measured.
    """

    name: str
    uid: str
    members: Sequence[Model]
    trained: Sequence[int]
    robust_accuracies: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Judged:
    """The evaluations that a call was about; ``worked_on`` of them were not finished before."""

    evaluations: Sequence[str]
    worked_on: int


@dataclass(frozen=True, slots=True)
class Extras:
    """What is looked at beside JSΔ.

    Attributes:
        controls: whether the metric does what it should on pairs with a known answer.
        stability: how firmly successful samples sit at their label, and how sharp the attacked model is.
    """

    controls: bool = False
    stability: bool = False


def train_ensemble(
    bench: Workbench,
    recipe: Recipe,
    *,
    seed: int = 0,
    name: str | None = None,
    download: bool = False,
    jobs: int = 1,
) -> TrainedEnsemble:
    """Train members with seeds ``seed``, ``seed`` + 1, …; finished members are found and reused.

    A member that was stopped goes on from its last epoch. How well the members do, clean and under the
    data set's one attack, and how far they agree is measured at the end.

    Args:
        name: of the ensemble; defaults to the recipe's, with the first seed if that is not 0.
        download: fetch a data set that is missing.
        jobs: how many members to train at a time, each in a process of its own if more than one.

    Raises:
        UnknownNameError: no such data set, architecture or method.
        DataError: the data set's files are missing.
        TrainingError: a member can not be trained; the others are trained and kept.
    """
    check_training(recipe, name=name)
    config = recipe.train
    dataset, dataset_row = open_dataset(bench, config.dataset, download=download)
    name = name or default_name(recipe, seed, dataset_row)
    planned = plan_ensemble(bench, recipe, seed, name, dataset, dataset_row)
    ensemble, to_train = planned.row, [row.seed for row in planned.members if row.status != FINISHED]
    members: Sequence[Model] = planned.members
    if ensemble.status != FINISHED:
        run = bench.tracker.start(
            f"train {ensemble.name}", uid=ensemble.uid,
            params={"recipe": recipe.name, "members": recipe.members, "first_seed": seed,
                    "method": config.method, "arch": ", ".join(recipe.archs) or config.arch,
                    "dataset": config.dataset, "epochs": config.epochs},
        )  # fmt: skip
        with run.closing():
            run.dataset(name=dataset.name, digest=dataset_row.uid, source=dataset.name, context="training")
            members = train_members(bench, planned, run, jobs)
            measure_ensemble(bench, planned, members)
            with bench.store.transaction() as session:
                done = session.get_one(Ensemble, ensemble.id)
                done.finished_at, done.mlflow_run_id = runs.now(), run.logged_id
                runs.leave(done, FINISHED)
            for member in members:
                run.metrics({"clean_accuracy": member.clean_accuracy}, step=member.seed)
    with bench.store.transaction() as session:
        robust = read_robust_accuracies(session, members, planned.check)
    return TrainedEnsemble(ensemble.name, ensemble.uid, members, to_train, robust)


def check_training(
    recipe: Recipe, known_datasets: Iterable[str] | None = None, *, name: str | None = None
) -> None:
    """Refuse a recipe that this machine and version can not train, before anything is made.

    Args:
        known_datasets: names to hold the recipe's data set against; None leaves that to the opening.
        name: of the ensemble, if one is given.

    Raises:
        UnknownNameError, UsageError: no such data set, architecture, method or device, or no name.
    """
    if name is not None and (not name.strip() or name.isdigit() or set(name) & set(":,@")):
        raise UsageError(f"--name {name!r} is not valid; choose another without : , and @, not a number")
    if known_datasets is not None and recipe.train.dataset not in known_datasets:
        raise UnknownNameError("dataset", recipe.train.dataset, known_datasets)
    for arch in recipe.archs or (recipe.train.arch,):
        find_factory(arch)
    find_method(recipe.train.method)
    resolve_device(recipe.train.device)


def attack_and_score(
    bench: Workbench,
    configs: Sequence[AttackConfig],
    *,
    ensemble: str | None = None,
    attacked: str = "first",
    evaluators: Sequence[str] = (),
    surrogates: Sequence[str] = (),
    rules: EvaluationConfig = EvaluationConfig(),  # noqa: B008 frozen
    extras: Extras = Extras(),
    keeps_samples: bool = True,
) -> Judged:
    """Attack members of an ensemble at every ε; the others judge the samples.

    Finished attacks are found and not repeated; what was stopped goes on where it was.

    Args:
        configs: one per ε, alike in all else.
        ensemble: name or uid prefix; the newest finished one if None.
        attacked: ``first``, ``all`` or a reference to models (see ``store/find.py``).
        evaluators, surrogates: references; see :func:`jsdelta_db.cast.cast_attacks` for the defaults.
        keeps_samples: whether the perturbations are kept; without them nothing can look at them again.

    Raises:
        NothingToDoError: no ensemble, or no image that could be attacked.
        UsageError: no such model, nobody left to judge, or a setting that does not fit.
        ModelError: a checkpoint, outputs or gradients can not be used.
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
    return _work_on(bench, f"attack {_set_name(casts[0])}", plans, extras)


def score_stored(
    bench: Workbench,
    attacks: Sequence[str],
    evaluators: Sequence[str],
    *,
    rules: EvaluationConfig = EvaluationConfig(),  # noqa: B008 frozen
    extras: Extras = Extras(),
    device: str = "auto",
) -> Judged:
    """Let other evaluators, or the same by other rules, judge samples that are stored.

    Args:
        attacks: uid prefixes.
        evaluators: references; the evaluators of each attack's first evaluation if empty.

    Raises:
        UsageError: no such attack or model, an attack that is not finished or kept no samples, or
            evaluators that may not judge it.
    """
    plans, seen = [], set()
    for uid in attacks:
        with bench.store.transaction() as session:
            attack = find.get_attack(session, uid)
            if attack.uid in seen:
                continue
            seen.add(attack.uid)
            check_kept(attack)
            _check_finished(attack)
            cast = cast_judges(session, attack, evaluators)
            dataset_row = common_dataset(session, [cast])
            pairs = write.list_label_pairs(session, attack_id=attack.id)
        dataset, load = open_models(bench, dataset_row, device)
        planned = PlannedAttack(attack, load(cast.attacked), frozenset(pairs), make=None)
        judges = [load(row) for row in cast.evaluators]
        plans.append(plan_evaluation(bench, planned, rules, dataset, dataset_row, judges, cast.ensemble))
    return _work_on(bench, f"score {', '.join(each.attack.uid for each in plans)}", plans, extras)


def score_foreign(
    bench: Workbench,
    check: Callable[[Dataset], ForeignSamples],
    *,
    ensemble: str | None = None,
    attacked: str = "first",
    evaluators: Sequence[str] = (),
    rules: EvaluationConfig = EvaluationConfig(),  # noqa: B008 frozen
    extras: Extras = Extras(),
    device: str = "auto",
) -> tuple[Judged, Measured]:
    """Store samples that were made elsewhere, and let an ensemble judge them.

    Args:
        check: makes sure that the arrays fit the ensemble's data set, before any row is made.
        attacked: the model that they were made against; see :func:`attack_and_score` for the rest.

    Raises:
        DataError, UsageError: the arrays, or a name, are not valid.
        NothingToDoError: the attacked model has every image wrong.
    """
    with bench.store.transaction() as session:
        casts = cast_attacks(session, ensemble=ensemble, attacked=attacked, evaluators=evaluators)
        if len(casts) > 1:
            raise UsageError(
                f"--attacked {attacked!r} names {len(casts)} models; samples are made against one"
            )
        dataset_row = common_dataset(session, casts)
    dataset, load = open_models(bench, dataset_row, device)
    samples = check(dataset)
    planned, measured = plan_foreign(bench, samples, dataset, dataset_row, load(casts[0].attacked))
    judges = [load(row) for row in casts[0].evaluators]
    plan = plan_evaluation(bench, planned, rules, dataset, dataset_row, judges, casts[0].ensemble)
    return _work_on(bench, f"score {samples.library}", [plan], extras), measured


def _work_on(bench: Workbench, title: str, plans: Sequence[Plan], extras: Extras) -> Judged:
    """Work off plans under one MLflow run, each in a nested one, then what else was asked for."""
    unfinished = [each for each in plans if not each.is_finished]
    _check_devices(unfinished)
    if unfinished:
        first = plans[0].attack
        parent = bench.tracker.start(
            title, uid=runs.new_uid(),
            params={"attacks": len(unfinished), "steps": first.steps, "targets": first.target_rule},
        )  # fmt: skip
        with parent.closing():
            _work_off_all(bench, unfinished, parent)
            _log_results(bench, parent, unfinished)
    for each in plans:
        if extras.stability:
            add_stability(bench, each)
            each.attacked.measure_sharpness()
        if extras.controls:
            run_controls(bench, each)
    return Judged([each.evaluation.uid for each in plans], len(unfinished))


def _work_off_all(bench: Workbench, plans: Sequence[Plan], parent: RunLog) -> None:
    baselines: dict[object, Baselines] = {}  # the evaluators' are the same at every ε
    for each in plans:
        key = (tuple(each.evaluators), each.pairs, each.evaluation.temperature_rule)
        if key not in baselines:
            baselines[key] = find_baselines(each)
        run = open_run(bench, each, parent)
        with run.closing():
            work_off(bench, each, baselines[key], run)
            try:
                _log_results(bench, run, [each])
            except BaseException:
                forget_run(bench, each)  # finished, but a repair has to log it
                raise
        if bench.tracker.failed:
            forget_run(bench, each)


def _log_results(bench: Workbench, run: RunLog, plans: Sequence[Plan]) -> None:
    """Log success and bug fractions with step = round(255·ε), and the histogram, as MLflow shows them."""
    selection = Selection(uids=tuple(each.evaluation.uid for each in plans))
    with bench.store.reading() as connection:
        table = queries.query_bugs(connection, DEFAULT_BETAS, ("norm", "eps"), selection)
        js_delta = queries.js_delta_by_eps(connection, selection)
    for step, metrics in queries.summary_metrics(table.rows).items():
        run.metrics(metrics, step=step)
    run.folder.mkdir(parents=True, exist_ok=True)
    figure = run.folder / "js_delta.png"
    save_figure(draw_histogram(js_delta), figure)
    run.file(figure)


def _with_label_number(config: AttackConfig, dataset: Dataset) -> AttackConfig:
    """Name a target label by its number: ``cat`` and ``3`` are one attack.

    Raises:
        UnknownNameError: neither a rule nor a label.
    """
    if config.targets in TARGET_RULES:
        return config
    return replace(config, targets=str(parse_label(config.targets, dataset.classes)))


def _check_finished(attack: Attack) -> None:
    if attack.finished_at is None:
        raise UsageError(
            f"attack {attack.uid} is not finished; "
            "go on with the same jsdelta attack as before, then score it"
        )


def _check_devices(plans: Sequence[Plan]) -> None:
    """Refuse to go on elsewhere with an attack that was begun: its samples would not be the same."""
    for each in plans:
        device = each.attacked.device.type
        if each.make is not None and each.attack.device != device:
            raise UsageError(
                f"{each.title} was begun on {each.attack.device} and this is {device}; "
                f"go on with it there, or attack with another --seed"
            )


def _set_name(cast: Cast) -> str:
    return cast.ensemble.name if cast.ensemble else cast.attacked.name or f"seed {cast.attacked.seed}"
