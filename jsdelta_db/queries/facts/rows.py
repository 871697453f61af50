"""Rows of facts: one for each finished evaluation, with all that is recorded of it, by key."""

import json
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from operator import itemgetter
from typing import Any

from jsdelta_db.config.attack import OBJECTIVES
from jsdelta_db.config.attack_by import as_facts
from jsdelta_db.config.checks import NORMS
from jsdelta_db.config.evaluation import TEMPERATURES
from jsdelta_db.queries.facts.conditions import Condition, Known
from jsdelta_db.queries.facts.keys import HYPERPARAMETERS
from jsdelta_db.queries.facts.names import AT, OF_ENSEMBLES
from jsdelta_db.store.constants import CONSTRUCTED, FINISHED
from jsdelta_db.store.image_keys import Keys, unpack_keys
from jsdelta_db.store.reading import Reader, fetch, fetch_many

COLUMNS = {
    "id": "evaluation.id", "uid": "evaluation.uid", "attack_id": "attack.id", "attack_uid": "attack.uid",
    "dataset_id": "attack.dataset_id", "attacked_id": "model.id", "attacked_uid": "model.uid",
    "n_skipped": "attack.n_skipped", "n_attempts": "attack.n_attempts",
    "step_size": "attack.step_size", "judged_by_id": "ensemble.id", "judged_by_uid": "ensemble.uid",
    "model_name": "model.name", "sharpness": "model.sharpness", "dataset": "dataset.name",
    "judged_by": "ensemble.name", "model_seed": "model.seed", "norm": "attack.norm", "eps": "attack.eps",
    "method": "model.method", "arch": "model.architecture", "recipe": "model.recipe_name",
    "targets": "attack.target_rule", "steps": "attack.steps",
    "random_start": "attack.random_start", "restarts": "attack.restarts", "objective": "attack.objective",
    "stop": "attack.stop", "attack_seed": "attack.seed", "images": "attack.images", "split": "attack.split",
    "device": "attack.requested_device", "dtype": "attack.dtype", "prepared_as": "attack.prepared_as",
    "library": "attack.library", "library_version": "attack.library_version",
    "temperature": "evaluation.temperature_rule", "baseline": "evaluation.baseline_rule",
    "trained_on": "trained.name", "trained_kind": "trained.kind",
    "attacked_sha256": "attack.attacked_sha256", "used_device": "attack.device",
    "n_images": "attack.n_images", "attack_by": "attack.attack_by",
}  # fmt: skip
OF_FINISHED = f"""
FROM evaluation JOIN attack ON attack.id = evaluation.attack_id AND evaluation.status = '{FINISHED}'
"""
OF_ALL = "FROM attack LEFT JOIN evaluation ON evaluation.attack_id = attack.id"
FACTS_OF = f"""
SELECT {", ".join(COLUMNS.values())}
{{evaluations}}
JOIN model ON model.id = attack.attacked_model_id
JOIN dataset ON dataset.id = attack.dataset_id
JOIN dataset AS trained ON trained.id = model.dataset_id
LEFT JOIN ensemble ON ensemble.id = evaluation.ensemble_id
ORDER BY evaluation.id
"""
SURROGATES = "SELECT attack_id, model_id FROM attack_surrogate ORDER BY attack_id, position"
MEMBERSHIPS = """
SELECT ensemble_member.model_id, ensemble.id, ensemble.name, ensemble.uid
FROM ensemble_member JOIN ensemble ON ensemble.id = ensemble_member.ensemble_id
ORDER BY ensemble.id
"""
ENSEMBLES = "SELECT name, uid FROM ensemble ORDER BY name"
# A query for the names of a fact, and names that are valid though no row has them yet.
NAMES: dict[str, tuple[str, tuple[str, ...]]] = {
    "dataset": ("SELECT DISTINCT name FROM dataset ORDER BY name", ()),
    "trained_on": ("SELECT DISTINCT name FROM dataset ORDER BY name", ()),
    "method": ("SELECT DISTINCT method FROM model ORDER BY method", ()),
    "objective": ("SELECT DISTINCT objective FROM attack ORDER BY objective", OBJECTIVES),
    "library": ("SELECT DISTINCT library FROM attack ORDER BY library", ()),
    "norm": ("", NORMS),
    "train_norm": ("", NORMS),
    "temperature": ("", TEMPERATURES),
}


class Facts(dict[str, Any]):
    """Facts of an evaluation; hyperparameters are read from the recipe where they are asked for."""

    __slots__ = ()

    def __missing__(self, key: str) -> Any:  # noqa: ANN401 what a recipe holds
        """Return a hyperparameter of the attacked model; None where its recipe has none of that name."""
        name, _ = HYPERPARAMETERS[key]
        value = self[key] = _read_recipe(self["attacked_recipe"]).get(name)
        return value


def read_rows(reader: Reader, *, with_unfinished: bool = False) -> list[Facts]:
    """Return the facts of all finished evaluations, oldest first, but for those of their models' own rows.

    Args:
        with_unfinished: of all others, too, and of attacks without one, whose ``id`` is None.
    """
    surrogates: dict[int, tuple[int, ...]] = {}
    for attack_id, model_id in fetch_many(reader, SURROGATES):
        surrogates[attack_id] = (*surrogates.get(attack_id, ()), model_id)
    ensembles: dict[int, dict[int, tuple[str, str]]] = {}
    for model_id, ensemble_id, name, uid in fetch_many(reader, MEMBERSHIPS):
        ensembles.setdefault(model_id, {})[ensemble_id] = name, uid
    rows = []
    sql = FACTS_OF.format(evaluations=OF_ALL if with_unfinished else OF_FINISHED)
    for values in fetch_many(reader, sql):
        row = Facts(zip(COLUMNS, values, strict=True))
        _complete(row, ensembles.get(row["attacked_id"], {}))
        row["surrogates"] = surrogates.get(row["attack_id"], ())
        rows.append(row)
    return rows


def _complete(row: Facts, ensembles: Mapping[int, tuple[str, str]]) -> None:
    """Add the facts that follow from others.

    Args:
        ensembles: of the attacked model, oldest first. Where the judging one is among them, it is meant.
    """
    row["attacked_ensemble"], row["attacked_ensemble_uid"] = ensembles.get(
        row["judged_by_id"], next(iter(ensembles.values()), (None, None))
    )
    row["attacked"] = row["model_seed"] if row["model_name"] is None else row["model_name"]
    # Samples made elsewhere have no steps.
    relative = row["step_size"] * row["steps"] / row["eps"] if row["steps"] else None
    row["relative_step_size"] = None if relative is None else round(relative, 6)
    row["random_start"] = bool(row["random_start"])
    row["attack_by"], row["accept_eps"] = as_facts(row["attack_by"], row["attack_uid"])
    row["attack"], row["evaluation"] = row["attack_uid"], row["uid"]
    row["is_constructed"] = row["trained_kind"] == CONSTRUCTED


def tell_apart(rows: Iterable[Facts]) -> None:
    """Add the start of the uid to names that several ensembles or attacked models share."""
    for key in OF_ENSEMBLES:
        _tell_apart(rows, key, f"{key}_uid", ())
    _tell_apart(rows, "attacked", "attacked_uid", ("dataset", "judged_by", "method", "arch"))


def _tell_apart(rows: Iterable[Facts], name: str, uid: str, within: tuple[str, ...]) -> None:
    uids: dict[Any, set[str]] = {}
    pick = itemgetter(name, *within)
    keys = [(row, pick(row)) for row in rows]
    for row, key in keys:
        uids.setdefault(key, set()).add(row[uid])
    for row, key in keys:
        if len(uids[key]) > 1 and row[uid]:
            row[name] = f"{row[name]}{AT}{row[uid][:8]}"


def find_known(reader: Reader, conditions: Iterable[Condition]) -> Known:
    """Return what conditions may name though no evaluation has it."""
    keys = {condition.key for condition in conditions}
    names = {
        key: dict.fromkeys((*valid, *(name for (name,) in (fetch(reader, sql) if sql else ()))))
        for key, (sql, valid) in NAMES.items()
        if key in keys
    }
    labels = {key: [(name, uid) for name, uid in fetch(reader, ENSEMBLES)] for key in keys & {*OF_ENSEMBLES}}
    return Known(names, labels)


def read_classes(reader: Reader) -> dict[int, tuple[str, ...]]:
    """Return the names of each data set's classes."""
    found = fetch(reader, "SELECT id, classes FROM dataset")
    # JSON: text from SQLite, a list from PostgreSQL.
    return {key: tuple(json.loads(names) if isinstance(names, str) else names) for key, names in found}


def read_image_keys(reader: Reader, attacks: Collection[int]) -> dict[int, Keys]:
    """Return the image keys of some attacks on images that came in files."""
    if not attacks:
        return {}
    ids = ", ".join(map(str, sorted(attacks)))
    sql = f"SELECT id, image_keys FROM attack WHERE image_keys IS NOT NULL AND id IN ({ids})"  # noqa: S608
    return {attack_id: unpack_keys(packed) for attack_id, packed in fetch_many(reader, sql)}


@lru_cache(maxsize=1024)
def _read_recipe(recipe: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(recipe)
    return found
