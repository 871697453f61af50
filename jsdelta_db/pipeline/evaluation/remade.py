"""Remade samples: a chunk that was attacked once more, held against what was stored of it.

Without its perturbations (``--no-save-samples``) a chunk that is needed again is made anew. On the same model
of card that gives the same logits, bit by bit. Another card, or another processor, rounds otherwise, and a
hundred steps may carry that far: then the scores would be of other samples than the rows tell of.
"""

import numpy as np

from jsdelta_db.errors import UsageError
from jsdelta_db.pipeline.evaluation.sources import MadeChunk
from jsdelta_db.runtime.cards import is_same_model
from jsdelta_db.samples.chunk_files import read_chunk_file
from jsdelta_db.store.attempts import read_samples
from jsdelta_db.store.schema import Attack, AttackChunk
from jsdelta_db.workbench.workbench import Workbench

LARGEST_CHANGE = 1e-3  # of a logit, by rounding alone


def check_remade(bench: Workbench, attack: Attack, position: int, made: MadeChunk, card: str | None) -> None:
    """Hold a chunk that was made once more against the stored one.

    Args:
        card: that it was made on now, as rows name it; None for a processor.

    Raises:
        CheckpointError: the stored chunk's file is missing or altered.
        UsageError: they are not the same samples; names where each was made.
    """
    remade, tried = made.samples, made.attempts
    with bench.store.read_session() as session:
        chunk = session.get_one(AttackChunk, (attack.id, position))
        rows = read_samples(
            session, attack_id=attack.id, sample_index=tried.sample_index,
            requested_target=tried.requested_target,
        )  # fmt: skip
    logits = read_chunk_file(bench.locate(chunk.uri or ""), chunk.sha256)["logits"]
    is_exact = is_same_model(chunk.card, card) and chunk.sub_batch == made.sub_batch
    change = float(np.abs(logits - remade.logits).max(initial=0.0))
    flipped = (rows["success"] != remade.success) | (rows["target_label"] != remade.target_label)
    if flipped.any() or change > (0.0 if is_exact else LARGEST_CHANGE):
        must = "equal there" if is_exact else f"at most {LARGEST_CHANGE:g}"
        raise UsageError(
            f"chunk {position} of attack {attack.uid} was made on {chunk.card or attack.device} without "
            f"keeping its samples, and comes out otherwise on {card or 'this cpu'} ({flipped.sum()} of "
            f"{len(flipped)} reach another label, logits differ by {change:.2g}: must be {must}); go on "
            "where it was made, or attack with another --seed"
        )
