"""Revisions of exports: what later schemas added, filled in when an older export is read.

The values are those that the migrations give to rows of that time.
"""

from typing import Any

from jsdelta_db.errors import StoreNotReadyError
from jsdelta_db.store.constants import HEAD_REVISION

# Columns and their values by table, of the revision that added them. Tables that are made from others do not
# travel, so 0003 added nothing here.
ADDED: dict[str, dict[str, dict[str, Any]]] = {
    "0001": {},
    "0002": {"model": {"name": None}, "attack": {"keeps_samples": True}},
    "0003": {},
    "0004": {
        "attack": {"image_keys": None, "prepared_as": None},
        "attack_chunk": {"digest": None},
        "evaluation_chunk": {"digest": None},
        "rho_baseline": {"digest": None},
    },
    "0005": {
        "model": {"card": None},
        "attack_chunk": {"card": None, "sub_batch": None},
        "evaluation_chunk": {"card": None, "sub_batch": None},
    },
    "0006": {
        "attack": {"attack_by": None},
        "attack_chunk": {"forward_passes": None, "backward_passes": None},
        "sample": {"outside": None},
    },
    "0007": {
        "score": {"n_right_adv": None, "js_of_mean_without": None},
        "evaluation_baseline": {"rho_of_mean_without": None},
    },
}


def check_revision(title: str, revision: object) -> str:
    """Return the revision of an export, if this version can read it.

    Raises:
        StoreNotReadyError: it is newer, or none of ours.
    """
    if isinstance(revision, str) and revision in ADDED:
        return revision
    if isinstance(revision, str) and revision > HEAD_REVISION:
        raise StoreNotReadyError(
            f"{title} has schema {revision}, newer than this version's {HEAD_REVISION}; update jsdelta"
        )
    raise StoreNotReadyError(
        f"{title} has schema {revision!r}: must be one of {', '.join(ADDED)}; export again where it came from"
    )


def added_since(revision: str, table: str) -> dict[str, Any]:
    """Return the columns that a table has got since a revision, with the values of rows from before."""
    later = (tables.get(table, {}) for added, tables in ADDED.items() if added > revision)
    return {name: value for columns in later for name, value in columns.items()}
