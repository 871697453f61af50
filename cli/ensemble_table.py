"""The table of ensembles: ``jsdelta ensembles list`` and ``jsdelta query ensembles``."""

from collections.abc import Sequence
from typing import Any

from jsdelta_db.config.eps import format_eps

from .output import note, write_rows
from .printing import Output


def write_ensembles(ctx: Any, output: Output, where: Sequence[str] = ()) -> None:  # noqa: ANN401 Typer's
    """Write a row for each finished ensemble; say how many are not."""
    from jsdelta_db.queries.ensembles import ENSEMBLE_KEYS, count_unfinished_ensembles, query_ensembles
    from jsdelta_db.queries.facts.listed import filter_rows

    with ctx.obj.read_store() as connection:
        found = query_ensembles(connection)
        unfinished = count_unfinished_ensembles(connection)
    rows, reason = filter_rows(found, ENSEMBLE_KEYS, where)
    if output.is_for_people:
        for row in rows:
            if row["robust_eps"] is not None:
                row["robust_eps"] = format_eps(row["robust_eps"], row["robust_norm"])
    write_rows(rows, ENSEMBLE_KEYS, output)
    if unfinished:
        note(f"left out: {unfinished} unfinished; the same jsdelta train as before resumes them")
    if reason:
        note(reason)
    elif not rows:
        note("no finished ensemble; make one with jsdelta train --seed 0")
