"""Added ensembles: put together from models that are there already."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from jsdelta_db.config.names import check_name
from jsdelta_db.errors import UsageError
from jsdelta_db.pipeline.ensembles.ensemble import measure_agreement
from jsdelta_db.pipeline.ensembles.naming import ensemble_key
from jsdelta_db.store import runs
from jsdelta_db.store.references import list_models
from jsdelta_db.store.schema import FINISHED, Ensemble, EnsembleMember, Model
from jsdelta_db.store.schema import Dataset as DatasetRow
from jsdelta_db.workbench.datasets import root_of
from jsdelta_db.workbench.models import open_models
from jsdelta_db.workbench.workbench import Workbench

FEWEST_MEMBERS = 2  # one is attacked, the others judge


def add_ensemble(
    bench: Workbench, name: str, references: Sequence[str], *, device: str = "auto"
) -> tuple[Ensemble, bool]:
    """Make an ensemble of models, and measure how far they agree; the same one is found, not made twice.

    Args:
        references: to finished models, in the order of the members: the first is the one that attacks take by
            default. See :mod:`jsdelta_db.store.references`.

    Returns:
        The row, and whether it is new.

    Raises:
        UsageError: a name that is taken or does not exist, fewer than two models, equal ones, or models for
            several data sets.
        ModelError: a model cannot be used.
    """
    check_name("ensemble name", name)
    with bench.store.read_session() as session:
        members = _list_members(session, references)
        root = _find_root(session, members)
        key = ensemble_key(name, [row.uid for row in members])
        known = _find_known(session, name, key)
    if known is not None:
        return known, False
    _, load = open_models(bench, root, device)
    measure_agreement(bench, [load(row) for row in members], root.id)
    return _enter(bench, name, key, members, root)


def _enter(
    bench: Workbench, name: str, key: str, members: Sequence[Model], root: DatasetRow
) -> tuple[Ensemble, bool]:
    trained_on = {row.dataset_id for row in members}
    row = Ensemble(
        uid=runs.new_uid(), config_hash=key, created_at=runs.now(), finished_at=runs.now(), name=name,
        dataset_id=trained_on.pop() if len(trained_on) == 1 else root.id, status=FINISHED,
    )  # fmt: skip
    params = {"dataset": root.name, "members": ", ".join(each.title for each in members)}
    run = bench.tracker.start(f"ensemble {name}", uid=row.uid, params=params)
    with run.closing():
        row.mlflow_run_id = run.logged_id
        for position, member in enumerate(members):
            run.metrics({"clean_accuracy": member.clean_accuracy}, step=position)
        with bench.store.transaction() as session:
            runs.serialize(session, f"ensemble {name}")
            known = _find_known(session, name, key)  # another process may have been faster
            if known is not None:
                return known, False
            session.add(row)
            session.flush()
            session.add_all(
                EnsembleMember(ensemble_id=row.id, position=position, model_id=member.id)
                for position, member in enumerate(members)
            )
    return row, True


def _list_members(session: Session, references: Sequence[str]) -> list[Model]:
    """Return the models of references, each once, in their order.

    Raises:
        UsageError: a name that does not exist, too few models, or the same weights twice.
    """
    members: dict[str, Model] = {}
    for reference in references:
        for row in list_models(session, reference)[0]:
            same = members.setdefault(row.checkpoint_sha256 or row.uid, row)
            if same is not row:
                raise UsageError(
                    f"--models {reference}: {row.title} has the weights of {same.title}, and would only "
                    "repeat its judgement; name models of different weights"
                )
    if len(members) < FEWEST_MEMBERS:
        named = "1 model" if len(members) == 1 else "no model"
        raise UsageError(
            f"--models names {named}: must be {FEWEST_MEMBERS} or more, of which one is attacked and the "
            "others judge"
        )
    return list(members.values())


def _find_root(session: Session, members: Sequence[Model]) -> DatasetRow:
    """Return the data set whose held-out images all models are asked about.

    Raises:
        UsageError: there are several.
    """
    roots = {
        row.title: root_of(session, session.get_one(DatasetRow, row.dataset_id)) for row in reversed(members)
    }
    if len({root.id for root in roots.values()}) > 1:
        which = ", ".join(f"{title} for {root.name}" for title, root in reversed(roots.items()))
        raise UsageError(f"--models are for different data sets ({which}); name models for one of them")
    return roots[members[0].title]


def _find_known(session: Session, name: str, key: str) -> Ensemble | None:
    """Return the ensemble if it was added before.

    Raises:
        UsageError: another ensemble or a model has this name.
    """
    named = session.scalars(select(Ensemble).where(Ensemble.name == name, Ensemble.status == FINISHED)).all()
    same = next((row for row in named if row.config_hash == key), None)
    if same is not None:
        return same
    if named:
        raise UsageError(f"there is another ensemble {name!r} ({named[0].uid}); choose another name")
    model = session.scalars(select(Model).where(Model.name == name)).first()
    if model is not None:
        raise UsageError(f"there is a model {name!r} ({model.uid}); choose another name")
    return None
