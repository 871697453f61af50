"""Workspace: the verbs and the questions of one workspace, for a notebook."""

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from jsdelta_db.config.evaluation import DEFAULT_BETA, DEFAULT_BETAS
from jsdelta_db.config.measures import JS_DELTA, Measuring
from jsdelta_db.notebook import verbs
from jsdelta_db.notebook.asking import Some, as_betas, as_conditions, as_list, as_selection
from jsdelta_db.notebook.place import Place
from jsdelta_db.notebook.plots import Plots
from jsdelta_db.queries.arrow import as_arrow
from jsdelta_db.queries.distributions import DEFAULT_QUANTILES

if TYPE_CHECKING:
    import pyarrow as pa

    from jsdelta_db.queries.grouping import Table


class Workspace(Place):
    """A workspace: ``ws.train``, ``ws.attack`` and ``ws.score`` work, the other methods ask.

    Answers are Arrow tables with the numbers of the command of that name: ``.to_pandas()`` makes a DataFrame,
    and polars and DuckDB take them as they are. What a command says beside its table is a warning here.

    Every question takes the selection of the commands by name: ``where=["method=sam", "eps<=3"]``,
    ``dataset=``, ``method=``, ``eps=`` (as stored: ``3 / 255``), ``ensemble=``, ``attack=``, ….

    Example::

        ws = jsdelta_db.open_workspace(".")
        ws.bugs(beta=0.1, by=["method", "eps"]).to_pandas()
    """

    train = verbs.train
    attack = verbs.attack
    score = verbs.score

    def bugs(
        self,
        beta: float | Sequence[float] = DEFAULT_BETAS,
        by: Some = (),
        where: Some = (),
        *,
        limit: int = 0,
        measure: str = JS_DELTA,
        interval: str | None = None,
        **selection: Any,  # noqa: ANN401 Selection's fields
    ) -> "pa.Table":
        """Return the share of bugs among successful attacks, as ``jsdelta query bugs`` does.

        Args:
            beta: one threshold on the measure or several.
            by: facts to group by.
            limit: this many groups, those with the most bugs first; 0 for all, by name.
            measure, interval: what β is a threshold on, and whose draw intervals cover; see
                :class:`jsdelta_db.config.measures.Measuring`.
        """
        from jsdelta_db.queries.bugs import query_bugs

        chosen, measuring = as_selection(where, selection), Measuring(measure, interval)
        with self.reading() as reader:
            return _tell(query_bugs(reader, as_betas(beta), as_list("by", by), chosen, limit, measuring))

    def compare(
        self,
        by: Some = (),
        baseline: str | None = None,
        where: Some = (),
        *,
        a: Some = (),
        b: Some = (),
        beta: float | Sequence[float] = DEFAULT_BETA,
        quantity: str = "fraction",
        equivalence: float | None = None,
        allow: Some = (),
        first_falls: bool = False,
        measure: str = JS_DELTA,
        interval: str | None = None,
        **selection: Any,  # noqa: ANN401 as above
    ) -> "pa.Table":
        """Return two sides beside each other with their difference, as ``jsdelta query compare`` does.

        Args:
            by, baseline: the key whose values are compared (further ones divide the rows), and side B.
            a, b: in place of these, conditions on each side.
            quantity, equivalence, allow, first_falls: see
                :class:`jsdelta_db.queries.comparison.Request`.
        """
        from jsdelta_db.queries.comparison import Request, compare

        request = Request(
            by=tuple(as_list("by", by)), baseline=baseline, a=as_conditions(a), b=as_conditions(b),
            betas=tuple(as_betas(beta)), quantity=quantity, measuring=Measuring(measure, interval),
            equivalence=equivalence, allow=frozenset(as_list("allow", allow)), first_falls=first_falls,
        )  # fmt: skip
        with self.reading() as reader:
            return _tell(compare(reader, request, as_selection(where, selection)))

    def sensitivity(
        self,
        beta: float = DEFAULT_BETA,
        by: Some = (),
        where: Some = (),
        *,
        interval: str | None = None,
        **selection: Any,  # noqa: ANN401 as above
    ) -> "pa.Table":
        """Return the share of bugs under every measure side by side."""
        from jsdelta_db.queries.sensitivity import query_sensitivity

        chosen = as_selection(where, selection)
        with self.reading() as reader:
            return _tell(query_sensitivity(reader, beta, as_list("by", by), chosen, interval))

    def pairs(
        self,
        beta: float = DEFAULT_BETA,
        by: Some = (),
        where: Some = (),
        **selection: Any,  # noqa: ANN401 as above
    ) -> "pa.Table":
        """Return the share of bugs of each label pair."""
        from jsdelta_db.queries.pairs import query_pairs

        chosen = as_selection(where, selection)
        with self.reading() as reader:
            return _tell(query_pairs(reader, beta, as_list("by", by), chosen))

    def histogram(
        self,
        by: Some = (),
        where: Some = (),
        *,
        beta: float | Sequence[float] = DEFAULT_BETA,
        bins: int = 40,
        **selection: Any,  # noqa: ANN401 as above
    ) -> "pa.Table":
        """Return how many successes have a JSΔ in each bin; every β is an edge."""
        from jsdelta_db.queries.distributions import query_histogram

        chosen = as_selection(where, selection)
        with self.reading() as reader:
            return _tell(query_histogram(reader, bins, as_betas(beta), as_list("by", by), chosen))

    def quantiles(
        self,
        q: float | Sequence[float] = DEFAULT_QUANTILES,
        by: Some = (),
        where: Some = (),
        **selection: Any,  # noqa: ANN401 as above
    ) -> "pa.Table":
        """Return quantiles of the JSΔ of successes, with intervals."""
        from jsdelta_db.queries.distributions import query_quantiles

        chosen = as_selection(where, selection)
        with self.reading() as reader:
            return _tell(query_quantiles(reader, as_betas(q), as_list("by", by), chosen))

    def attacks(self, where: Some = (), **selection: Any) -> "pa.Table":  # noqa: ANN401 as above
        """Return the attacks, finished or not."""
        from jsdelta_db.queries.attacks import FACT_KEYS, query_attacks

        with self.reading() as reader:
            return as_arrow(query_attacks(reader, as_selection(where, selection)), FACT_KEYS)

    @property
    def plot(self) -> Plots:
        """The figures: ``ws.plot.histogram()`` and others, each a matplotlib figure."""
        return Plots(self)

    def samples(
        self,
        where: Some = (),
        *,
        bugs: float | None = None,
        failures: bool = False,
        source: str | None = None,
        target: str | None = None,
        sort: str = "js_delta",
        limit: int = 0,
        **selection: Any,  # noqa: ANN401 Selection's fields
    ) -> "pa.Table":
        """Return one row per attempt, as ``jsdelta query samples`` does; all of them unless limited.

        Args:
            bugs: only successes with JSΔ below this.
            failures: failed attempts, too.
            source, target: labels, by name or number.
            sort: a column, with ``-`` before it for the largest first.
        """
        from jsdelta_db.queries.samples import SAMPLE_KEYS, Wanted, query_samples

        wanted = Wanted(bugs, failures, source, target, sort, limit)
        with self.reading() as reader:
            rows, _ = query_samples(reader, wanted, as_selection(where, selection))
        return as_arrow(rows, SAMPLE_KEYS)

    def transfer(self, where: Some = (), **selection: Any) -> "pa.Table":  # noqa: ANN401 as above
        """Return how much of the attacked model's change the evaluators share."""
        from jsdelta_db.queries.transfer import query_transfer

        with self.reading() as reader:
            return _tell(query_transfer(reader, as_selection(where, selection)))

    def stability(
        self,
        beta: float | Sequence[float] = DEFAULT_BETAS[-1],
        where: Some = (),
        **selection: Any,  # noqa: ANN401 as above
    ) -> "pa.Table":
        """Return how firmly bugs and features hold under noise."""
        from jsdelta_db.queries.stability import query_stability

        with self.reading() as reader:
            return _tell(query_stability(reader, as_betas(beta), as_selection(where, selection)).table)

    def ensembles(self) -> "pa.Table":
        """Return the ensembles with their accuracies and agreement."""
        from jsdelta_db.queries.ensembles import query_ensembles

        return self._list(query_ensembles)

    def models(self) -> "pa.Table":
        """Return the models."""
        from jsdelta_db.queries.models import query_models

        return self._list(query_models)

    def datasets(self) -> "pa.Table":
        """Return the data sets."""
        from jsdelta_db.queries.datasets import query_datasets

        return self._list(query_datasets)

    def _list(self, query: Callable[[Any], list[dict[str, Any]]]) -> "pa.Table":
        with self.reading() as reader:
            return as_arrow(query(reader))


def _tell(table: "Table") -> "pa.Table":
    """Return a grouped answer as an Arrow table, and warn of what stands behind its rows."""
    for key, values in table.pooled.items():
        warnings.warn(f"pooled over {key}: {', '.join(map(str, values))}", UserWarning, stacklevel=3)
    return as_arrow(table.rows, table.keys)
