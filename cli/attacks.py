"""``jsdelta query attacks`` and ``jsdelta attacks show``: the attacks of the store, one by one."""

from typing import Annotated

import typer

from . import printing, selecting
from .commands import App
from .groups import with_groups
from .key_names import add_old_names
from .output import note, write_rows

Uid = Annotated[str, typer.Argument(help="Uid of an attack or evaluation; its beginning is enough.")]
Unfinished = Annotated[bool, typer.Option("--unfinished", help="Only attacks that something is left of.")]
# What stands above the table where all attacks share it.
SHARED = (
    "status", "dataset", "attacked_ensemble", "method", "judged_by", "norm", "targets", "steps", "objective",
    "library",
)  # fmt: skip

app = App(no_args_is_help=True, help="Look at one attack.")


@app.callback()
def attacks() -> None:
    """Look at one attack; jsdelta query attacks lists them."""


@with_groups
def list_attacks(
    ctx: typer.Context,
    *,
    selection: selecting.SelectingEvaluations,
    unfinished: Unfinished = False,
    output: printing.Printing,
) -> None:
    """List the attacks, finished or not, with their settings, progress and evaluations, the oldest first.

    The command is what makes the attack again, put together from what is recorded; MLflow's run has what
    was typed.

    Example: jsdelta query attacks --where method=standard
    """
    from jsdelta_db.queries.attacks import ATTACK_KEYS, explain_no_attack, query_attacks

    with ctx.obj.read_store() as connection:
        rows = query_attacks(connection, selection)
        reason = "" if rows else explain_no_attack(connection, selection)
    if unfinished:
        rows = [row for row in rows if row["status"] == "unfinished"]
    write_rows(*add_old_names(rows, ATTACK_KEYS, output), output, facts=SHARED)
    if not rows:
        note(reason or "no attack matches; make one with jsdelta attack --eps 3")


@app.command()
@with_groups
def show(ctx: typer.Context, *, uid: Uid, output: printing.Printing) -> None:
    """Show everything that is recorded of an attack.

    Example: jsdelta attacks show 3f9c2b7a
    """
    from jsdelta_db.queries.attacks import FACT_KEYS, get_attack
    from jsdelta_db.queries.facts.keys import FACTS
    from jsdelta_db.queries.facts.values import show as show_value

    with ctx.obj.read_store() as connection:
        row = get_attack(connection, uid)
    if output.is_for_people:
        shown = row | {key: show_value(row[key], FACTS[key], row) for key in ("eps", "step_size")}
        facts = [{"fact": key, "value": shown[key]} for key in FACT_KEYS if row[key] is not None]
        write_rows(facts, ("fact", "value"), output)
    else:
        write_rows(*add_old_names([row], FACT_KEYS, output), output)
    note(f"its bugs: jsdelta query bugs --attack {row['attack'][:8]}")
