"""Relations: what belongs to a run and what it needs, read off the schema."""

from jsdelta_db.store.relations import children, links, needs, owners, parts, runs
from jsdelta_db.store.schema import Base


def test_every_column_named_like_a_runs_id_is_a_foreign_key():
    """Nothing but foreign keys is read: a column that only sounds like one would be missed."""
    missed = {
        (table.name, column.name)
        for table in Base.metadata.tables.values()
        for column in table.c
        if column.name.endswith("_id") and column.name != "mlflow_run_id"
        if column.name not in {link.column.name for link in links(table)}
    }
    assert missed == set()


def test_runs_come_behind_what_they_need():
    """Models precede the ensembles that they are members of, attacks the evaluations of them."""
    order = list(runs())
    late = [
        (need.needed.name, need.dependent.name)
        for need in needs()
        if order.index(need.needed.name) > order.index(need.dependent.name)
    ]
    assert late == []
    assert order == ["dataset", "model", "ensemble", "attack", "evaluation"]


def test_a_part_travels_with_the_run_that_its_key_begins_with():
    """A metric belongs to its model and its data set, and travels with the model; each part with one run."""
    assert [link.run.name for link in owners(parts()["model_metric"])] == ["model", "dataset"]
    travelling = [part.name for run in runs().values() for part in children(run)]
    assert sorted(travelling) == sorted(parts())
    assert "model_metric" in {part.name for part in children(runs()["model"])}
