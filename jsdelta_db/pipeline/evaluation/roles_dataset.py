"""TEMP."""

from collections.abc import Iterable

from sqlalchemy.orm import Session

from jsdelta_db.errors import UsageError
from jsdelta_db.pipeline.evaluation.roles import Cast
from jsdelta_db.store.schema import Dataset as DatasetRow
from jsdelta_db.workbench.datasets import root_of


def common_dataset(session: Session, casts: Iterable[Cast]) -> DatasetRow:
    """Return the builtin data set that all models of some casts are for.

    A model that was trained on a constructed set is asked about the held-out images of its root, as a
    model trained on the root is: attacks, baselines and logits belong to the root's row.

    Raises:
        UsageError: they are for several.
    """
    models = [model for cast in casts for model in (cast.attacked, *cast.evaluators, *cast.surrogates)]
    trained_on = {model.dataset_id: session.get_one(DatasetRow, model.dataset_id) for model in models}
    roots = {root.id: root for root in (root_of(session, row) for row in trained_on.values())}
    if len(roots) > 1:
        names = ", ".join(row.name for row in roots.values())
        raise UsageError(f"these models are for different data sets ({names}); name models for one of them")
    return next(iter(roots.values()))
