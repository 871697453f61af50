"""Data sets: builtin, added and constructed ones, each with its chain of parents."""

import json
from collections.abc import Iterable
from typing import Any

from jsdelta_db.store.naming import get_match
from jsdelta_db.store.reading import Reader, fetch

DATASET_KEYS = ("name", "uid", "kind", "construction", "parent", "model", "images", "status")
# Of one data set, in the order in which people read them.
FACT_KEYS = (
    *DATASET_KEYS, "ensemble", "member", "method", "note", "steps", "step_size", "eps", "seed", "of",
    "label_share", "device", "image_shape", "dtype", "n_classes", "n_train", "n_baseline", "n_attack",
    "n_broken", "mean", "std", "chunk_size", "root", "chain", "fingerprint", "file", "sha256",
)  # fmt: skip
LISTED = ("image_shape", "mean", "std")  # values of several numbers
DATASETS = """
SELECT dataset.uid, dataset.name, dataset.kind, dataset.construction, dataset.status, dataset.seed,
       dataset.uri, dataset.sha256, dataset.fingerprint, dataset.id, dataset.parent_id,
       dataset.classes
FROM dataset ORDER BY dataset.id
"""


def query_datasets(reader: Reader) -> list[dict[str, Any]]:
    """Return all data sets of the store, oldest first, each with ``FACT_KEYS``.

    ``construction`` is its kind, ``chain`` the names from the root to the data set; facts that do not apply
    are None.
    """
    found: dict[int, dict[str, Any]] = {}
    parents: dict[int, int | None] = {}
    for uid, name, kind, construction, status, seed, uri, sha256, fingerprint, key, parent, classes in fetch(
        reader, DATASETS
    ):
        facts = json.loads(construction) if isinstance(construction, str) else construction or {}
        row = {**dict.fromkeys(FACT_KEYS), **{each: facts[each] for each in FACT_KEYS if each in facts}}
        row |= {
            "name": name, "uid": uid, "kind": kind, "construction": facts.get("kind"), "status": status,
            "images": facts.get("n_images"), "seed": seed, "file": uri, "sha256": sha256,
            "fingerprint": fingerprint,
            "n_classes": len(json.loads(classes) if isinstance(classes, str) else classes),
            **{each: _join(facts[each]) for each in LISTED if each in facts},
        }  # fmt: skip
        found[key], parents[key] = row, parent
    for key, row in found.items():
        chain = [key]
        while (parent := parents[chain[-1]]) is not None:
            chain.append(parent)
        names = [str(found[each]["name"]) for each in reversed(chain)]
        row |= {"parent": names[-2] if len(names) > 1 else None, "root": names[0], "chain": " > ".join(names)}
    return list(found.values())


def _join(values: Iterable[float]) -> str:
    return " ".join(f"{value:.6g}" for value in values)


def get_dataset(reader: Reader, reference: str, builtin: Iterable[str] = ()) -> dict[str, Any]:
    """Return one data set by name or unique uid prefix; see :func:`query_datasets`.

    Args:
        builtin: names that exist even if the store has no row of theirs yet.

    Raises:
        UnknownNameError: no such data set.
        UsageError: several.
    """
    rows = query_datasets(reader)
    known = dict.fromkeys([*builtin, *(row["name"] for row in rows)])
    return get_match("dataset", reference, ((row["name"], row["uid"], row) for row in rows), known)
