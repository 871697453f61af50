"""``jsdelta query compare`` and ``jsdelta plot compare``: two sides of one question set side by side."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from . import options, printing, selecting
from .groups import Group, with_groups
from .output import note, note_counted_once, note_pooled, note_population, write_rows
from .plot_options import Drawing
from .printing import Output
from .query import note_nothing
from .tables import Row

if TYPE_CHECKING:
    from jsdelta_db.config.measures import Measuring
    from jsdelta_db.queries.comparison import Comparison, Request
    from jsdelta_db.queries.selection import Selection

By = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY,KEY…", help="Compare the values of the first; further ones divide the rows."),
]
Baseline = Annotated[str | None, typer.Option(metavar="VALUE", help="Value of the first key that is side B.")]
SideA = Annotated[
    list[str] | None,
    typer.Option("--a", metavar="KEY=VALUE", help="What side A is (repeatable: all must hold)."),
]
SideB = Annotated[
    list[str] | None,
    typer.Option("--b", metavar="KEY=VALUE", help="What side B is (repeatable: all must hold)."),
]
Quantity = Annotated[
    str,
    typer.Option(
        metavar="fraction|rate|non-bug-rate|equal-success",
        help="The number to which interval, p and verdict belong; equal-success: on what both sides fooled.",
    ),
]


def parse_margin(text: str) -> float:
    """Read a margin of equivalence."""
    from jsdelta_db.queries.comparison.request import check_margin

    try:
        return check_margin(float(text))
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is not valid: must be a number between 0 and 1, such as 0.05"
        ) from None


Equivalence = Annotated[
    float | None,
    typer.Option(
        metavar="M", parser=parse_margin, help="Differences within ±M are none: two one-sided tests at 5 %."
    ),
]
Allow = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY", help="The sides may differ in this, such as evaluators (repeatable)."),
]
FirstFalls = Annotated[
    bool,
    typer.Option("--first-falls", help="Only attempts that no smaller ε of those selected made succeed."),
]


@dataclass(frozen=True, slots=True)
class ComparingOptions:
    """What is compared, and how."""

    by: By = None
    baseline: Baseline = None
    a: SideA = None
    b: SideB = None
    beta: options.Betas = None
    quantity: Quantity = "fraction"
    equivalence: Equivalence = None
    allow: Allow = None
    first_falls: FirstFalls = False

    def request(self, measuring: "Measuring") -> "Request":
        """Return the record that the comparison takes."""
        from jsdelta_db.config.evaluation import DEFAULT_BETA
        from jsdelta_db.queries.comparison import Request

        return Request(
            by=_split(self.by), baseline=self.baseline, a=tuple(self.a or ()), b=tuple(self.b or ()),
            betas=tuple(self.beta or (DEFAULT_BETA,)), quantity=self.quantity, measuring=measuring,
            equivalence=self.equivalence, allow=_split(self.allow), first_falls=self.first_falls,
        )  # fmt: skip


Comparing = Annotated[ComparingOptions, Group(ComparingOptions)]


@with_groups
def compare(
    ctx: typer.Context,
    *,
    comparing: Comparing,
    measuring: selecting.MeasuringBy,
    selection: selecting.Selecting,
    output: printing.Printing,
) -> None:
    """Compare two sides, A minus B, paired by image: say whether more bugs, fewer, as many, or undecided.

    Sides that differ in images, targets, steps or evaluators are refused unless --allow names it.

    Example: jsdelta query compare --by eps --baseline 8 --beta 0.1
    """
    from jsdelta_db.queries.comparison import compare

    request = comparing.request(measuring.measuring)
    selection = measuring.narrow(selection)
    with ctx.obj.read_store() as reader:
        found = compare(reader, request, selection)
    _write(found, output)
    _note_beside(found, selection)
    if not found.alone:
        note_nothing(ctx, found.rows, selection)


@with_groups
def plot_compare(
    ctx: typer.Context,
    *,
    comparing: Comparing,
    measuring: selecting.MeasuringBy,
    selection: selecting.Selecting,
    drawing: Drawing,
) -> None:
    """Draw the differences of jsdelta query compare, each with its interval and a line at none.

    Example: jsdelta plot compare --by eps --baseline 8 -o compare.pdf
    """
    from jsdelta_db.figures.comparison import draw_comparison

    request = comparing.request(measuring.measuring)
    path, setting = drawing.check("compare")
    selection = measuring.narrow(selection)
    with ctx.obj.read_store() as reader:
        drawn = draw_comparison(reader, request, selection, setting)
    drawing.save(drawn, path)
    _note_beside(drawn.table, selection)


def _note_beside(found: "Comparison", selection: "Selection") -> None:
    """Say, on stderr, what stands behind the rows."""
    for group in found.alone:
        note(f"one side alone: {group}")
    note_counted_once(found)
    note_pooled(found.pooled, found.norm)
    note_population(selection)


def _write(found: "Comparison", output: Output) -> None:
    """Write the rows; people get the quantity asked for, and what is said of it, in a line."""
    if not output.is_for_people:
        write_rows(found.rows, found.columns, output)
        return
    rows = [_shorten(row, found.keys) for row in found.rows]
    keys = list(rows[0]) if rows else [*found.keys, "a", "b", "difference", "verdict"]
    shared = {*found.keys, "b", "quantity", "measure", "beta"} - {"eps"}
    write_rows(rows, keys, output, facts=shared, norm=found.norm)
    for text in dict.fromkeys(row["warnings"] for row in found.rows if row["warnings"]):
        of = [f"{row['a']}{_at(row, found)}" for row in found.rows if row["warnings"] == text]
        note(f"{', '.join(of)}: {text}" if len(of) < len(found.rows) else text)
    if rows:
        covers = dict.fromkeys(row["covers"] for row in found.rows if row["covers"])
        note(f"difference: a − b with its 95 % interval over {', '.join(covers) or 'nothing'}; p: Holm's")


def _shorten(row: Row, keys: tuple[str, ...]) -> Row:
    """Return the cells of a row that people read."""
    from jsdelta_db.queries.comparison.quantities import COLUMNS

    of_side, of_difference = COLUMNS[row["quantity"]]
    return {
        **{key: row[key] for key in keys},
        "a": row["a"],
        "b": row["b"],
        "measure": row["measure"],
        "beta": row["beta"],
        "quantity": row["quantity"],
        **({"of a": row[f"{of_side}_a"], "of b": row[f"{of_side}_b"]} if of_side else {}),
        "difference": row[of_difference],
        "difference_low": row[f"{of_difference}_low"],
        "difference_high": row[f"{of_difference}_high"],
        "p_holm": row["p_holm"],
        "members": f"{row['members_negative']} − / {row['members_positive']} +",
        **({} if row["equivalent"] is None else {"equivalent": row["equivalent"]}),
        "n_images": row["n_images"],
        "verdict": row["verdict"],
    }


def _at(row: Row, found: "Comparison") -> str:
    from jsdelta_db.config.eps import format_eps

    if "eps" not in row:
        return ""
    return f" at ε {format_eps(row['eps'], row.get('norm', found.norm) or 'linf')}"


def _split(texts: list[str] | None) -> tuple[str, ...]:
    return tuple(part.strip() for text in texts or () for part in text.split(","))
