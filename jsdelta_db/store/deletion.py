"""Deletion: a run's rows, and those of all that cannot be without it.

What belongs to a run and what needs it is read off the schema (:mod:`jsdelta_db.store.relations`).
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import JSON, Column, Table, func, select
from sqlalchemy.orm import Session

from jsdelta_db.config.eps import format_eps
from jsdelta_db.errors import InUseError, UsageError
from jsdelta_db.runtime.leases import describe, is_alive, is_elsewhere
from jsdelta_db.store.clock import read_clock
from jsdelta_db.store.naming import SHORTEST_PREFIX, ambiguous, match
from jsdelta_db.store.relations import batches, conditions, needs, owners, parts, runs
from jsdelta_db.store.schema import RUNNING, Base

MOST_NAMED = 6  # runs in one message
Ids = dict[str, set[int]]  # by run-like table


@dataclass(frozen=True, slots=True)
class DeletedRun:
    """A run that is to be deleted, as people see it.

    Attributes:
        rows: its own and those of its parts; a part of two runs counts for both.
    """

    kind: str
    uid: str
    name: str
    rows: int


@dataclass(frozen=True, slots=True)
class Deletion:
    """The runs that are deleted with one run.

    Attributes:
        ids: of all of them, by run-like table.
        runs: the one that was asked for, those that need it, those that need these, and so on.
    """

    ids: Mapping[str, Collection[int]]
    runs: tuple[DeletedRun, ...]


@dataclass(frozen=True, slots=True)
class Freed:
    """The files and MLflow runs that no row names after a deletion.

    Attributes:
        rows: how many were deleted.
        uris: of files and folders, relative to the workspace.
        mlflow_run_ids: of runs that no row names any more.
    """

    rows: int
    uris: frozenset[str]
    mlflow_run_ids: frozenset[str]


def plan_deletion(session: Session, reference: str) -> Deletion:
    """Find a run by uid or unique prefix, and all that needs it.

    Raises:
        UsageError: no such run, or several.
        InUseError: a live process works on one of them, or on something that one of them needs.
    """
    kind, run_id = _find(session, reference)
    order = _close(session, kind, run_id)
    ids: Ids = {}
    for found, each in order:
        ids.setdefault(found, set()).add(each)
    _refuse_busy(session, ids)
    return Deletion(ids, tuple(_describe(session, order, ids)))


def delete_rows(session: Session, plan: Deletion) -> Freed:
    """Delete the rows of a plan, parts first.

    Raises:
        InUseError: other runs need them than when the plan was made, or a live process works on them.
    """
    target = plan.runs[0]
    if plan_deletion(session, target.uid).ids != plan.ids:
        raise InUseError(
            f"what needs {target.kind} {target.uid} has changed meanwhile; type the command again"
        )
    uris = frozenset(_values(session, _uri_columns(), plan.ids))
    mlflow = frozenset(_values(session, _mlflow_columns(), plan.ids))
    n_rows = 0
    for table in reversed(Base.metadata.sorted_tables):
        for column, batch in conditions(table, plan.ids):
            n_rows += session.connection().execute(table.delete().where(column.in_(batch))).rowcount
    remaining = list_named(session)
    return Freed(n_rows, uris - remaining[0], mlflow - remaining[1])


def list_named(session: Session) -> tuple[set[str], set[str]]:
    """Return the files and folders, and the MLflow runs, that rows name."""
    return set(_values(session, _uri_columns())), set(_values(session, _mlflow_columns()))


def is_there(session: Session, uid: str) -> bool:
    """Return whether a run has its row; waits for whoever may be deleting it, be it for a killed process."""
    asked = (select(table.c.id).where(table.c.uid == uid).with_for_update() for table in runs().values())
    return any(session.scalar(each) is not None for each in asked)


def name_dependents(plan: Deletion) -> str:
    """Return the first runs that need the one asked for, for a message."""
    others = plan.runs[1:]
    named = [f"{each.kind} {each.uid[:8]} ({each.name})" for each in others[:MOST_NAMED]]
    rest = Counter(each.kind for each in others[MOST_NAMED:])
    more = ", ".join(f"{count} {kind}" for kind, count in sorted(rest.items()))
    return ", ".join(named) + (f" and {rest.total()} more ({more})" if more else "")


def _find(session: Session, reference: str) -> tuple[str, int]:
    if len(reference) < SHORTEST_PREFIX:
        raise UsageError(f"uid {reference!r} is too short; give {SHORTEST_PREFIX} characters or more of it")
    named = [
        (None, uid, (kind, run_id, uid))
        for kind, table in runs().items()
        for run_id, uid in session.execute(select(table.c.id, table.c.uid))
    ]
    found = match(reference, named)
    if len(found) == 1:
        return found[0][:2]
    if found:
        raise ambiguous("uid", reference, (f"{kind} {uid}" for kind, _, uid in found))
    raise UsageError(
        f"no {', '.join(list(runs())[:-1])} or {list(runs())[-1]} has a uid that starts with {reference!r}; "
        "see jsdelta query bugs --by attack, models list, dataset list"
    )


def _close(session: Session, kind: str, run_id: int) -> list[tuple[str, int]]:
    """Return a run and all that needs it, nearest first."""
    order, start = [(kind, run_id)], 0
    known = set(order)
    while start < len(order):
        latest, start = order[start:], len(order)
        for dependent in _dependents(session, latest):
            if dependent not in known:
                known.add(dependent)
                order.append(dependent)
    return order


def _dependents(session: Session, latest: Collection[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    ids: Ids = {}
    for kind, run_id in latest:
        ids.setdefault(kind, set()).add(run_id)
    for need in needs():
        for batch in batches(ids.get(need.needed.name, ())):
            asked = select(need.dependent_id).where(need.needed_id.in_(batch)).distinct()
            yield from ((need.dependent.name, each) for each in sorted(session.scalars(asked)))
    yield from _mentions(session, ids)


def _mentions(session: Session, ids: Ids) -> Iterator[tuple[str, int]]:
    """Yield runs whose JSON names one of these by its uid: a data set names the model it was made with."""
    uids = {
        uid
        for kind, some in ids.items()
        for batch in batches(some)
        for uid in session.scalars(select(runs()[kind].c.uid).where(runs()[kind].c.id.in_(batch)))
    }
    for kind, table in runs().items():
        for column in (each for each in table.c if isinstance(each.type, JSON)):
            for run_id, value in session.execute(select(table.c.id, column).where(column.is_not(None))):
                if uids & set(_texts(value)):
                    yield kind, run_id


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


def _refuse_busy(session: Session, ids: Ids) -> None:
    """Check that no live process works on these runs, on their parts, or on a run that they need.

    Raises:
        InUseError: one does.
    """
    wanted: Ids = {kind: set(some) for kind, some in ids.items()}
    for need in needs():
        for batch in batches(ids.get(need.dependent.name, ())):
            asked = select(need.needed_id).where(need.dependent_id.in_(batch), need.needed_id.is_not(None))
            wanted.setdefault(need.needed.name, set()).update(session.scalars(asked))
    now = read_clock(session)
    for table in (each for each in Base.metadata.sorted_tables if "heartbeat_at" in each.c):
        is_part = table.name in parts()
        for column, batch in conditions(table, ids if is_part else wanted):
            busy = select(table.c.owner, table.c.heartbeat_at, column).where(
                table.c.status == RUNNING, column.in_(batch)
            )
            for owner, heartbeat_at, run_id in session.execute(busy):
                if is_alive(owner, heartbeat_at, now):
                    raise _busy(session, owners(table)[0].run if is_part else table, run_id, owner)


def _busy(session: Session, run: Table, run_id: int, owner: str) -> InUseError:
    uid = session.scalar(select(run.c.uid).where(run.c.id == run_id))
    gone = "; if that host is gone, jsdelta doctor --repair" if is_elsewhere(owner) else ""
    return InUseError(
        f"{describe(owner)} works on {run.name} {uid}; "
        f"stop it or wait for it, then type the command again{gone}"
    )


def _describe(session: Session, order: Sequence[tuple[str, int]], ids: Ids) -> Iterator[DeletedRun]:
    rows: Counter[tuple[str, int]] = Counter(order)
    for part in parts().values():
        for link in owners(part):
            for batch in batches(ids.get(link.run.name, ())):
                asked = select(link.column, func.count()).where(link.column.in_(batch)).group_by(link.column)
                rows.update({(link.run.name, run_id): count for run_id, count in session.execute(asked)})
    for kind, run_id in order:
        row = session.execute(select(runs()[kind]).where(runs()[kind].c.id == run_id)).one()
        yield DeletedRun(kind, row.uid, _name(session, kind, row), rows[kind, run_id])


def _name(session: Session, kind: str, row: Any) -> str:  # noqa: ANN401 a row of any run-like table
    if kind == "attack":
        return f"{row.norm} {format_eps(row.eps, row.norm)}, {row.n_attempts} attempts"
    if kind == "evaluation":
        attacks = runs()["attack"]
        of = session.scalars(select(attacks.c.uid).where(attacks.c.id == row.attack_id)).one()
        return f"of attack {of[:8]}, temperature {row.temperature_rule}"
    if kind == "model" and row.name is None:
        return f"{row.recipe_name} seed {row.seed}"
    return str(row.name)


def _uri_columns() -> list[Column[str]]:
    return [
        column for table in Base.metadata.sorted_tables for column in table.c if column.name.endswith("uri")
    ]


def _mlflow_columns() -> list[Column[str]]:
    return [table.c.mlflow_run_id for table in runs().values()]


def _values(
    session: Session, columns: Iterable[Column[str]], ids: Mapping[str, Collection[int]] | None = None
) -> Iterator[str]:
    """Yield the values of some columns, of all rows or of the parts and runs given."""
    for column in columns:
        asked = select(column).where(column.is_not(None)).distinct()
        if ids is None:
            yield from session.scalars(asked)
            continue
        for key, batch in conditions(column.table, ids):
            yield from session.scalars(asked.where(key.in_(batch)))
