"""``jsdelta query``: queries of the store; reads only."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from . import options, printing, selecting
from .bug_table import write_bugs, write_sensitivity
from .commands import App
from .ensemble_table import write_ensembles
from .groups import with_groups
from .key_names import add_old_names
from .output import note, note_counted_once, note_intervals, note_pooled, note_population, write_rows
from .printing import Output
from .tables import SHORT_UID, Row

if TYPE_CHECKING:
    from jsdelta_db.queries.grouping import Table
    from jsdelta_db.queries.selection import Selection

MOST_NAMED = 5  # uids in one note
MOST_VALUES = 6  # of a key, for people

By = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY,KEY…",
        help="Group by these facts, such as eps,method,sam_rho,label-pair (repeatable; see query keys).",
    ),
]
BugsBelow = Annotated[float | None, options.threshold("Only successes with JSΔ below this.")]
Failures = Annotated[bool, typer.Option("--all", help="Failed attempts, too.")]
Source = Annotated[str | None, typer.Option(metavar="LABEL", help="Only images of this label.")]
Target = Annotated[
    str | None, typer.Option(metavar="LABEL", help="Only samples aimed at this label, or ending there.")
]
Sort = Annotated[str, typer.Option(metavar="KEY|-KEY", help="Column to sort by; -KEY: the largest first.")]
MostGroups = Annotated[
    int, options.whole("Only this many groups, those with the most bugs first; 0: all, by name.", 0)
]
Limit = Annotated[int, options.whole("How many at most; 0: all.", 0)]

app = App(no_args_is_help=True, help="Query the store.")


@app.callback()
def query() -> None:
    """Query the store: reads only, makes nothing."""


@app.command()
@with_groups
def bugs(
    ctx: typer.Context,
    *,
    beta: options.Betas = None,
    by: By = None,
    limit: MostGroups = 0,
    measuring: selecting.MeasuringBy,
    selection: selecting.Selecting,
    output: printing.Printing,
) -> None:
    """Count the bugs: successful samples whose JSΔ, or another measure, is below β.

    JSON and CSV have judged_by also as ensemble, its old name, until the next release.

    Example: jsdelta query bugs --beta 0.01
    """
    from jsdelta_db.config.evaluation import DEFAULT_BETAS
    from jsdelta_db.queries.bugs import query_bugs
    from jsdelta_db.queries.selection import count_unfinished

    keys = [key.strip() for text in by or () for key in text.split(",")]
    selection = measuring.narrow(selection)
    with ctx.obj.read_store() as connection:
        unfinished = count_unfinished(connection)
        betas = beta or DEFAULT_BETAS
        table = query_bugs(connection, betas, keys, selection, limit, measuring.measuring)
    write_bugs(table, output)
    if table.n_more:
        note(f"{table.n_more:,} more groups, with fewer bugs; --limit 0 lists all")
    note_counted_once(table)
    note_pooled(table.pooled, table.norm)
    note_population(selection)
    if unfinished:
        note(f"left out: {unfinished} unfinished; the same jsdelta attack as before resumes them")
    note_nothing(ctx, table.rows, selection)


@app.command()
@with_groups
def sensitivity(
    ctx: typer.Context,
    *,
    beta: options.Beta = None,
    by: By = None,
    measuring: selecting.MeasuringByAll,
    selection: selecting.Selecting,
    output: printing.Printing,
) -> None:
    """Ask one question under every measure: does its answer hang on the measure?

    Each measure at the same β, and at the matched one, which as many successes of all groups lie below.

    Example: jsdelta query sensitivity --beta 0.1
    """
    from jsdelta_db.config.evaluation import DEFAULT_BETA
    from jsdelta_db.queries.sensitivity import query_sensitivity

    keys = [key.strip() for text in by or () for key in text.split(",")]
    selection = measuring.narrow(selection)
    with ctx.obj.read_store() as connection:
        table = query_sensitivity(connection, beta or DEFAULT_BETA, keys, selection, measuring.interval)
    write_sensitivity(table, output)
    note_counted_once(table)
    note_pooled(table.pooled, table.norm)
    note_population(selection)
    note_nothing(ctx, table.rows, selection)


@app.command()
@with_groups
def samples(
    ctx: typer.Context,
    *,
    bugs: BugsBelow = None,
    failures: Failures = False,
    source: Source = None,
    target: Target = None,
    sort: Sort = "js_delta",
    limit: Limit = 20,
    selection: selecting.Selecting,
    output: printing.Printing,
) -> None:
    """List samples, one row per attempt: the successful ones with the smallest JSΔ first.

    Example: jsdelta query samples --bugs 0.05 --limit 5
    """
    from jsdelta_db.queries.samples import SAMPLE_KEYS, Wanted, query_samples

    wanted = Wanted(bugs, failures, source, target, sort, limit)
    with ctx.obj.read_store() as connection:
        rows, more = query_samples(connection, wanted, selection)
    facts = ("attack", "evaluation", "split", "source_label", "target_label", "success", "outside")
    write_rows(rows, list(rows[0]) if rows else SAMPLE_KEYS, output, facts=facts)
    note_population(selection)
    if more:
        note(f"{more:,} more; --limit 0 lists all")
    if not rows and not _explain_nothing(ctx, selection):
        note("no sample matches; jsdelta query bugs shows what there is, --all adds failed attempts")


@app.command()
@with_groups
def stability(
    ctx: typer.Context,
    *,
    beta: options.Betas = None,
    selection: selecting.Selecting,
    output: printing.Printing,
) -> None:
    """Compare the stability of bugs and features: the share of noise draws that leave the attack successful.

    A difference below 0 means that bugs are sharper, as the paper expects.

    Example: jsdelta query stability --beta 0.1
    """
    from jsdelta_db.config.evaluation import DEFAULT_BETA
    from jsdelta_db.queries.stability import STABILITY_KEYS, query_stability

    with ctx.obj.read_store() as connection:
        found = query_stability(connection, beta or (DEFAULT_BETA,), selection)
    _write_table(found.table, STABILITY_KEYS, output, facts=("sharpness",))
    note_population(selection)
    few = "fewer than 30 images, or than 5 with a bug or with a feature"
    note_intervals(found.table.rows, output, few)
    _note_missing("stability", "attack", found.unmeasured)
    if not found.unmeasured:
        note_nothing(ctx, found.table.rows, selection)


@app.command()
@with_groups
def transfer(ctx: typer.Context, selection: selecting.Selecting, output: printing.Printing) -> None:
    """Show how much of the attacked model's change the evaluators share, and how many end at the target.

    Example: jsdelta query transfer --eps 8
    """
    from jsdelta_db.queries.transfer import TRANSFER_KEYS, query_transfer

    with ctx.obj.read_store() as connection:
        table = query_transfer(connection, selection)
    _write_table(table, TRANSFER_KEYS, output)
    note_population(selection)
    note_intervals(table.rows, output, "fewer than 30 images with a success")
    note_nothing(ctx, table.rows, selection)


@app.command()
@with_groups
def controls(
    ctx: typer.Context, selection: selecting.SelectingEvaluations, output: printing.Printing
) -> None:
    """Show JSΔ on pairs with a known answer, and whether the evaluators may judge: pass, fail, or shown.

    Algebraic identities, which test the code alone, stand apart, below.

    Example: jsdelta query controls --eps 8
    """
    from jsdelta_db.queries.controls import CONTROL_KEYS, OF_EVALUATION, explain_controls, query_controls

    with ctx.obj.read_store() as connection:
        found = query_controls(connection, selection)
    write_rows(found.rows, CONTROL_KEYS, output, facts=OF_EVALUATION)
    for line in explain_controls(found.rows):
        note(line)
    _note_missing("controls", "evaluation", found.without)
    if not found.without:
        note_nothing(ctx, found.rows, selection)


@app.command()
@with_groups
def assumptions(
    ctx: typer.Context, selection: selecting.SelectingEvaluations, output: printing.Printing
) -> None:
    """Show whether the evaluators agree on clean images and are invariant to label-preserving changes.

    Example: jsdelta query assumptions
    """
    from jsdelta_db.queries import controls as queries

    with ctx.obj.read_store() as connection:
        found = queries.query_assumptions(connection, selection)
    write_rows(found.rows, queries.ASSUMPTION_KEYS, output, facts=(*queries.OF_EVALUATION, "evaluators"))
    for line in queries.explain_failures(found.rows):
        note(line)
    _note_missing("controls", "evaluation", found.without)
    if not found.without:
        note_nothing(ctx, found.rows, selection)


@app.command()
@with_groups
def ensembles(ctx: typer.Context, *, where: selecting.WhereListed = None, output: printing.Printing) -> None:
    """Compare the ensembles: accuracy, robust accuracy under the data set's one attack, and agreement.

    Means over the members; agreement: the share of clean images on which two members predict the same label.

    Example: jsdelta query ensembles
    """
    write_ensembles(ctx, output, where or ())


@app.command()
@with_groups
def keys(ctx: typer.Context, selection: selecting.SelectingEvaluations, output: printing.Printing) -> None:
    """List the facts that --where and --by take, with the values that occur.

    Example: jsdelta query keys --where method=standard
    """
    from jsdelta_db.queries.occurring import KEY_KEYS, query_keys

    with ctx.obj.read_store() as connection:
        rows = query_keys(connection, selection, MOST_VALUES if output.is_for_people else 0)
    write_rows(rows, KEY_KEYS, output)
    note_nothing(ctx, rows, selection)


def _write_table(table: "Table", counted: Sequence[str], output: Output, facts: Collection[str] = ()) -> None:
    above = {*table.keys, *facts} - {"eps"}
    rows, keys = add_old_names(table.rows, [*table.keys, *counted], output)
    write_rows(rows, keys, output, facts=above, norm=table.norm)


def _note_missing(option: str, of: str, uids: Sequence[str]) -> None:
    """Name the option that measures what some attacks or evaluations lack."""
    if uids:
        named = ", ".join(uid[:SHORT_UID] for uid in uids[:MOST_NAMED]) + (" …" if uids[MOST_NAMED:] else "")
        note(
            f"no {option} stored for {of}{'s' if uids[1:] else ''} {named}: run the same jsdelta attack … "
            f"(or score …) as before with --{option} added; nothing is attacked again"
        )


def note_nothing(ctx: typer.Context, rows: Sequence[Row], selection: "Selection") -> None:
    """Say why nothing matches, where nothing does."""
    if not rows and not _explain_nothing(ctx, selection):
        note("no finished attack matches; make one with jsdelta attack --eps 3")


def _explain_nothing(ctx: typer.Context, selection: "Selection") -> bool:
    """Say, on stderr, which condition left nothing; return whether one did."""
    from jsdelta_db.queries.selection import explain_nothing

    with ctx.obj.read_store() as connection:
        reason = explain_nothing(connection, selection)
    if reason:
        note(reason)
    return bool(reason)
