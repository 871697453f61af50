"""Control outcomes: rows of an evaluation, by the control's name."""

from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from jsdelta_db.records import Control
from jsdelta_db.store.inserting import replace_rows
from jsdelta_db.store.schema import ControlResult


def list_controls(session: Session, *, evaluation_id: int) -> set[str]:
    """Return the names of the controls with a stored outcome."""
    statement = select(ControlResult.name).where(ControlResult.evaluation_id == evaluation_id)
    return set(session.scalars(statement))


def write_controls(session: Session, *, evaluation_id: int, controls: Sequence[Control]) -> None:
    """Store or replace outcomes of controls."""
    rows = [
        {
            "evaluation_id": evaluation_id, "name": control.name, "value": control.value, "low": control.low,
            "high": control.high, "passed": control.passed,
        }
        for control in controls
    ]  # fmt: skip
    replace_rows(session, ControlResult, rows)


def forget_control(session: Session, *, evaluation_ids: Sequence[int], name: str) -> None:
    """Delete the outcomes of one control."""
    of_these = ControlResult.evaluation_id.in_(evaluation_ids)
    session.execute(delete(ControlResult).where(of_these, ControlResult.name == name))
