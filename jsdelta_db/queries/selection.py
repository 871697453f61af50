"""Selection: the finished evaluations of a query, and the facts that it groups by."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.config.checks import NORMS
from jsdelta_db.config.eps import format_eps
from jsdelta_db.config.evaluation import TEMPERATURES
from jsdelta_db.config.measures import check_share
from jsdelta_db.errors import UnknownNameError
from jsdelta_db.queries.facts.conditions import Condition, apply_conditions, as_condition, explain
from jsdelta_db.queries.facts.keys import FACTS
from jsdelta_db.queries.facts.rows import (
    Facts,
    find_known,
    read_classes,
    read_image_keys,
    read_rows,
    tell_apart,
)
from jsdelta_db.queries.facts.values import is_equal
from jsdelta_db.records import FILE_SPLIT
from jsdelta_db.store.constants import FINISHED
from jsdelta_db.store.image_keys import INDEX_BITS, SPLITS, Keys, split_keys
from jsdelta_db.store.naming import ANY_PREFIX, get_match
from jsdelta_db.store.reading import Reader, fetch, fetch_many

DEFAULT_KEYS = ("dataset", "attacked_ensemble", "attacked", "judged_by", "norm", "eps")
# Facts in which attacks of equal default keys may differ; a column wherever they do.
CONFIGURATION_KEYS = (
    "method", "trained_on", "arch", "targets", "steps", "relative_step_size", "random_start", "restarts",
    "objective", "stop", "attack_seed", "images", "split", "device", "dtype", "library",
    "temperature", "baseline", "attack_by", "accept_eps",
)  # fmt: skip
FACT_KEYS = (*DEFAULT_KEYS, *CONFIGURATION_KEYS, "prepared_as", "evaluators", "attack")
ATTACKED_CORRECT, ALL_CORRECT = POPULATIONS = ("attacked-correct", "all-correct")
SET_BITS = INDEX_BITS + 2  # of an image's number, beneath the data set's
# The options that stand for a condition on one fact, by its key.
SHORTHANDS = {
    "norm": "norm", "temperature": "temperature", "dataset": "dataset", "method": "method",
    "objective": "objective", "library": "library", "ensemble": "judged_by",
}  # fmt: skip

Names: TypeAlias = str | tuple[str, ...] | None
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Selection:
    """A filter of evaluations and of their attempts: any of several names, and all conditions, must hold.

    Attributes:
        ensemble: name or uid prefix of the ensemble whose members are the evaluators.
        dataset, method, norm, objective, library, temperature: names.
        eps: stored floats.
        uids: evaluations or attacks, by uid prefix.
        population: ``attacked-correct``, or ``all-correct`` for images that every evaluator has right.
        min_change: smallest change of the attacked model's own output, in units of a real change of class.
        min_confidence: smallest probability that the attacked model gives the target on the sample.
        where: conditions on facts, such as ``sam_rho>=0.05``.

    Raises:
        UnknownNameError: an unknown norm, temperature or population, or a condition on no fact.
        UsageError: a condition that is none, or a negative change or confidence.
    """

    ensemble: Names = ()
    dataset: Names = ()
    method: Names = ()
    eps: tuple[float, ...] = ()
    uids: tuple[str, ...] = ()
    norm: Names = ()
    objective: Names = ()
    library: Names = ()
    temperature: Names = ()
    population: str = ATTACKED_CORRECT
    where: str | tuple[Condition | str, ...] = ()
    min_change: float | None = None
    min_confidence: float | None = None

    def __post_init__(self) -> None:
        for name in SHORTHANDS:
            given = getattr(self, name)
            object.__setattr__(self, name, (given,) if isinstance(given, str) else tuple(given or ()))
        for name, valid in (("norm", NORMS), ("temperature", TEMPERATURES), ("population", POPULATIONS)):
            for value in (self.population,) if name == "population" else getattr(self, name):
                if value not in valid:
                    raise UnknownNameError(name, value, valid)
        for name in ("min_change", "min_confidence"):
            least = getattr(self, name)
            if least is not None:
                check_share(name, least)
        object.__setattr__(self, "where", self._read_where())

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """All conditions on facts, those of the named options first."""
        return (*self._list_shorthands(), *self._read_where())

    @property
    def named_facts(self) -> frozenset[str]:
        """The facts that conditions name."""
        return frozenset(condition.key for condition in self.conditions)

    def _read_where(self) -> tuple[Condition, ...]:
        return tuple(map(as_condition, (self.where,) if isinstance(self.where, str) else self.where))

    def _list_shorthands(self) -> Iterator[Condition]:
        for name, key in SHORTHANDS.items():
            if values := getattr(self, name):
                yield Condition(key, "=", values, f"--{name}")


class ModelInfo(NamedTuple):
    """A model as a unit of chance: models of one recipe differ by their seeds.

    Attributes:
        sha256: of the weights; the same weights are one unit, however often they are stored.
        recipe: what was trained, seed and name left out, as canonical JSON.
        name: for people; None of a model that was trained here.
    """

    id: int
    uid: str
    sha256: str
    recipe: str
    method: str
    seed: int
    name: str | None

    @property
    def title(self) -> str:
        """Its name, or its seed."""
        return str(self.seed) if self.name is None else self.name

    @property
    def label(self) -> str:
        """What tables call an evaluator."""
        return f"{self.seed}@{self.uid[:6]}" if self.name is None else self.name


class EvaluationInfo(NamedTuple):
    """A finished evaluation with the facts that queries group by.

    A tuple, since a query makes thousands.

    Attributes:
        attacked: the attacked model.
        evaluators: those who judge, in the order in which their values are packed.
        image_set: attacks that share it attack the same images, told apart by ``sample_index``.
        image_keys: of images that came in a file, by ``sample_index``; None where they are not stored.
        sharpness: of the attacked model; None if it was not measured.
        facts: by name, ``FACT_KEYS`` among them.
    """

    id: int
    uid: str
    attack_id: int
    attack_uid: str
    attacked: ModelInfo
    evaluators: tuple[ModelInfo, ...]
    image_set: tuple[int, str, int]
    image_keys: Keys | None
    classes: tuple[str, ...]
    n_skipped: int
    n_attempts: int
    sharpness: float | None
    facts: Mapping[str, Any]

    @property
    def n_evaluators(self) -> int:
        """The number of evaluators."""
        return len(self.evaluators)

    def number_images(self, sample_index: NDArray[np.integer]) -> Keys:
        """Return numbers of images, equal for the same image in all evaluations of a store."""
        dataset_id, split, own = self.image_set
        if split != FILE_SPLIT:
            return split_keys(split, sample_index) + (dataset_id << SET_BITS)
        if self.image_keys is None:
            return sample_index.astype(np.int64) + (len(SPLITS) << INDEX_BITS) + (own << SET_BITS)
        keys = self.image_keys[sample_index]
        return np.asarray(np.where(keys < 0, keys, keys + (dataset_id << SET_BITS)))


EVALUATORS = "SELECT evaluation_id, model_id FROM evaluation_member ORDER BY evaluation_id, position"


def list_evaluations(reader: Reader, selection: Selection = Selection()) -> list[EvaluationInfo]:
    """Return the finished evaluations of a selection, oldest first.

    Raises:
        UnknownNameError: a name or uid that the store does not have.
        UsageError: a uid prefix of several, or a value of another kind than its key's.
    """
    found, _, models = select_rows(reader, selection)
    tell_apart(found)
    classes = read_classes(reader)
    keys = read_image_keys(reader, {row["attack_id"] for row in found if row["split"] == FILE_SPLIT})
    return [
        _info(row, models[row["attacked_id"]], classes[row["dataset_id"]], keys.get(row["attack_id"]))
        for row in found
    ]


def explain_nothing(reader: Reader, selection: Selection) -> str:
    """Return which condition of a selection left no evaluation; "" if there are some, or none was given."""
    return select_rows(reader, selection)[1]


def count_unfinished(reader: Reader) -> int:
    """Return how many evaluations are not finished, and left out of queries."""
    ((count,),) = fetch(reader, "SELECT count(*) FROM evaluation WHERE status <> :status", status=FINISHED)
    return int(count)


def select_rows(
    reader: Reader, selection: Selection, *, with_unfinished: bool = False
) -> tuple[list[Facts], str, Mapping[int, ModelInfo]]:
    """Return the rows of a selection; where there are none, the reason; and the models of the store by id."""
    models = _models(reader)
    evaluators = _evaluators(reader, models)
    rows = read_rows(reader, with_unfinished=with_unfinished)
    for row in rows:
        row["attacked_recipe"] = models[row["attacked_id"]].recipe
        _add_judges(row, evaluators.get(row["id"], ()))
    conditions = selection.conditions
    found, reason = apply_conditions(rows, conditions, FACTS, find_known(reader, conditions))
    if selection.eps and found:
        before = found
        found = [row for row in before if any(is_equal(row["eps"], eps) for eps in selection.eps)]
        if not found:
            wanted = Condition("eps", "=", tuple(format_eps(eps) for eps in selection.eps), "--eps")
            reason = explain(wanted, FACTS["eps"], before)
    if selection.uids:
        named = {_resolve_uid(prefix, found) for prefix in selection.uids}
        found = [row for row in found if named & {row["uid"], row["attack_uid"]}]
    return found, reason, models


def _add_judges(row: Facts, judges: tuple[ModelInfo, ...]) -> None:
    """Add who judges."""
    row["judges"], row["n_evaluators"] = judges, len(judges)
    row["evaluators"] = " ".join(each.label for each in judges)
    row["judged_method"] = ", ".join(sorted({each.method for each in judges})) or None


def _resolve_uid(prefix: str, rows: Sequence[Row]) -> str:
    """Return the uid of the one attack or evaluation that a prefix names.

    Raises:
        UnknownNameError: none.
        UsageError: several.
    """
    uids = sorted({str(row[key]) for row in rows for key in ("uid", "attack_uid") if row[key]})
    known = dict.fromkeys(row["attack_uid"] for row in rows)
    return get_match("attack", prefix, ((None, uid, uid) for uid in uids), known, shortest=ANY_PREFIX)


def _models(reader: Reader) -> dict[int, ModelInfo]:
    """Return the models of the store by id; those without weights are in no evaluation."""
    sql = "SELECT id, uid, checkpoint_sha256, recipe, method, seed, name FROM model"
    return {
        model_id: ModelInfo(model_id, uid, sha256, _as_key(recipe), method, seed, name)
        for model_id, uid, sha256, recipe, method, seed, name in fetch(reader, sql)
    }


def _as_key(recipe: object) -> str:
    """Return a recipe (text from SQLite, a dict from PostgreSQL) as text that is equal for equal recipes."""
    return json.dumps(json.loads(recipe) if isinstance(recipe, str) else recipe, sort_keys=True)


def _evaluators(reader: Reader, models: Mapping[int, ModelInfo]) -> dict[int, tuple[ModelInfo, ...]]:
    """Return each evaluation's evaluators, in their order."""
    members: dict[int, list[ModelInfo]] = {}
    for evaluation_id, model_id in fetch_many(reader, EVALUATORS):
        members.setdefault(evaluation_id, []).append(models[model_id])
    return {evaluation_id: tuple(found) for evaluation_id, found in members.items()}


def _info(
    row: Facts, attacked: ModelInfo, classes: tuple[str, ...], image_keys: Keys | None
) -> EvaluationInfo:
    own_images = row["attack_id"] if row["split"] == FILE_SPLIT else 0
    return EvaluationInfo(
        id=row["id"], uid=row["uid"], attack_id=row["attack_id"], attack_uid=row["attack_uid"],
        attacked=attacked, evaluators=row["judges"], image_set=(row["dataset_id"], row["split"], own_images),
        image_keys=image_keys, classes=classes, n_skipped=row["n_skipped"], n_attempts=row["n_attempts"],
        sharpness=row["sharpness"], facts=row,
    )  # fmt: skip
