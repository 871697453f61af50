"""Plots of a notebook: the figures of ``jsdelta plot``, as matplotlib's."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from jsdelta_db.config.evaluation import DEFAULT_BETA, DEFAULT_BETAS
from jsdelta_db.notebook.asking import Some, as_betas, as_list, as_selection
from jsdelta_db.notebook.place import Place

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Plots:
    """Figures of a workspace; each takes the selection by name, as the questions do.

    ``title`` replaces a figure's own, and ``width`` is ``column``, ``page`` or centimetres.
    """

    def __init__(self, place: Place) -> None:
        self._place = place

    def histogram(
        self,
        by: Some = (),
        where: Some = (),
        *,
        beta: float | Sequence[float] = DEFAULT_BETAS,
        bins: int = 40,
        title: str | None = None,
        width: str = "column",
        **selection: Any,  # noqa: ANN401 Selection's fields
    ) -> "Figure":
        """Draw the JSΔ of successful samples: a column for each ε, a row for each group."""
        from jsdelta_db.figures import curves

        given = (as_list("by", by), as_betas(beta), bins)
        return self._draw(curves.histogram, where, selection, given, title, width)

    def ecdf(
        self,
        by: Some = (),
        where: Some = (),
        *,
        title: str | None = None,
        width: str = "column",
        **selection: Any,  # noqa: ANN401 as above
    ) -> "Figure":
        """Draw the share of successful samples below each JSΔ, with its interval."""
        from jsdelta_db.figures import curves

        return self._draw(curves.ecdf, where, selection, (as_list("by", by),), title, width)

    def curve(
        self,
        by: Some = (),
        where: Some = (),
        *,
        beta: float | Sequence[float] = DEFAULT_BETAS,
        title: str | None = None,
        width: str = "column",
        **selection: Any,  # noqa: ANN401 as above
    ) -> "Figure":
        """Draw the bug fraction against β, with its interval."""
        from jsdelta_db.figures import curves

        given = (as_list("by", by), as_betas(beta))
        return self._draw(curves.curve, where, selection, given, title, width)

    def sweep(
        self,
        over: str = "eps",
        by: Some = (),
        where: Some = (),
        *,
        beta: float = DEFAULT_BETA,
        quantity: str = "fraction",
        title: str | None = None,
        width: str = "column",
        **selection: Any,  # noqa: ANN401 as above
    ) -> "Figure":
        """Draw the bug fraction, or the rate, against ε or another number."""
        from jsdelta_db.figures import curves

        given = (over, as_list("by", by), beta, quantity)
        return self._draw(curves.sweep, where, selection, given, title, width)

    def pairs(
        self,
        beta: float = DEFAULT_BETA,
        by: Some = (),
        where: Some = (),
        *,
        title: str | None = None,
        width: str = "column",
        **selection: Any,  # noqa: ANN401 as above
    ) -> "Figure":
        """Draw the bug fraction of each label pair."""
        from jsdelta_db.figures import matrices

        return self._draw(matrices.pairs, where, selection, (as_list("by", by), beta), title, width)

    def agreement(
        self, ensemble: str | None = None, *, title: str | None = None, width: str = "column"
    ) -> "Figure":
        """Draw how often two members of an ensemble predict the same label."""
        from jsdelta_db.figures import matrices
        from jsdelta_db.figures.drawn import Setting

        with self._place.reading() as reader:
            return matrices.agreement(reader, ensemble, Setting(title, width)).figure

    def _draw(
        self,
        draw: Callable[..., Any],
        where: Some,
        selection: dict[str, Any],
        given: Sequence[Any],
        title: str | None,
        width: str,
    ) -> "Figure":
        from jsdelta_db.figures.drawn import Setting

        setting, chosen = Setting(title, width), as_selection(where, selection)
        with self._place.reading() as reader:
            figure: Figure = draw(reader, chosen, *given, setting=setting).figure
        return figure
