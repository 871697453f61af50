"""Score samples: stored ones again, or samples that were made elsewhere."""

from collections.abc import Callable, Sequence

from jsdelta_db.compute.data import Dataset
from jsdelta_db.config.evaluation import EvaluationConfig
from jsdelta_db.errors import UsageError
from jsdelta_db.pipeline.evaluation.foreign import Measured, plan_foreign
from jsdelta_db.pipeline.evaluation.plan import PlannedAttack, plan_evaluation
from jsdelta_db.pipeline.evaluation.roles import cast_attacks, cast_judges
from jsdelta_db.pipeline.evaluation.roles_dataset import common_dataset
from jsdelta_db.pipeline.evaluation.work import Extras, Judged, work_on
from jsdelta_db.samples.chunks import check_kept
from jsdelta_db.samples.foreign_file import ForeignSamples
from jsdelta_db.store.attempts import list_label_pairs
from jsdelta_db.store.references import get_attack
from jsdelta_db.store.schema import Attack
from jsdelta_db.workbench.models import open_models
from jsdelta_db.workbench.workbench import Workbench


def score_stored(
    bench: Workbench,
    attacks: Sequence[str],
    evaluators: Sequence[str],
    *,
    rules: EvaluationConfig = EvaluationConfig(),  # noqa: B008 frozen
    extras: Extras = Extras(),  # noqa: B008 frozen
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
            attack = get_attack(session, uid)
            if attack.uid in seen:
                continue
            seen.add(attack.uid)
            check_kept(attack)
            _check_finished(attack)
            cast = cast_judges(session, attack, evaluators)
            dataset_row = common_dataset(session, [cast])
            pairs = list_label_pairs(session, attack_id=attack.id)
        dataset, load = open_models(bench, dataset_row, device)
        planned = PlannedAttack(attack, load(cast.attacked), frozenset(pairs), make=None)
        judges = [load(row) for row in cast.evaluators]
        plans.append(plan_evaluation(bench, planned, rules, dataset, dataset_row, judges, cast.ensemble))
    return work_on(bench, f"score {', '.join(each.attack.uid for each in plans)}", plans, extras)


def score_foreign(
    bench: Workbench,
    check: Callable[[Dataset], ForeignSamples],
    *,
    ensemble: str | None = None,
    attacked: str = "first",
    evaluators: Sequence[str] = (),
    rules: EvaluationConfig = EvaluationConfig(),  # noqa: B008 frozen
    extras: Extras = Extras(),  # noqa: B008 frozen
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
    return work_on(bench, f"score {samples.library}", [plan], extras), measured


def _check_finished(attack: Attack) -> None:
    if attack.finished_at is None:
        raise UsageError(
            f"attack {attack.uid} is not finished; "
            "go on with the same jsdelta attack as before, then score it"
        )
