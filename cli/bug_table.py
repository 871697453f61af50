"""The table of bugs: as ``query bugs`` prints it, and below an attack or a score."""

from typing import TYPE_CHECKING

from jsdelta_db.config.evaluation import DEFAULT_BETAS
from jsdelta_db.config.locations import Workspace
from jsdelta_db.config.measures import JS_DELTA

from .key_names import add_old_names
from .output import note, note_intervals, write_rows
from .printing import Output
from .tables import format_cell

if TYPE_CHECKING:
    from jsdelta_db.queries.grouping import Table

BUG_KEYS = (
    "beta", "n_attempted", "n_skipped", "n_success", "n_no_baseline", "n_outside", "n_bugs",
    "bug_fraction", "bug_fraction_low", "bug_fraction_high", "bug_rate", "bug_rate_low", "bug_rate_high",
    "interval", "covers", "n_images", "n_images_bug", "n_images_non_bug", "too_few", "warnings", "measure",
    "n_no_relative", "n_models", "share_models",
)  # fmt: skip


def write_bugs(table: "Table", output: Output) -> None:
    """Write the rows of ``query bugs`` and, for people, explain the marks."""
    facts = {*table.keys, "n_attempted", "n_skipped", "n_no_baseline", "n_outside", "measure"} - {"eps"}
    keys = [key for key in BUG_KEYS if not output.is_for_people or not _is_idle(table, key)]
    rows, named = add_old_names(table.rows, [*table.keys, *keys], output)
    write_rows(rows, named, output, facts=facts, norm=table.norm)
    few = "fewer than 30 images with a success, or than 5 with a bug or with a non-bug"
    note_intervals(table.rows, output, few)


def write_sensitivity(table: "Table", output: Output) -> None:
    """Write the rows of ``query sensitivity`` and, for people, what they say together."""
    from jsdelta_db.queries.sensitivity import SENSITIVITY_KEYS

    facts = {*table.keys, "n_attempted", "n_no_baseline", "n_no_relative"} - {"eps"}
    folded = {"n_attempted", "n_no_baseline", "reading", "change_reading"} if output.is_for_people else set()
    keys = [*table.keys, *(key for key in SENSITIVITY_KEYS if key not in folded)]
    write_rows(table.rows, keys, output, facts=facts, norm=table.norm)
    few = "fewer than 30 images with a success, or than 5 with a bug or with a non-bug"
    note_intervals(table.rows, output, few)
    if output.is_for_people:
        readings = {}
        for row in table.rows:
            facts_of_row = ", ".join(f"{key} {format_cell(row, key, table.norm)}" for key in table.keys)
            readings[facts_of_row] = row["reading"], row["change_reading"]
        for name, (reading, change) in readings.items():
            note(f"{name}: {_say_reading(reading)}{'' if change is None else _say_change(change)}")


def _say_reading(reading: str) -> str:
    return {
        "robust": "bugs on one side of half under every measure",
        "not settled": "whether bugs are more or less than half is not settled",
    }.get(reading, "whether bugs are more or less than half depends on the measure")


def _say_change(change: str) -> str:
    if change in ("falls", "rises"):
        return f"; their share {change} from the ε before under every measure"
    return "; whether their share rises or falls from the ε before depends on the measure"


def _is_idle(table: "Table", key: str) -> bool:
    """Tell whether a column says nothing to people: our own attacks, for example, stay within ε."""
    if key == "measure":
        return all(row[key] == JS_DELTA for row in table.rows)
    return key in ("n_outside", "n_no_relative") and not any(row[key] for row in table.rows)


def print_summary(workspace: Workspace, evaluations: tuple[str, ...]) -> "Table":
    """Print the bugs of some evaluations at the usual thresholds, and return them."""
    from jsdelta_db.queries.bugs import query_bugs
    from jsdelta_db.queries.selection import Selection
    from jsdelta_db.store.reading import reading

    with reading(workspace.db_url) as connection:
        table = query_bugs(connection, DEFAULT_BETAS, selection=Selection(uids=evaluations))
    write_bugs(table, Output())
    return table


def note_controls(workspace: Workspace, evaluations: tuple[str, ...]) -> None:
    """Say, on stderr, how the controls of some evaluations came out, those that can fail first."""
    from jsdelta_db.queries.controls import query_controls, summarize_controls
    from jsdelta_db.queries.selection import Selection
    from jsdelta_db.store.reading import reading

    with reading(workspace.db_url) as connection:
        found = query_controls(connection, Selection(uids=evaluations))
    for line in summarize_controls(found.rows):
        note(f"{line}; see jsdelta query controls")
