"""Passes: how often an image went through the attacked model, so that attacks compare at equal cost."""

from collections.abc import Sequence
from typing import NamedTuple

from jsdelta_db.store.reading import Reader, fetch

OF_EVALUATION = """
SELECT attack.norm, attack.eps, sum(attack_chunk.forward_passes), sum(attack_chunk.backward_passes),
       sum(attack_chunk.n_attempts)
FROM attack_chunk
JOIN attack ON attack.id = attack_chunk.attack_id
JOIN evaluation ON evaluation.attack_id = attack.id
WHERE evaluation.uid = :uid
GROUP BY attack.norm, attack.eps
HAVING count(attack_chunk.forward_passes) = count(*)
"""


class Passes(NamedTuple):
    """Passes of an attack.

    Attributes:
        forward, backward: an image, on average over the attempts.
    """

    norm: str
    eps: float
    forward: float
    backward: float


def list_passes(reader: Reader, evaluations: Sequence[str]) -> list[Passes]:
    """Return the passes of the attacks behind evaluations, of those that were counted.

    Args:
        evaluations: uids.
    """
    rows = [row for uid in evaluations for row in fetch(reader, OF_EVALUATION, uid=uid)]
    return [
        Passes(norm, eps, int(forward) / int(n), int(backward) / int(n))
        for norm, eps, forward, backward, n in rows
    ]
