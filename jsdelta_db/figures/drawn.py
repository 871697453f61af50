"""Drawn figures, with the rows that they show."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from jsdelta_db.errors import NothingToDoError
from jsdelta_db.plots.panels import Sheet
from jsdelta_db.plots.style import parse_width
from jsdelta_db.queries.captions import describe
from jsdelta_db.queries.distributions import RADIUS
from jsdelta_db.queries.grouping import Table
from jsdelta_db.queries.selection import Selection, list_evaluations
from jsdelta_db.store.reading import Reader

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class Setting:
    """How a figure is set.

    Attributes:
        title: in place of the figure's own; "" for none.
        width: on paper: ``column``, ``page``, or centimetres.

    Raises:
        UsageError: a width that is none.
    """

    title: str | None = None
    width: str = "column"

    def __post_init__(self) -> None:
        parse_width(self.width)

    def sheet(self, title: str, facts: Sequence[str]) -> Sheet:
        """Return what stands beside the data."""
        return Sheet(parse_width(self.width), title if self.title is None else self.title, facts)


T = TypeVar("T", bound=Table, covariant=True)


@dataclass(frozen=True, slots=True)
class Drawn(Generic[T]):
    """A figure, and the rows whose numbers it shows."""

    figure: "Figure"
    table: T


def add_radius(by: Sequence[str], *first: str) -> list[str]:
    """Return what a figure's rows are divided by: what was asked for, and ε, which makes columns."""
    keys = [*first, *by]
    return [*keys, *(key for key in RADIUS if key not in keys)]


def describe_table(reader: Reader, selection: Selection, table: Table) -> list[str]:
    """Return a figure's subtitle.

    Raises:
        NothingToDoError: there are no rows to draw.
    """
    if not table.rows:
        raise NothingToDoError(
            "no finished attack matches, so there is nothing to draw; run jsdelta attack --eps 3"
        )
    return describe(list_evaluations(reader, selection))
