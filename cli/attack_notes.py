"""Notes below an attack's table, on stderr: what its reader should know of the samples."""

from typing import TYPE_CHECKING

from jsdelta_db.config.eps import format_eps
from jsdelta_db.config.locations import Workspace

from .output import note

if TYPE_CHECKING:
    from jsdelta_db.queries.grouping import Table


def note_fruitless(table: "Table", norm: str, also: str) -> None:
    """Name the ε at which nothing succeeded.

    Args:
        also: what to try beside a larger ε.
    """
    fruitless = sorted({row["eps"] for row in table.rows if row["n_success"] == 0})
    if fruitless:
        sizes = ", ".join(format_eps(each, norm) for each in fruitless)
        note(f"not one success at eps {sizes}: try a larger --eps or {also}")


def note_outside(table: "Table", norm: str) -> None:
    """Say how many samples of somebody's attack lie beyond ε."""
    for eps, n in dict.fromkeys((row["eps"], row["n_outside"]) for row in table.rows):
        if n:
            note(f"{n:,} samples lie beyond eps {format_eps(eps, norm)} and count as failures (--accept-eps)")


def note_passes(workspace: Workspace, evaluations: tuple[str, ...]) -> None:
    """Say what somebody's attack cost: how often an image went through the model."""
    from jsdelta_db.queries.passes import list_passes
    from jsdelta_db.store.reading import reading

    with reading(workspace.db_url) as connection:
        found = list_passes(connection, evaluations)
    for each in found:
        size = format_eps(each.eps, each.norm)
        note(f"eps {size}: {each.forward:.4g} forward and {each.backward:.4g} backward passes an image")
