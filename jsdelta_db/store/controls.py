"""Control outcomes: rows on their way in, and which are there."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from jsdelta_db.records import Control
from jsdelta_db.store.inserting import replace_rows
from jsdelta_db.store.schema import ControlResult


def list_controls(session: Session, *, evaluation_id: int) -> set[str]:
    """Return the names of the controls that an evaluation has an outcome of."""
    statement = select(ControlResult.name).where(ControlResult.evaluation_id == evaluation_id)
    return set(session.scalars(statement))


def write_controls(session: Session, *, evaluation_id: int, controls: Sequence[Control]) -> None:
    """Store outcomes of controls, in place of those that are there."""
    rows = [
        {
            "evaluation_id": evaluation_id, "name": control.name, "value": control.value, "low": control.low,
            "high": control.high, "passed": control.passed,
        }
        for control in controls
    ]  # fmt: skip
    replace_rows(session, ControlResult, rows)
