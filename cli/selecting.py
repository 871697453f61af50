"""Selecting options: what a question is about, and what its bugs are measured by."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from jsdelta_db.config.measures import (
    INTERVALS,
    JS_DELTA,
    MEASURES,
    Measuring,
    check_interval,
    check_measure,
)

from .groups import Group
from .options import at_least_0, choice

if TYPE_CHECKING:
    from jsdelta_db.queries.selection import Selection

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
