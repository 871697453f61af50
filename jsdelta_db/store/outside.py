"""Outside: samples beyond the ε of somebody's attack.

``sample.success`` is what the attacked model said. A sample that lies outside is no answer to the question
that was asked: wherever successes are counted it is a failure. Our own attacks stay inside by construction;
those of ``--accept-eps`` count whatever their size. For both ``sample.outside`` is null.
"""

from typing import TYPE_CHECKING

import numpy as np

from jsdelta_db.config.eps import farthest
from jsdelta_db.store.reading import Reader, fetch_many

if TYPE_CHECKING:  # queries start without SQLAlchemy
    from jsdelta_db.store.digests import Columns
    from jsdelta_db.store.schema import Attack

# In SQL, of a row of ``sample``: whether it counts as a success.
COUNTED = "CASE WHEN sample.outside = 1 THEN 0 ELSE sample.success END"
N_OUTSIDE = "SELECT attack_id, count(*) FROM sample WHERE outside = 1 GROUP BY attack_id"


def outside_column(attack: "Attack", columns: "Columns") -> "Columns":
    """Return the column ``outside`` of some of an attack's samples; nothing where it is no question."""
    if attack.attack_by is None or attack.attack_by["accept_eps"]:
        return {}
    return {"outside": (columns[attack.norm] > farthest(attack.eps)).astype(np.int64)}


def count_outside(reader: Reader) -> dict[int, int]:
    """Return how many samples of an attack lie outside, by its id, of attacks that have any."""
    return dict(fetch_many(reader, N_OUTSIDE))
