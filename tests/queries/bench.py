"""A store to ask: evaluations written by hand."""

from jsdelta_db.config.measures import Measuring
from jsdelta_db.queries.bugs import query_bugs
from jsdelta_db.queries.selection import Selection
from jsdelta_db.store.session import Store
from tests.stores import (
    HandRow,
    add_attack,
    add_dataset,
    add_ensemble,
    add_evaluation,
    add_model,
    add_samples,
    add_scores,
)

ROWS: list[HandRow] = [  # image, y, t, success, JSΔ
    (1, 0, 1, 1, 0.0),
    (2, 0, 1, 1, 0.01),
    (3, 1, 0, 1, 0.05),
    (4, 1, 2, 0, 0.001),  # failed: never a bug
    (5, 2, 3, 1, None),  # no baseline: in none of the counts but its own
    (6, 2, 0, 1, 1.7),
]


class Bench:
    """Makes rows in a store: one data set, three models, and an ensemble of them."""

    def __init__(self, store: Store, **names) -> None:
        self.store = store
        with store.transaction() as session:
            self.dataset = add_dataset(session, name=names.get("dataset", "toy"))
            self.models = [
                add_model(session, self.dataset, seed, method=names.get("method", "standard"))
                for seed in range(3)
            ]
            self.ensemble = add_ensemble(
                session, self.dataset, self.models, name=names.get("ensemble", "toy")
            )

    def add_model(self, name: str, **facts) -> int:
        """Add a model that was trained elsewhere; return its place."""
        with self.store.transaction() as session:
            self.models.append(add_model(session, self.dataset, 0, name=name, **facts))
        return len(self.models) - 1

    def attack(self, rows: list[HandRow], attacked: int = 0, **facts):
        """Attack a member; its samples are the rows."""
        with self.store.transaction() as session:
            attack = add_attack(
                session, self.models[attacked], **{**facts, "steps": facts.get("steps") or 100}
            )
            attack.steps = facts.get("steps", 100)  # 0 for samples from elsewhere
            add_samples(session, attack, rows)
        return attack

    def evaluate(self, attack, rows: list[HandRow], evaluators=(1, 2), **facts):
        """Judge an attack by some members."""
        with self.store.transaction() as session:
            judges = [self.models[seed] for seed in evaluators]
            evaluation = add_evaluation(session, attack, judges, **{"ensemble": self.ensemble, **facts})
            add_scores(session, evaluation, rows)
        return evaluation

    def judge(self, rows: list[HandRow], attacked: int = 0, **facts):
        """Attack a member and let the others judge."""
        others = [seed for seed in range(3) if seed != attacked]
        return self.evaluate(self.attack(rows, attacked, **facts), rows, others)


def ask(store: Store, betas=(0.1,), by=(), selection: Selection = Selection(), interval: str = "images"):  # noqa: B008 frozen
    """Return the table of ``query bugs``."""
    with store.reading() as connection:
        return query_bugs(connection, betas, by, selection, measuring=Measuring(interval=interval))
