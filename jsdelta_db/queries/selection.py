"""Selection: the finished evaluations of a query, and the facts that it groups by."""

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.config.attack import OBJECTIVES
from jsdelta_db.config.attack_by import as_facts
from jsdelta_db.config.checks import NORMS
from jsdelta_db.config.evaluation import TEMPERATURES
from jsdelta_db.config.measures import check_share
from jsdelta_db.errors import UnknownNameError
from jsdelta_db.records import FILE_SPLIT
from jsdelta_db.store.constants import FINISHED
from jsdelta_db.store.image_keys import INDEX_BITS, SPLITS, Keys, split_keys, unpack_keys
from jsdelta_db.store.naming import ANY_PREFIX, ambiguous, get_match, match_ensembles
from jsdelta_db.store.reading import Reader, fetch, fetch_many

DEFAULT_KEYS = ("dataset", "ensemble", "attacked", "norm", "eps")
# Facts in which attacks of equal default keys may differ; a column wherever they do.
CONFIGURATION_KEYS = (
    "method", "trained_on", "arch", "targets", "steps", "relative_step_size", "random_start", "restarts",
    "objective", "stop", "attack_seed", "images", "split", "device", "dtype", "library",
    "temperature", "baseline", "attack_by", "accept_eps",
)  # fmt: skip
FACT_KEYS = (*DEFAULT_KEYS, *CONFIGURATION_KEYS, "prepared_as", "evaluators", "attack")
ATTACKED_CORRECT, ALL_CORRECT = POPULATIONS = ("attacked-correct", "all-correct")
SET_BITS = INDEX_BITS + 2  # of an image's number, beneath the data set's
EPS_TOLERANCE = 1e-5  # relative: float rounding, and the digits that a table shows

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Selection:
    """A filter of evaluations and of their attempts; None leaves a fact open.

    Attributes:
        ensemble: name or uid prefix of the ensemble whose members are the evaluators.
        dataset, method, norm, objective, library, temperature: names.
        eps: stored floats.
        uids: evaluations or attacks, by uid prefix.
        population: ``attacked-correct``, or ``all-correct`` for images that every evaluator has right.
        min_change: smallest change of the attacked model's own output, in units of a real change of class.
        min_confidence: smallest probability that the attacked model gives the target on the sample.

    Raises:
        UnknownNameError: an unknown norm, temperature or population.
        UsageError: a negative change or confidence.
    """

    ensemble: str | None = None
    dataset: str | None = None
    method: str | None = None
    eps: tuple[float, ...] = ()
    uids: tuple[str, ...] = ()
    norm: str | None = None
    objective: str | None = None
    library: str | None = None
    temperature: str | None = None
    population: str = ATTACKED_CORRECT
    min_change: float | None = None
    min_confidence: float | None = None

    def __post_init__(self) -> None:
        for name, valid in (("norm", NORMS), ("temperature", TEMPERATURES), ("population", POPULATIONS)):
            value = getattr(self, name)
            if value is not None and value not in valid:
                raise UnknownNameError(name, value, valid)
        for name in ("min_change", "min_confidence"):
            least = getattr(self, name)
            if least is not None:
                check_share(name, least)


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


FACTS = {
    "id": "evaluation.id", "uid": "evaluation.uid", "attack_id": "attack.id", "attack_uid": "attack.uid",
    "dataset_id": "attack.dataset_id", "attacked_id": "model.id", "attacked_uid": "model.uid",
    "n_skipped": "attack.n_skipped", "n_attempts": "attack.n_attempts",
    "step_size": "attack.step_size", "ensemble_uid": "ensemble.uid", "model_name": "model.name",
    "sharpness": "model.sharpness", "dataset": "dataset.name", "ensemble": "ensemble.name",
    "attacked": "model.seed", "norm": "attack.norm", "eps": "attack.eps", "method": "model.method",
    "arch": "model.architecture", "targets": "attack.target_rule", "steps": "attack.steps",
    "random_start": "attack.random_start", "restarts": "attack.restarts", "objective": "attack.objective",
    "stop": "attack.stop", "attack_seed": "attack.seed", "images": "attack.images", "split": "attack.split",
    "device": "attack.requested_device", "dtype": "attack.dtype", "prepared_as": "attack.prepared_as",
    "library": "attack.library",
    "temperature": "evaluation.temperature_rule", "baseline": "evaluation.baseline_rule",
    "trained_on": "trained.name", "attacked_sha256": "attack.attacked_sha256", "used_device": "attack.device",
    "n_images": "attack.n_images", "attack_by": "attack.attack_by",
}  # fmt: skip
FINISHED_EVALUATIONS = f"""
SELECT {", ".join(FACTS.values())}
FROM evaluation
JOIN attack ON attack.id = evaluation.attack_id
JOIN model ON model.id = attack.attacked_model_id
JOIN dataset ON dataset.id = attack.dataset_id
JOIN dataset AS trained ON trained.id = model.dataset_id
LEFT JOIN ensemble ON ensemble.id = evaluation.ensemble_id
WHERE evaluation.status = '{FINISHED}'
ORDER BY evaluation.id
"""  # noqa: S608 a constant
SURROGATES = "SELECT attack_id, model_id FROM attack_surrogate ORDER BY attack_id, position"
EVALUATORS = "SELECT evaluation_id, model_id FROM evaluation_member ORDER BY evaluation_id, position"
# A query for the names of a fact, and names that are valid though no row has them yet.
NAMES: dict[str, tuple[str, tuple[str, ...]]] = {
    "dataset": ("SELECT DISTINCT name FROM dataset ORDER BY name", ()),
    "method": ("SELECT DISTINCT method FROM model ORDER BY method", ()),
    "objective": ("SELECT DISTINCT objective FROM attack ORDER BY objective", OBJECTIVES),
    "library": ("SELECT DISTINCT library FROM attack ORDER BY library", ()),
}


def list_evaluations(reader: Reader, selection: Selection = Selection()) -> list[EvaluationInfo]:
    """Return the finished evaluations of a selection, oldest first.

    Raises:
        UnknownNameError: a name or uid that the store does not have.
        UsageError: a uid prefix of several.
    """
    found = [dict(zip(FACTS, row, strict=True)) for row in fetch_many(reader, FINISHED_EVALUATIONS)]
    surrogates: dict[int, tuple[int, ...]] = {}
    for attack_id, model_id in fetch_many(reader, SURROGATES):
        surrogates[attack_id] = (*surrogates.get(attack_id, ()), model_id)
    _check_names(reader, selection)
    found = _select(found, selection)
    if selection.ensemble is not None:
        ensembles = _find_ensembles(reader, selection.ensemble)
        found = [row for row in found if row["ensemble_uid"] in ensembles]
    if selection.uids:
        named = {_resolve_uid(prefix, found) for prefix in selection.uids}
        found = [row for row in found if named & {row["uid"], row["attack_uid"]}]
    for row in found:
        row["attacked"] = row["attacked"] if row["model_name"] is None else row["model_name"]
    _tell_apart(found, "ensemble", "ensemble_uid", ())
    _tell_apart(found, "attacked", "attacked_uid", ("dataset", "ensemble", "method", "arch"))
    for row in found:
        row["surrogates"] = surrogates.get(row["attack_id"], ())
    models = _models(reader)
    evaluators = _evaluators(reader, models)
    classes = _classes(reader)
    keys = _image_keys(reader, {row["attack_id"] for row in found if row["split"] == FILE_SPLIT})
    return [
        _info(
            row,
            models[row["attacked_id"]],
            evaluators.get(row["id"], ()),
            classes[row["dataset_id"]],
            keys.get(row["attack_id"]),
        )
        for row in found
    ]


def count_unfinished(reader: Reader) -> int:
    """Return how many evaluations are not finished, and left out of queries."""
    ((count,),) = fetch(reader, "SELECT count(*) FROM evaluation WHERE status <> :status", status=FINISHED)
    return int(count)


def _select(rows: list[Row], selection: Selection) -> list[Row]:
    """Return the rows of the selected norm, temperature, names and ε."""
    for name in ("norm", "temperature", *NAMES):
        wanted = getattr(selection, name)
        if wanted is not None:
            rows = [row for row in rows if row[name] == wanted]
    if selection.eps:
        rows = [row for row in rows if _is_one_of(row["eps"], selection.eps)]
    return rows


def _is_one_of(found: float, wanted: Iterable[float]) -> bool:
    return any(math.isclose(found, eps, rel_tol=EPS_TOLERANCE) for eps in wanted)


def _find_ensembles(reader: Reader, reference: str) -> set[str]:
    """Return the uids of the ensembles of a name, which need not be unique, or of one uid prefix.

    Raises:
        UnknownNameError: there is none.
        UsageError: a prefix of several uids.
    """
    ensembles = fetch(reader, "SELECT name, uid FROM ensemble ORDER BY name")
    named = [(name, uid, (name, uid)) for name, uid in ensembles]
    found = match_ensembles(reference, named, shortest=ANY_PREFIX)
    if not found:
        raise UnknownNameError("ensemble", reference, dict.fromkeys(name for name, _ in ensembles))
    if len(found) > 1 and found[0][0] != reference:
        raise ambiguous("ensemble", reference, (uid for _, uid in found))
    return {uid for _, uid in found}


def _check_names(reader: Reader, selection: Selection) -> None:
    """Check that the store knows the selected names: an empty answer would read like "no bugs".

    Raises:
        UnknownNameError: lists the known names.
    """
    for what, (sql, valid) in NAMES.items():
        wanted = getattr(selection, what)
        if wanted is not None:
            known = dict.fromkeys((*valid, *(name for (name,) in fetch(reader, sql))))
            if wanted not in known:
                raise UnknownNameError(what, wanted, known)


def _resolve_uid(prefix: str, rows: Sequence[Row]) -> str:
    """Return the uid of the one attack or evaluation that a prefix names.

    Raises:
        UnknownNameError: none.
        UsageError: several.
    """
    uids: list[str] = sorted({row[key] for row in rows for key in ("uid", "attack_uid")})
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


def _tell_apart(rows: Iterable[Row], name: str, uid: str, within: tuple[str, ...]) -> None:
    """Add the start of the uid to names that several rows of different uids share."""
    uids: dict[Any, set[str]] = {}
    pick = itemgetter(name, *within)
    keys = [(row, pick(row)) for row in rows]
    for row, key in keys:
        uids.setdefault(key, set()).add(row[uid])
    for row, key in keys:
        if len(uids[key]) > 1:
            row[name] = f"{row[name]}@{row[uid][:8]}"


def _classes(reader: Reader) -> dict[int, tuple[str, ...]]:
    """Return the names of each data set's classes."""
    found = fetch(reader, "SELECT id, classes FROM dataset")
    # JSON: text from SQLite, a list from PostgreSQL.
    return {key: tuple(json.loads(names) if isinstance(names, str) else names) for key, names in found}


def _image_keys(reader: Reader, attacks: Collection[int]) -> dict[int, Keys]:
    """Return the image keys of some attacks on images that came in files."""
    if not attacks:
        return {}
    ids = ", ".join(map(str, sorted(attacks)))
    sql = f"SELECT id, image_keys FROM attack WHERE image_keys IS NOT NULL AND id IN ({ids})"  # noqa: S608
    return {attack_id: unpack_keys(packed) for attack_id, packed in fetch_many(reader, sql)}


def _info(
    row: Row,
    attacked: ModelInfo,
    evaluators: tuple[ModelInfo, ...],
    classes: tuple[str, ...],
    image_keys: Keys | None,
) -> EvaluationInfo:
    # Samples made elsewhere have no steps.
    relative = row["step_size"] * row["steps"] / row["eps"] if row["steps"] else None
    row["relative_step_size"] = None if relative is None else round(relative, 6)
    row["random_start"] = bool(row["random_start"])
    row["attack_by"], row["accept_eps"] = as_facts(row["attack_by"], row["attack_uid"])
    row["evaluators"], row["attack"] = " ".join(each.label for each in evaluators), row["attack_uid"]
    row["n_evaluators"] = len(evaluators)
    own_images = row["attack_id"] if row["split"] == FILE_SPLIT else 0
    return EvaluationInfo(
        id=row["id"], uid=row["uid"], attack_id=row["attack_id"], attack_uid=row["attack_uid"],
        attacked=attacked, evaluators=evaluators, image_set=(row["dataset_id"], row["split"], own_images),
        image_keys=image_keys, classes=classes, n_skipped=row["n_skipped"], n_attempts=row["n_attempts"],
        sharpness=row["sharpness"], facts=row,
    )  # fmt: skip
