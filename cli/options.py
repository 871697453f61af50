"""What several commands share: the context they get and the options they spell alike."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jsdelta_db.config.eps import parse_eps
from jsdelta_db.config.evaluation import check_beta
from jsdelta_db.config.locations import Workspace, resolve_workspace

if TYPE_CHECKING:
    from jsdelta_db.queries.selection import Selection


@dataclass(frozen=True, slots=True)
class CommandContext:
    """The options given before the command."""

    folder: Path | None

    def workspace(self, data_dir: Path | None = None) -> Workspace:
        """Return the workspace that the command works in."""
        return resolve_workspace(self.folder, data_dir)


def whole(low: int, high: int | None = None) -> Callable[[str], int]:
    """Return a parser of whole numbers whose complaint names the value and what is valid."""
    valid = f"a whole number from {low}" + (f" to {high}" if high is not None else "")

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise typer.BadParameter(f"{text!r} is not valid: must be {valid}") from None
        if number < low or (high is not None and number > high):
            raise typer.BadParameter(f"{number} is out of range: must be {valid}")
        return number

    return parse


def parse_beta(text: str) -> float:
    """Read a threshold on JSΔ."""
    try:
        return check_beta(float(text))
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is not a number: must be a number above 0, such as 0.01"
        ) from None


DataDir = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER", help="Folder with the data sets (JSDELTA_DATA_DIR; default: data in the workspace)."
    ),
]
Device = Annotated[str | None, typer.Option(metavar="auto|cpu|cuda", help="Where to compute.")]
Ensemble = Annotated[str | None, typer.Option(metavar="NAME", help="Name or uid of an ensemble.")]
Evaluators = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SET", help="Who judges: an ensemble, NAME:1,2 or a model (repeatable); default: the others."
    ),
]
Temperature = Annotated[
    str, typer.Option(metavar="1|fit", help="Softmax temperature of the evaluators; fit: one each.")
]
Controls = Annotated[
    bool, typer.Option("--controls", help="Judge pairs with a known answer, too; see jsdelta query controls.")
]
Stability = Annotated[
    bool, typer.Option("--stability", help="Measure how firmly samples sit; see jsdelta query stability.")
]
SelectEps = Annotated[
    list[str] | None,
    typer.Option(
        "--eps", metavar="EPS", help="Only this ε, in 1/255, or as it is with --norm l2 (repeatable)."
    ),
]
SelectNorm = Annotated[
    str | None, typer.Option("--norm", metavar="linf|l2", help="Only attacks in this norm.")
]
SelectObjective = Annotated[
    str | None, typer.Option("--objective", metavar="NAME", help="Only attacks that lowered this.")
]
SelectLibrary = Annotated[
    str | None,
    typer.Option("--library", metavar="NAME", help="Only samples that this made, such as jsdelta."),
]
SelectTemperature = Annotated[
    str | None, typer.Option("--temperature", metavar="1|fit", help="Only judgements by this rule.")
]
Population = Annotated[
    str | None,
    typer.Option(
        metavar="attacked-correct|all-correct",
        help="Images that the attacked model has right, or every evaluator, too.",
    ),
]
SelectDataset = Annotated[str | None, typer.Option("--dataset", metavar="NAME", help="Only this data set.")]
SelectMethod = Annotated[
    str | None, typer.Option("--method", metavar="NAME", help="Only models trained this way.")
]
SelectAttack = Annotated[
    list[str] | None,
    typer.Option("--attack", metavar="UID", help="Only this attack or evaluation (repeatable)."),
]
Betas = Annotated[
    list[float] | None,
    typer.Option("--beta", metavar="BETA", parser=parse_beta, help="Threshold on JSΔ (repeatable)."),
]


def select(ctx: typer.Context) -> "Selection":
    """Turn those selecting options that the command has into what the queries take."""
    from jsdelta_db.queries.selection import Selection

    given = ctx.params
    names = ("ensemble", "dataset", "method", "norm", "objective", "library", "temperature", "population")
    chosen = {name: given[name] for name in names if given.get(name) is not None}
    selection = Selection(**chosen, uids=tuple(given.get("attack") or ()))  # says if the norm is unknown
    eps = tuple(parse_eps(text, selection.norm or "linf") for text in given.get("eps") or ())
    return replace(selection, eps=eps)
