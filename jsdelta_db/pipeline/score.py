"""Score: stored samples judged again, or samples that were made elsewhere.

What is finished is answered from rows; torch and MLflow are loaded where there is work.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from jsdelta_db.config.checks import check_device
from jsdelta_db.config.evaluation import EvaluationConfig
from jsdelta_db.errors import UsageError
from jsdelta_db.pipeline.evaluation.finished import Extras, Judged, find_finished
from jsdelta_db.pipeline.evaluation.followers import judge_following
from jsdelta_db.pipeline.evaluation.roles import RoleRequest, Roles, find_evaluators, find_roles
from jsdelta_db.samples.chunks import check_stored
from jsdelta_db.samples.origins import remark_on_images
from jsdelta_db.store.attempts import list_label_pairs
from jsdelta_db.store.references import get_attack
from jsdelta_db.store.schema import Attack
from jsdelta_db.workbench.workbench import Workbench

if TYPE_CHECKING:
    from jsdelta_db.compute.data import Dataset
    from jsdelta_db.pipeline.evaluation.foreign import Measured
    from jsdelta_db.samples.foreign import ForeignSamples


def score_stored(
    bench: Workbench,
    attacks: Sequence[str],
    evaluators: Sequence[str] = (),
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
        UsageError: no such attack or model, an attack that is not finished or stored no samples, or
            evaluators that may not judge it.
    """
    check_device(device)
    with bench.store.read_session() as session:
        found = {attack.uid: attack for attack in (get_attack(session, uid) for uid in attacks)}
        for attack in found.values():
            _check_can_be_scored(attack)
        judged = [(find_evaluators(session, attack, evaluators), attack) for attack in found.values()]
        finished = find_finished(session, judged, rules, extras)
    if finished is None:
        return _score(bench, judged, rules, extras, device)
    judge_following(bench, finished)
    return Judged.of(finished)


def _check_can_be_scored(attack: Attack) -> None:
    check_stored(attack)
    if attack.finished_at is None:
        raise UsageError(
            f"attack {attack.uid} is not finished; "
            "go on with the same jsdelta attack as before, then score it"
        )


def _score(
    bench: Workbench,
    judged: Sequence[tuple[Roles, Attack]],
    rules: EvaluationConfig,
    extras: Extras,
    device: str,
) -> Judged:
    """Open the models, check them, and work off what is not finished."""
    from jsdelta_db.pipeline.evaluation.judges import check_judges
    from jsdelta_db.pipeline.evaluation.open_roles import open_roles
    from jsdelta_db.pipeline.evaluation.plan import plan_stored
    from jsdelta_db.pipeline.evaluation.work import work_on

    opened = [open_roles(bench, [rows], device)[0] for rows, _ in judged]
    check_judges(opened)
    plans = []
    for roles, (_, attack) in zip(opened, judged, strict=True):
        with bench.store.read_session() as session:
            pairs = list_label_pairs(session, attack_id=attack.id)
        plans.append(plan_stored(roles, attack, frozenset(pairs), rules))
    return work_on(bench, f"score {', '.join(attack.uid for _, attack in judged)}", plans, extras)


def score_foreign(
    bench: Workbench,
    check: "Callable[[Dataset], ForeignSamples]",
    request: RoleRequest = RoleRequest(),  # noqa: B008 frozen
    *,
    rules: EvaluationConfig = EvaluationConfig(),  # noqa: B008 frozen
    extras: Extras = Extras(),  # noqa: B008 frozen
    device: str = "auto",
) -> "tuple[Judged, Measured]":
    """Store samples that were made elsewhere, and let an ensemble judge them.

    They become an attack's row with ``steps`` 0; all that follows is the same code.

    Args:
        check: checks that the arrays fit the ensemble's data set, before any row is made.
        request: who takes part; the samples were made against the one attacked model.

    Raises:
        DataError, UsageError: the arrays, or a name, are not valid.
        NothingToDoError: the attacked model misclassifies every image.
    """
    from jsdelta_db.pipeline.evaluation.foreign import plan_foreign
    from jsdelta_db.pipeline.evaluation.judges import check_judges
    from jsdelta_db.pipeline.evaluation.open_roles import open_roles
    from jsdelta_db.pipeline.evaluation.work import work_on

    with bench.store.read_session() as session:
        found = find_roles(session, request)
    if len(found) > 1:
        raise UsageError(
            f"--attacked {request.attacked!r} names {len(found)} models; samples are made against one"
        )
    (roles,) = open_roles(bench, found, device)
    samples = check(roles.dataset)
    check_judges([roles])
    for line in (
        *samples.conversions,
        *samples.remarks,
        *remark_on_images(samples.image_keys, roles.dataset.name),
    ):
        bench.progress.report(line)
    plan, measured = plan_foreign(roles, samples, rules)
    return work_on(bench, f"score {samples.library}", [plan], extras), measured
