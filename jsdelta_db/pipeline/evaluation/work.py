"""Work on planned evaluations: chunk by chunk, each evaluation under an MLflow run of its own."""

from collections.abc import Sequence

from jsdelta_db.compute.metrics.agreement import measure_agreement
from jsdelta_db.config.evaluation import DEFAULT_BETAS
from jsdelta_db.errors import UsageError
from jsdelta_db.pipeline.evaluation.baselines import add_reached, find_baselines
from jsdelta_db.pipeline.evaluation.controls import run_controls
from jsdelta_db.pipeline.evaluation.finished import Extras, Judged
from jsdelta_db.pipeline.evaluation.followers import judge_following
from jsdelta_db.pipeline.evaluation.judge import ask_evaluators, judge
from jsdelta_db.pipeline.evaluation.mlflow_run import note_run, open_run
from jsdelta_db.pipeline.evaluation.plan import Plan
from jsdelta_db.pipeline.evaluation.stability import add_stability
from jsdelta_db.plots.files import draw_bytes
from jsdelta_db.plots.histogram import draw_histogram
from jsdelta_db.plots.panels import Sheet
from jsdelta_db.plots.style import WIDTHS
from jsdelta_db.queries.bugs import query_bugs, summary_metrics
from jsdelta_db.queries.captions import describe
from jsdelta_db.queries.distributions import RADIUS, query_histogram
from jsdelta_db.queries.selection import Selection, list_evaluations
from jsdelta_db.records import Baselines
from jsdelta_db.runtime.background import Background, in_background
from jsdelta_db.runtime.cards import card_of
from jsdelta_db.runtime.files import write_atomically
from jsdelta_db.samples.chunks import save_samples, save_scores
from jsdelta_db.store import runs
from jsdelta_db.store.baselines import write_evaluation_baselines
from jsdelta_db.store.controls import write_controls
from jsdelta_db.tracking import RunLog
from jsdelta_db.workbench.claims import Wait
from jsdelta_db.workbench.workbench import Workbench


def work_on(bench: Workbench, title: str, plans: Sequence[Plan], extras: Extras) -> Judged:
    """Finish plans under one MLflow run, each in a nested one, then measure the extras."""
    unfinished = [each for each in plans if not each.is_finished]
    _check_devices(unfinished)
    if unfinished:
        first = plans[0].attack
        parent = bench.tracker.start(
            title, uid=runs.new_uid(),
            params={"attacks": len(unfinished), "steps": first.steps, "targets": first.target_rule},
        )  # fmt: skip
        with parent.closing():
            finished = _finish_all(bench, unfinished, parent)
            if finished:
                _log_metrics(bench, parent, finished)
    rows = [each.rows for each in plans]
    judge_following(bench, rows)
    for each in plans:
        if extras.stability:
            add_stability(each)
            each.roles.attacked.measure_sharpness()
        if extras.controls:
            run_controls(each)
    return Judged.of(rows, len(unfinished))


def _check_devices(plans: Sequence[Plan]) -> None:
    """Refuse to go on with an attack on another device: its samples would not be the same."""
    for each in plans:
        device = each.roles.attacked.device.type
        if not each.only_reads and each.attack.device != device:
            raise UsageError(
                f"{each.title} was begun on {each.attack.device} and this is {device}; "
                f"go on with it there, or attack with another --seed"
            )


def _finish_all(bench: Workbench, plans: Sequence[Plan], parent: RunLog) -> list[Plan]:
    """Finish plans; return those whose results are this process's to log, not another starter's."""
    ours: list[Plan] = []
    baselines: dict[object, Baselines] = {}  # the evaluators' are the same at every ε
    for each in plans:
        key = (tuple(each.roles.evaluators), each.pairs, each.evaluation.temperature_rule)
        if key not in baselines:
            baselines[key] = find_baselines(each, each.pairs)
        run = open_run(each, parent)
        with run.closing():
            is_ours = finish(each, baselines[key], run)
            if is_ours:
                _log_metrics(bench, run, [each])
                _log_figure(bench, run, each)
        if is_ours:
            note_run(each, run)
            ours.append(each)
    return ours


def finish(plan: Plan, baselines: Baselines, run: RunLog) -> bool:
    """Attack and score the chunks that are free, wait for those that other processes have, then finish.

    Returns:
        Whether it was this process that finished it.
    """
    roles, bench = plan.roles, plan.roles.bench
    known = {pair: baselines[pair] for pair in sorted(plan.pairs & baselines.keys())}
    labels = roles.dataset.splits["baseline"].labels.numpy()
    agreement = measure_agreement([member.logits("baseline") for member in roles.evaluators], labels)
    with bench.store.transaction() as session:
        write_evaluation_baselines(session, evaluation_id=plan.evaluation.id, baselines=known)
        write_controls(session, evaluation_id=plan.evaluation.id, controls=agreement.as_controls())
    wait = Wait(bench.progress, f"{plan.title}: the last chunks are with")
    beside = in_background("jsdelta-storing", is_on=stores_beside(roles.attacked.device.type))
    with bench.progress.task(plan.title, plan.attack.n_attempts) as advance, beside as storing:
        while (work := _claim(plan)) is not None:
            # What another process seems to have may be our own, about to be stored.
            if isinstance(work, str):
                if not storing.wait():
                    wait.once(work)
                continue
            advance(_work_on_chunk(plan, work, baselines, run, storing))
    with bench.store.transaction() as session:
        return runs.finish_evaluation(session, plan.attack, plan.evaluation)


def _claim(plan: Plan) -> runs.ChunkWork | str | None:
    card = card_of(plan.roles.attacked.device)
    with plan.roles.bench.store.transaction() as session:
        return runs.claim_chunk(session, plan.attack, plan.evaluation, card)


def stores_beside(device_type: str) -> bool:
    """Return whether a chunk is stored while the next is attacked: where that leaves the processor idle."""
    return device_type == "cuda"


def _work_on_chunk(
    plan: Plan, work: runs.ChunkWork, baselines: Baselines, run: RunLog, storing: Background
) -> int:
    """Attack and judge a chunk on the device; what follows in main memory and on disk is handed over.

    One chunk at a time is on its way to the store, and its samples do not wait for its scores: what a kill
    loses is what it would lose without a thread.

    Returns:
        Number of attempts.
    """
    bench, attack, position = plan.roles.bench, plan.attack, work.position
    chunk = plan.source.chunk(position) if work.to_attack else plan.stored_chunk(position)
    storing.wait()
    if work.to_attack:
        storing.call(lambda: save_samples(bench, attack, position, chunk.samples, run, chunk.effort))
    answers = ask_evaluators(plan, chunk, position)

    def store_scores() -> None:
        add_reached(plan, chunk.samples, baselines)
        judged = judge(plan, chunk.samples, answers, baselines)
        save_scores(bench, attack, plan.evaluation, position, judged, run)

    storing.call(store_scores)
    return len(chunk.attempts)


def _log_metrics(bench: Workbench, run: RunLog, plans: Sequence[Plan]) -> None:
    """Log success and bug fractions with step = round(255·ε), as MLflow shows them."""
    selection = Selection(uids=tuple(each.evaluation.uid for each in plans))
    with bench.store.reading() as connection:
        table = query_bugs(connection, DEFAULT_BETAS, ("norm", "eps"), selection)
    for step, metrics in summary_metrics(table.rows).items():
        run.metrics(metrics, step=step)


def _log_figure(bench: Workbench, run: RunLog, plan: Plan) -> None:
    """Log the histogram of JSΔ; the call's own run has the curves over ε, and no second figure."""
    with bench.store.reading() as connection:
        selection = Selection(uids=(plan.evaluation.uid,))
        table = query_histogram(connection, betas=DEFAULT_BETAS, by=RADIUS, selection=selection)
        facts = describe(list_evaluations(connection, selection))
    sheet = Sheet(WIDTHS["column"], "JSΔ of successful samples", facts)
    run.folder.mkdir(parents=True, exist_ok=True)
    figure = run.folder / "js_delta.png"
    write_atomically(figure, draw_bytes(draw_histogram(table, DEFAULT_BETAS, sheet)))
    run.file(figure)
