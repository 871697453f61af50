"""What several commands share: the context they get and the options they spell alike."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jsdelta_db.config import check_beta, parse_eps
from jsdelta_db.settings import Workspace, resolve_workspace

if TYPE_CHECKING:
    from jsdelta_db.store.queries import Selection  # with NumPy behind it: --help must not wait


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
            raise typer.BadParameter(f"{text!r} is not valid; valid is {valid}") from None
        if number < low or (high is not None and number > high):
            raise typer.BadParameter(f"{number} is out of range; valid is {valid}")
        return number

    return parse


def parse_beta(text: str) -> float:
    """Read a threshold on JSΔ."""
    try:
        return check_beta(float(text))
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is not a number; valid is a number above 0, such as 0.01"
        ) from None


DataDir = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER", help="Folder with the data sets (JSDELTA_DATA_DIR; default: data in the workspace)."
    ),
]
Device = Annotated[str | None, typer.Option(metavar="auto|cpu|cuda", help="Where to compute.")]
Ensemble = Annotated[str | None, typer.Option(metavar="NAME", help="Name or uid of an ensemble.")]
SelectEps = Annotated[
    list[str] | None, typer.Option("--eps", metavar="EPS", help="Only this ε, in 1/255 (repeatable).")
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


def select(
    ensemble: str | None,
    dataset: str | None,
    method: str | None,
    eps: list[str] | None,
    attack: list[str] | None,
) -> "Selection":
    """Turn the selecting options into what the queries take."""
    from jsdelta_db.store.queries import Selection

    return Selection(ensemble, dataset, method, tuple(map(parse_eps, eps or ())), tuple(attack or ()))
