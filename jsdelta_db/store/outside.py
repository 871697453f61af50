"""Outside: samples beyond the ε of somebody's attack.

``sample.success`` is what the attacked model said. A sample that lies outside is no answer to the question
that was asked: wherever successes are counted it is a failure. Our own attacks stay inside by construction;
those of ``--accept-eps`` count whatever their size. For both ``sample.outside`` is null.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from jsdelta_db.config.attack_by import parse_recorded
from jsdelta_db.config.checks import NORMS
from jsdelta_db.config.eps import farthest
from jsdelta_db.store.reading import Reader, fetch, fetch_many

if TYPE_CHECKING:  # queries start without SQLAlchemy
    from jsdelta_db.store.digests import Columns
    from jsdelta_db.store.schema import Attack

# In SQL, of a row of ``sample``: whether it counts as a success.
COUNTED = "CASE WHEN sample.outside = 1 THEN 0 ELSE sample.success END"
N_OUTSIDE = "SELECT attack_id, count(*) FROM sample WHERE outside = 1 GROUP BY attack_id"


def outside_column(attack: "Attack", columns: "Columns") -> "Columns":
    """Return the column ``outside`` of some of an attack's samples; nothing where it is no question."""
    if not _is_asked(attack.attack_by):
        return {}
    return {"outside": (columns[attack.norm] > farthest(attack.eps)).astype(np.int64)}


def fits(
    by: Mapping[str, Any] | None, eps: float, sizes: Iterable[float], outside: Iterable[int | None]
) -> bool:
    """Tell whether ``outside`` is what the sizes of samples say, in their attack's norm."""
    if not _is_asked(by):
        return set(outside) <= {None}
    limit = farthest(eps)
    return all(found == (size > limit) for size, found in zip(sizes, outside, strict=True))


def is_misplaced(reader: Reader, attack_id: int) -> bool:
    """Tell whether a sample of an attack says otherwise than its size whether it lies outside."""
    ((norm, eps, recorded),) = fetch(
        reader, "SELECT norm, eps, attack_by FROM attack WHERE id = :attack_id", attack_id=attack_id
    )
    by = parse_recorded(recorded)
    if norm not in NORMS:
        return True
    found = f"CASE WHEN {norm} > :farthest THEN 1 ELSE 0 END" if _is_asked(by) else "-1"
    sql = f"SELECT count(*) FROM sample WHERE attack_id = :attack_id AND coalesce(outside, -1) <> {found}"  # noqa: S608
    values = {"farthest": farthest(eps)} if _is_asked(by) else {}
    ((n,),) = fetch(reader, sql, attack_id=attack_id, **values)
    return bool(n)


def _is_asked(by: Mapping[str, Any] | None) -> bool:
    return by is not None and not by["accept_eps"]


def count_outside(reader: Reader) -> dict[int, int]:
    """Return how many samples of an attack lie outside, by its id, of attacks that have any."""
    return dict(fetch_many(reader, N_OUTSIDE))
