"""Agreement: the share of clean images on which two models of an ensemble predict the same label."""

from itertools import product

from jsdelta_db.errors import UnknownNameError
from jsdelta_db.queries.ensembles import AGREEMENTS, ENSEMBLES, find_agreement
from jsdelta_db.queries.selection import Row
from jsdelta_db.store.naming import match_ensembles
from jsdelta_db.store.reading import Reader, fetch

AGREEMENT_KEYS = ("ensemble", "model", "other", "agreement")
MEMBERS = """
SELECT model.id, model.uid, model.name, model.seed
FROM ensemble_member JOIN model ON model.id = ensemble_member.model_id
WHERE ensemble_member.ensemble_id = :ensemble_id
ORDER BY ensemble_member.position
"""


def query_agreement(reader: Reader, ensemble: str | None = None) -> list[Row]:
    """Return a row for each two members of finished ensembles, both ways round and each with itself.

    Ensembles without a stored agreement are left out, and so are pairs.

    Args:
        ensemble: name or uid prefix of those to show; None for all.

    Raises:
        UnknownNameError: there is none.
    """
    found = [(name, uid, (key, name, uid)) for key, name, uid, _ in fetch(reader, ENSEMBLES)]
    chosen = [row for _, _, row in found] if ensemble is None else match_ensembles(ensemble, found)
    if ensemble is not None and not chosen:
        raise UnknownNameError("ensemble", ensemble, dict.fromkeys(name for name, _, _ in found))
    names = [name for name, _, _ in found]
    stored = {(model_id, name): value for model_id, name, value in fetch(reader, AGREEMENTS)}
    rows: list[Row] = []
    for key, name, uid in chosen:
        title = name if names.count(name) == 1 else f"{name}@{uid[:8]}"
        rows += _pair_members(reader, key, title, stored)
    return rows


def _pair_members(
    reader: Reader, ensemble_id: int, title: str, stored: dict[tuple[int, str], float]
) -> list[Row]:
    """Return the rows of one ensemble."""
    members = fetch(reader, MEMBERS, ensemble_id=ensemble_id)
    named = [str(seed) if name is None else name for _, _, name, seed in members]
    labels = [
        label if named.count(label) == 1 else f"{label}@{uid[:6]}"
        for label, (_, uid, _, _) in zip(named, members, strict=True)
    ]
    rows: list[Row] = []
    for (label, one), (other_label, other) in product(zip(labels, members, strict=True), repeat=2):
        is_same = one[0] == other[0]
        agreement = 1.0 if is_same else find_agreement((one[0], one[1]), (other[0], other[1]), stored)
        if agreement is not None:
            values = (title, label, other_label, agreement)
            rows.append(dict(zip(AGREEMENT_KEYS, values, strict=True)))
    return rows if len(rows) > len(members) else []
