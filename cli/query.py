"""``jsdelta query``: questions to the store; reads only.

Each command names the selecting options that it has; ``options.select`` reads their values from the context.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .output import (
    FOR_PEOPLE,
    SHORT_UID,
    Format,
    Row,
    note,
    note_pooled,
    note_population,
    write_bugs,
    write_rows,
)

if TYPE_CHECKING:
    from jsdelta_db.queries.grouping import Table

BETA = 0.10  # what the paper's claims are decided at
MOST_NAMED = 5  # uids in one note

app = typer.Typer(no_args_is_help=True, help="Ask the store.")

Form = Annotated[Format, typer.Option("--format", help="How to print.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write to a file.")]
Header = Annotated[bool, typer.Option("--header/--no-header", help="Column names above the rows.")]


@app.callback()
def query() -> None:
    """Ask the store: reads only, makes nothing."""


@app.command()
def bugs(
    ctx: typer.Context,
    beta: options.Betas = None,
    by: Annotated[
        str | None,
        typer.Option(metavar="KEY,KEY…", help="Group by these, such as eps,method,attacked,label-pair."),
    ] = None,
    ensemble: options.Ensemble = None,
    dataset: options.SelectDataset = None,
    method: options.SelectMethod = None,
    norm: options.SelectNorm = None,
    eps: options.SelectEps = None,
    objective: options.SelectObjective = None,
    library: options.SelectLibrary = None,
    attack: options.SelectAttack = None,
    temperature: options.SelectTemperature = None,
    population: options.Population = None,
    form: Form = Format.TABLE,
    output: Output = None,
    header: Header = True,
) -> None:
    """Count the bugs: successful samples whose JSΔ is below β.

    Example: jsdelta query bugs --beta 0.01
    """
    from jsdelta_db.config.evaluation import DEFAULT_BETAS
    from jsdelta_db.queries.bugs import query_bugs
    from jsdelta_db.queries.selection import count_unfinished
    from jsdelta_db.store.reading import reading

    selection = options.select(ctx)
    keys = [key.strip() for key in by.split(",")] if by else []
    with reading(ctx.obj.workspace().db_url) as connection:
        unfinished = count_unfinished(connection)
        table = query_bugs(connection, beta or DEFAULT_BETAS, keys, selection)
    write_bugs(table.keys, table.rows, form, output, header, table.norm)
    note_pooled(table.pooled, table.norm)
    note_population(selection)
    if unfinished:
        note(f"left out: {unfinished} unfinished; the same jsdelta attack as before goes on with them")
    _note_nothing(table.rows)


@app.command()
def samples(
    ctx: typer.Context,
    bugs: Annotated[
        float | None,
        typer.Option(metavar="BETA", parser=options.parse_beta, help="Only successes with JSΔ below this."),
    ] = None,
    failures: Annotated[bool, typer.Option("--all", help="Failed attempts, too.")] = False,
    source: Annotated[str | None, typer.Option(metavar="LABEL", help="Only images of this label.")] = None,
    target: Annotated[
        str | None, typer.Option(metavar="LABEL", help="Only samples aimed at this label, or ending there.")
    ] = None,
    sort: Annotated[
        str, typer.Option(metavar="KEY|-KEY", help="Column to sort by; -KEY: the largest first.")
    ] = "js_delta",
    limit: Annotated[
        int, typer.Option(metavar="N", parser=options.whole(0), help="How many at most; 0: all.")
    ] = 20,
    ensemble: options.Ensemble = None,
    dataset: options.SelectDataset = None,
    method: options.SelectMethod = None,
    norm: options.SelectNorm = None,
    eps: options.SelectEps = None,
    objective: options.SelectObjective = None,
    library: options.SelectLibrary = None,
    attack: options.SelectAttack = None,
    temperature: options.SelectTemperature = None,
    population: options.Population = None,
    form: Form = Format.TABLE,
    output: Output = None,
    header: Header = True,
) -> None:
    """List samples, one row per attempt: the successful ones with the smallest JSΔ first.

    Example: jsdelta query samples --bugs 0.05 --limit 5
    """
    from jsdelta_db.queries.samples import SAMPLE_KEYS, Wanted, query_samples
    from jsdelta_db.store.reading import reading

    selection = options.select(ctx)
    wanted = Wanted(bugs, failures, source, target, sort, limit)
    with reading(ctx.obj.workspace().db_url) as connection:
        rows, more = query_samples(connection, wanted, selection)
    facts = ("attack", "evaluation", "source_label", "target_label", "success")
    write_rows(rows, SAMPLE_KEYS, form, output, header=header, facts=facts)
    note_population(selection)
    if more:
        note(f"{more:,} more; --limit 0 lists all")
    if not rows:
        note("no sample matches; jsdelta query bugs shows what there is, --all adds failed attempts")


@app.command()
def stability(
    ctx: typer.Context,
    beta: options.Betas = None,
    ensemble: options.Ensemble = None,
    dataset: options.SelectDataset = None,
    method: options.SelectMethod = None,
    norm: options.SelectNorm = None,
    eps: options.SelectEps = None,
    objective: options.SelectObjective = None,
    library: options.SelectLibrary = None,
    attack: options.SelectAttack = None,
    temperature: options.SelectTemperature = None,
    population: options.Population = None,
    form: Form = Format.TABLE,
    output: Output = None,
    header: Header = True,
) -> None:
    """Compare how firmly bugs and features sit: the share of noise draws that leave the attack successful.

    A difference below 0 says that bugs are sharper, as the paper expects.

    Example: jsdelta query stability --beta 0.1
    """
    from jsdelta_db.queries.stability import STABILITY_KEYS, query_stability
    from jsdelta_db.store.reading import reading

    selection = options.select(ctx)
    with reading(ctx.obj.workspace().db_url) as connection:
        found = query_stability(connection, beta or (BETA,), selection)
    _write_table(found.table, STABILITY_KEYS, form, output, header, facts=("sharpness",))
    note_population(selection)
    _note_too_few(found.table.rows, form, "bootstrap over images", "bugs or features")
    _note_missing("stability", "attack", found.unmeasured)
    if not found.unmeasured:
        _note_nothing(found.table.rows)


@app.command()
def transfer(
    ctx: typer.Context,
    ensemble: options.Ensemble = None,
    dataset: options.SelectDataset = None,
    method: options.SelectMethod = None,
    norm: options.SelectNorm = None,
    eps: options.SelectEps = None,
    objective: options.SelectObjective = None,
    library: options.SelectLibrary = None,
    attack: options.SelectAttack = None,
    temperature: options.SelectTemperature = None,
    population: options.Population = None,
    form: Form = Format.TABLE,
    output: Output = None,
    header: Header = True,
) -> None:
    """Show how much of the attacked model's change the evaluators share, and how many end at the target.

    Example: jsdelta query transfer --eps 8
    """
    from jsdelta_db.queries.transfer import TRANSFER_KEYS, query_transfer
    from jsdelta_db.store.reading import reading

    selection = options.select(ctx)
    with reading(ctx.obj.workspace().db_url) as connection:
        table = query_transfer(connection, selection)
    _write_table(table, TRANSFER_KEYS, form, output, header)
    note_population(selection)
    _note_too_few(
        table.rows, form, "bootstrap over images; Wilson for shares if each image appears once", "successes"
    )
    _note_nothing(table.rows)


@app.command()
def controls(
    ctx: typer.Context,
    ensemble: options.Ensemble = None,
    dataset: options.SelectDataset = None,
    method: options.SelectMethod = None,
    norm: options.SelectNorm = None,
    eps: options.SelectEps = None,
    objective: options.SelectObjective = None,
    library: options.SelectLibrary = None,
    attack: options.SelectAttack = None,
    temperature: options.SelectTemperature = None,
    form: Form = Format.TABLE,
    output: Output = None,
    header: Header = True,
) -> None:
    """Show what JSΔ came to on pairs with a known answer: pass, fail, or just shown.

    Example: jsdelta query controls --eps 8
    """
    from jsdelta_db.queries.controls import CONTROL_KEYS, OF_EVALUATION, query_controls
    from jsdelta_db.store.reading import reading

    with reading(ctx.obj.workspace().db_url) as connection:
        found = query_controls(connection, options.select(ctx))
    write_rows(found.rows, CONTROL_KEYS, form, output, header=header, facts=OF_EVALUATION)
    _note_missing("controls", "evaluation", found.without)
    if not found.without:
        _note_nothing(found.rows)


@app.command()
def assumptions(
    ctx: typer.Context,
    ensemble: options.Ensemble = None,
    dataset: options.SelectDataset = None,
    method: options.SelectMethod = None,
    norm: options.SelectNorm = None,
    eps: options.SelectEps = None,
    objective: options.SelectObjective = None,
    library: options.SelectLibrary = None,
    attack: options.SelectAttack = None,
    temperature: options.SelectTemperature = None,
    form: Form = Format.TABLE,
    output: Output = None,
    header: Header = True,
) -> None:
    """Show whether the evaluators agree on clean images, and stay calm when the label does not change.

    Example: jsdelta query assumptions
    """
    from jsdelta_db.queries.controls import (
        ASSUMPTION_KEYS,
        OF_EVALUATION,
        explain_failures,
        query_assumptions,
    )
    from jsdelta_db.store.reading import reading

    with reading(ctx.obj.workspace().db_url) as connection:
        found = query_assumptions(connection, options.select(ctx))
    facts = (*OF_EVALUATION, "evaluators")
    write_rows(found.rows, ASSUMPTION_KEYS, form, output, header=header, facts=facts)
    for line in explain_failures(found.rows):
        note(line)
    _note_missing("controls", "evaluation", found.without)
    if not found.without:
        _note_nothing(found.rows)


@app.command()
def ensembles(
    ctx: typer.Context,
    form: Form = Format.TABLE,
    output: Output = None,
    header: Header = True,
) -> None:
    """Compare the ensembles: accuracy, robust accuracy under the data set's one attack, and agreement.

    Means over the members; agreement is the share of clean images on which two members say the same label.

    Example: jsdelta query ensembles
    """
    from jsdelta_db.config.eps import format_eps
    from jsdelta_db.queries.ensembles import ENSEMBLE_KEYS, count_unfinished_ensembles, query_ensembles
    from jsdelta_db.store.reading import reading

    with reading(ctx.obj.workspace().db_url) as connection:
        rows = query_ensembles(connection)
        unfinished = count_unfinished_ensembles(connection)
    if form in FOR_PEOPLE:
        for row in rows:
            if row["robust_eps"] is not None:
                row["robust_eps"] = format_eps(row["robust_eps"], row["robust_norm"])
    write_rows(rows, ENSEMBLE_KEYS, form, output, header=header)
    if unfinished:
        note(f"left out: {unfinished} unfinished; the same jsdelta train as before goes on with them")
    if not rows:
        note("no finished ensemble; make one with jsdelta train --seed 0")


def _write_table(
    table: "Table",
    counted: Sequence[str],
    form: Format,
    output: Path | None,
    header: bool,
    facts: Collection[str] = (),
) -> None:
    above = {*table.keys, *facts} - {"eps"}
    write_rows(table.rows, [*table.keys, *counted], form, output, header=header, facts=above, norm=table.norm)


def _note_too_few(rows: Sequence[Row], form: Format, kinds: str, what: str) -> None:
    if form in FOR_PEOPLE and rows:
        marked = f" * fewer than 30 {what}." if any(row["too_few"] for row in rows) else ""
        note(f"95 % intervals: {kinds}.{marked}")


def _note_missing(option: str, of: str, uids: Sequence[str]) -> None:
    """Name the option that measures what some attacks or evaluations lack."""
    if uids:
        named = ", ".join(uid[:SHORT_UID] for uid in uids[:MOST_NAMED]) + (" …" if uids[MOST_NAMED:] else "")
        note(
            f"no {option} stored for {of}{'s' if uids[1:] else ''} {named}: run the same jsdelta attack … "
            f"(or score …) as before with --{option} added; nothing is attacked again"
        )


def _note_nothing(rows: Sequence[Row]) -> None:
    if not rows:
        note("no finished attack matches; make one with jsdelta attack --eps 3")
