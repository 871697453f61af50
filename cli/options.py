"""Options that several commands share, and the records that groups of them make."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.models import OptionInfo

from jsdelta_db.config.checks import DEVICES, DTYPES, check_choice, check_device
from jsdelta_db.config.evaluation import EvaluationConfig, check_beta
from jsdelta_db.config.locations import Workspace, resolve_workspace
from jsdelta_db.config.measures import (
    INTERVALS,
    JS_DELTA,
    MEASURES,
    Measuring,
    check_interval,
    check_measure,
    check_share,
)

from .groups import Group

if TYPE_CHECKING:
    from jsdelta_db.pipeline.evaluation.finished import Extras
    from jsdelta_db.queries.selection import Selection
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

# Which evaluations and attempts a question is about.
Where = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="KEY=VALUE",
        help="Only where a recorded fact is so: eps=3, method!=sam, sam_rho>=0.05, steps=20,100 "
        "(repeatable: all must hold; jsdelta query keys lists them).",
    ),
]
WhereListed = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="KEY=VALUE",
        help="Only where a column is so, such as dataset=digits or seed<3 (repeatable: all must hold).",
    ),
]
SelectEnsemble = Annotated[
    list[str] | None,
    typer.Option(
        "--ensemble", metavar="NAME", help="Only judged by this ensemble: name or uid (repeatable)."
    ),
]
SelectDataset = Annotated[
    list[str] | None, typer.Option("--dataset", metavar="NAME", help="Only this data set (repeatable).")
]
SelectMethod = Annotated[
    list[str] | None,
    typer.Option("--method", metavar="NAME", help="Only models trained this way (repeatable)."),
]
SelectNorm = Annotated[
    list[str] | None,
    typer.Option("--norm", metavar="linf|l2", help="Only attacks in this norm (repeatable)."),
]
SelectEps = Annotated[
    list[str] | None,
    typer.Option("--eps", metavar="EPS", help="Only this ε: in 1/255, or a plain number in l2 (repeatable)."),
]
SelectObjective = Annotated[
    list[str] | None,
    typer.Option("--objective", metavar="NAME", help="Only attacks with this objective (repeatable)."),
]
SelectLibrary = Annotated[
    list[str] | None,
    typer.Option(
        "--library", metavar="NAME", help="Only samples made by this library, such as jsdelta (repeatable)."
    ),
]
SelectAttack = Annotated[
    list[str] | None,
    typer.Option("--attack", metavar="UID", help="Only this attack or evaluation (repeatable)."),
]
SelectTemperature = Annotated[
    list[str] | None,
    typer.Option("--temperature", metavar="1|fit", help="Only evaluations by this rule (repeatable)."),
]
Population = Annotated[
    str | None,
    typer.Option(
        metavar="attacked-correct|all-correct",
        help="Images that the attacked model classifies correctly, or every evaluator, too.",
    ),
]


def select(
    where: Where = None,
    ensemble: SelectEnsemble = None,
    dataset: SelectDataset = None,
    method: SelectMethod = None,
    norm: SelectNorm = None,
    eps: SelectEps = None,
    objective: SelectObjective = None,
    library: SelectLibrary = None,
    attack: SelectAttack = None,
    temperature: SelectTemperature = None,
    population: Population = None,
) -> "Selection":
    """Return the selection that the queries take."""
    from jsdelta_db.queries.facts.conditions import Condition
    from jsdelta_db.queries.facts.values import read_sizes
    from jsdelta_db.queries.selection import ATTACKED_CORRECT, Selection

    selection = Selection(
        tuple(ensemble or ()), tuple(dataset or ()), tuple(method or ()), uids=tuple(attack or ()),
        norm=tuple(norm or ()), objective=tuple(objective or ()), library=tuple(library or ()),
        temperature=tuple(temperature or ()), where=tuple(where or ()),
        population=ATTACKED_CORRECT if population is None else population,
    )  # fmt: skip
    if not eps:
        return selection
    for text in eps:
        read_sizes("--eps", text, norm or ())  # a slip is one before a store is looked for
    # In the unit of each attack's own norm.
    return replace(selection, where=(Condition("eps", "=", tuple(eps), "--eps"), *selection.where))


Selecting = Annotated["Selection", Group(select)]
SelectingEvaluations = Annotated["Selection", Group(select, without=("population",))]


# What a bug is measured by.
Measure = Annotated[
    str, choice("Reading of 'did other models notice?' that β is a threshold on.", MEASURES, check_measure)
]
Interval = Annotated[
    str | None,
    choice(
        "Whose draw the intervals cover; default: models, too, up to a million attempts.",
        INTERVALS,
        check_interval,
    ),
]
MinChange = Annotated[
    float | None,
    at_least_0(
        "Only samples whose attacked model changed by this, or more, of a real change of class.", "min_change"
    ),
]
MinConfidence = Annotated[
    float | None,
    at_least_0(
        "Only samples that the attacked model gives the target with this probability or more.",
        "min_confidence",
    ),
]


@dataclass(frozen=True, slots=True)
class MeasuringOptions:
    """What a bug is measured by, whose draw its intervals cover, and which samples are clear enough."""

    measure: Measure = JS_DELTA
    interval: Interval = None
    min_change: MinChange = None
    min_confidence: MinConfidence = None

    @property
    def measuring(self) -> Measuring:
        """The record that queries take."""
        return Measuring(self.measure, self.interval)

    def narrow(self, selection: "Selection") -> "Selection":
        """Return a selection of the samples that are clear enough."""
        return replace(selection, min_change=self.min_change, min_confidence=self.min_confidence)


MeasuringBy = Annotated[MeasuringOptions, Group(MeasuringOptions)]
# A question under all measures at once.
MeasuringByAll = Annotated[MeasuringOptions, Group(MeasuringOptions, without=("measure",))]


class Format(StrEnum):
    """How rows are written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    JSONL = "jsonl"
    MARKDOWN = "markdown"


Form = Annotated[Format, typer.Option("--format", help="Output format.")]
OutputFile = Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write to a file.")]
Header = Annotated[bool, typer.Option("--header/--no-header", help="Column names above the rows.")]


@dataclass(frozen=True, slots=True)
class Output:
    """How rows are printed, and where: stdout if there is no path."""

    form: Form = Format.TABLE
    path: OutputFile = None
    header: Header = True

    @property
    def is_for_people(self) -> bool:
        """Whether cells are short and marks explained."""
        return self.form in (Format.TABLE, Format.MARKDOWN)


Printing = Annotated[Output, Group(Output)]
PrintingFormat = Annotated[Output, Group(Output, without=("path", "header"))]
