"""Options that several commands share, and the records that groups of them make."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.models import OptionInfo

from jsdelta_db.config.checks import DEVICES, DTYPES, check_choice, check_device
from jsdelta_db.config.evaluation import EvaluationConfig, check_beta
from jsdelta_db.config.locations import Workspace, resolve_workspace
from jsdelta_db.config.measures import (
    check_share,
)

from .groups import Group

if TYPE_CHECKING:
    from jsdelta_db.pipeline.evaluation.finished import Extras
    from jsdelta_db.store.reading import Reader


LARGEST_WHOLE = 2**31 - 1  # what every column and every generator of random numbers takes


@dataclass(frozen=True, slots=True)
class CommandContext:
    """The options given before the command."""

    folder: Path | None

    @contextmanager
    def read_store(self) -> "Iterator[Reader]":
        """Open the workspace's store for queries."""
        from jsdelta_db.store.reading import reading

        with reading(self.workspace().db_url) as reader:
            yield reader

    def workspace(self, data_dir: Path | None = None) -> Workspace:
        """Return the workspace that the command works in."""
        return resolve_workspace(self.folder, data_dir)


def whole(help: str, low: int, high: int = LARGEST_WHOLE, metavar: str = "N") -> OptionInfo:
    """Return an option for a whole number; its error names the value and the range."""
    valid = f"a whole number from {low} to {high}"

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise typer.BadParameter(f"{text!r} is not valid: must be {valid}") from None
        if not low <= number <= high:
            raise typer.BadParameter(f"{number} is out of range: must be {valid}")
        return number

    option: OptionInfo = typer.Option(metavar=metavar, parser=parse, help=help)
    return option


def threshold(help: str, *names: str) -> OptionInfo:
    """Return an option for a threshold on JSΔ."""

    def parse(text: str) -> float:
        try:
            return check_beta(float(text))
        except ValueError:
            raise typer.BadParameter(
                f"{text!r} is not a number: must be a number above 0, such as 0.01"
            ) from None

    option: OptionInfo = typer.Option(*names, metavar="BETA", parser=parse, help=help)
    return option


def at_least_0(help: str, name: str) -> OptionInfo:
    """Return an option for a number from 0."""

    def parse(text: str) -> float:
        try:
            return check_share(name, float(text))
        except ValueError:
            raise typer.BadParameter(
                f"{text!r} is not a number: must be a number from 0, such as 0.4"
            ) from None

    option: OptionInfo = typer.Option(metavar="X", parser=parse, help=help)
    return option


def choice(help: str, choices: Sequence[str], check: Callable[[str], None]) -> OptionInfo:
    """Return an option for one of some words; checked here, so that no finished work hides a slip."""

    def parse(text: str) -> str:
        check(text)
        return text

    option: OptionInfo = typer.Option(metavar="|".join(choices), parser=parse, help=help)
    return option


# The machine and the models.
DataDir = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER", help="Folder with the data sets (JSDELTA_DATA_DIR; default: data in the workspace)."
    ),
]
Device = Annotated[str | None, choice("Where to compute.", DEVICES, check_device)]
DType = Annotated[
    str | None,
    choice("Arithmetic inside the network.", DTYPES, lambda text: check_choice("dtype", text, DTYPES)),
]
Ensemble = Annotated[str | None, typer.Option(metavar="NAME", help="Name or uid of an ensemble.")]
Evaluators = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SET",
        help="Evaluators: an ensemble, NAME:1,2 or a model (repeatable); default: all others.",
    ),
]
TrustCode = Annotated[
    bool,
    typer.Option("--trust-code", help="Agree to run code (module:callable) that models of the store name."),
]

# How samples are scored.
Temperature = Annotated[
    str, typer.Option(metavar="1|fit", help="Softmax temperature of the evaluators; fit: one each.")
]
SaveSamples = Annotated[
    bool, typer.Option("--save-samples/--no-save-samples", help="Store the perturbations.")
]
Controls = Annotated[
    bool, typer.Option("--controls", help="Score also pairs with a known answer; see jsdelta query controls.")
]
Stability = Annotated[
    bool,
    typer.Option("--stability", help="Measure stability under noise; see jsdelta query stability."),
]


@dataclass(frozen=True, slots=True)
class ScoringOptions:
    """Rules of an evaluation, and what is measured beside its scores."""

    temperature: Temperature = "1"
    save_samples: SaveSamples = True
    controls: Controls = False
    stability: Stability = False

    @property
    def rules(self) -> EvaluationConfig:
        """The rules of the evaluation."""
        return EvaluationConfig(self.temperature)

    @property
    def extras(self) -> "Extras":
        """What is measured beside the scores."""
        from jsdelta_db.pipeline.evaluation.finished import Extras

        return Extras(self.controls, self.stability)


Scoring = Annotated[ScoringOptions, Group(ScoringOptions)]
ScoringStored = Annotated[ScoringOptions, Group(ScoringOptions, without=("save_samples",))]

# Thresholds and uids.
Evaluation = Annotated[
    str | None, typer.Option(metavar="UID", help="JSΔ of this evaluation; default: the attack's first.")
]
Betas = Annotated[list[float] | None, threshold("Threshold on JSΔ (repeatable).", "--beta")]
Beta = Annotated[float | None, threshold("Threshold on JSΔ.", "--beta")]
BugsBelow = Annotated[float | None, threshold("Only samples with JSΔ below BETA.")]
