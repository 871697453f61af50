"""Evaluations worked off: each under an MLflow run of its own."""

from collections.abc import Sequence
from dataclasses import dataclass

from jsdelta_db.compute.metrics.agreement import measure_agreement
from jsdelta_db.config.evaluation import DEFAULT_BETAS
from jsdelta_db.errors import UsageError
from jsdelta_db.pipeline.evaluation.controls import run_controls
from jsdelta_db.pipeline.evaluation.judge import _get_samples, judge
from jsdelta_db.pipeline.evaluation.mlflow_run import forget_run, open_run
from jsdelta_db.pipeline.evaluation.plan import Plan, find_baselines
from jsdelta_db.pipeline.evaluation.stability import add_stability
from jsdelta_db.plots.files import save_figure
from jsdelta_db.plots.histogram import draw_histogram
from jsdelta_db.queries import bugs
from jsdelta_db.queries.selection import Selection
from jsdelta_db.records import Baselines
from jsdelta_db.samples.chunks import keep_scores
from jsdelta_db.store import runs
from jsdelta_db.store.baselines import write_evaluation_baselines
from jsdelta_db.store.controls import write_controls
from jsdelta_db.tracking import RunLog
from jsdelta_db.workbench.claims import Wait
from jsdelta_db.workbench.workbench import Workbench


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


def work_on(bench: Workbench, title: str, plans: Sequence[Plan], extras: Extras) -> Judged:
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
        table = bugs.query_bugs(connection, DEFAULT_BETAS, ("norm", "eps"), selection)
        js_delta = bugs.js_delta_by_eps(connection, selection)
    for step, metrics in bugs.summary_metrics(table.rows).items():
        run.metrics(metrics, step=step)
    run.folder.mkdir(parents=True, exist_ok=True)
    figure = run.folder / "js_delta.png"
    save_figure(draw_histogram(js_delta), figure)
    run.file(figure)


def _check_devices(plans: Sequence[Plan]) -> None:
    """Refuse to go on elsewhere with an attack that was begun: its samples would not be the same."""
    for each in plans:
        device = each.attacked.device.type
        if each.make is not None and each.attack.device != device:
            raise UsageError(
                f"{each.title} was begun on {each.attack.device} and this is {device}; "
                f"go on with it there, or attack with another --seed"
            )


def work_off(bench: Workbench, plan: Plan, baselines: Baselines, run: RunLog) -> None:
    """Attack and score the chunks that are free, wait for those in other hands, then finish."""
    agreement = measure_agreement(
        [member.logits("baseline") for member in plan.evaluators],
        plan.dataset.splits["baseline"].labels.numpy(),
    )
    with bench.store.transaction() as session:
        write_evaluation_baselines(session, evaluation_id=plan.evaluation.id, baselines=baselines)
        write_controls(session, evaluation_id=plan.evaluation.id, controls=agreement.as_controls())
    wait = Wait(bench.progress, f"{plan.title}: the last chunks are with")
    with bench.progress.task(plan.title, plan.attack.n_attempts) as advance:
        while True:
            with bench.store.transaction() as session:
                work = runs.claim_chunk(session, plan.attack, plan.evaluation)
            if work is None:
                break
            if isinstance(work, str):
                wait.once(work)
                continue
            samples = _get_samples(bench, plan, work, run)
            scores, clean_logits = judge(bench, plan, samples, work.position, baselines)
            keep_scores(bench, plan.attack, plan.evaluation, scores, clean_logits, work.position, run)
            advance(len(samples.attempts))
    with bench.store.transaction() as session:
        runs.finish_evaluation(session, plan.attack, plan.evaluation)
