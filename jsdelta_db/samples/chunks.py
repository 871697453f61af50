"""Chunks of samples and of scores: one batch, one file each, and the rows that rest on it.

The file comes first: one without committed rows is written again. Equal arrays give equal bytes. A file
holds the columns of its rows too, so that altered rows can be taken from it again (``restoring.py``).
"""

from dataclasses import dataclass, fields
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from jsdelta_db.errors import CheckpointError, UsageError
from jsdelta_db.records import FILE_SPLIT, Attempts, Effort, Samples, Scores
from jsdelta_db.samples.chunk_files import Arrays, read_chunk_file, write_chunk_file
from jsdelta_db.store import runs
from jsdelta_db.store.attempts import (
    read_samples,
    sample_columns,
    score_columns,
    write_samples,
    write_scores,
)
from jsdelta_db.store.outside import outside_column
from jsdelta_db.store.schema import (
    FINISHED,
    Attack,
    AttackChunk,
    Evaluation,
    EvaluationChunk,
    EvaluationMember,
)
from jsdelta_db.tracking import RunLog
from jsdelta_db.workbench.workbench import Workbench

if TYPE_CHECKING:
    from jsdelta_db.workbench.models import LoadedModel


@dataclass(frozen=True, slots=True)
class JudgedChunk:
    """One chunk's scores, and the evaluators' clean logits, float32 ``(evaluators, n, classes)``.

    Attributes:
        sub_batch: attempts that were judged at a time; None for all of them.
    """

    scores: Scores
    clean_logits: NDArray[np.float32]
    sub_batch: int | None = None


def save_samples(
    bench: Workbench, attack: Attack, position: int, samples: Samples, run: RunLog, effort: Effort
) -> None:
    """Save one chunk of samples, and what they took."""
    columns = sample_columns(samples)
    arrays: Arrays = {**columns, "logits": samples.logits}
    if attack.keeps_samples:
        arrays["delta"] = samples.delta
    if attack.split == FILE_SPLIT:  # no data set has these images
        arrays |= {"x": samples.x, "clean_logits": samples.clean_logits}
    path = run.folder / "samples" / f"chunk-{position:05d}.npz"
    # Perturbations shrink to half of their size for a few per mille of the time; logits do not.
    sha256 = write_chunk_file(path, arrays, compressed=attack.keeps_samples)
    with bench.store.transaction() as session:
        more = outside_column(attack, columns)
        digest = write_samples(session, attack_id=attack.id, samples=samples, more=more)
        chunk = session.get_one(AttackChunk, (attack.id, position))
        runs.finish_chunk(chunk, uri=bench.relative(path), sha256=sha256, digest=digest)
        for field in fields(effort):
            setattr(chunk, field.name, getattr(effort, field.name))
    run.file(path, "samples")


def check_stored(attack: Attack) -> None:
    """Refuse an attack whose perturbations were not stored.

    Raises:
        UsageError: nothing can use the samples again.
    """
    if not attack.keeps_samples:
        raise UsageError(
            f"attack {attack.uid} was made with --no-save-samples, so there is nothing to look at again; "
            "attack with another --seed"
        )


def load_samples(bench: Workbench, attack: Attack, position: int, attacked: "LoadedModel") -> Samples:
    """Load one chunk of stored samples, as they were scored.

    Raises:
        CheckpointError: the file is missing or altered.
        UsageError: the perturbations were not stored.
    """
    check_stored(attack)
    with bench.store.read_session() as session:
        chunk = session.get_one(AttackChunk, (attack.id, position))
    arrays = read_chunk_file(bench.locate(chunk.uri or ""), chunk.sha256)
    keys = {name: arrays[name] for name in ("sample_index", "requested_target")}
    with bench.store.read_session() as session:
        columns = read_samples(session, attack_id=attack.id, **keys)
    attempts = Attempts(source_label=columns.pop("source_label"), **keys)
    if attack.split == FILE_SPLIT:
        x, clean_logits = arrays["x"], arrays["clean_logits"]
    else:
        images, clean_logits = attacked.on_images(attack.split, attempts.sample_index)
        x = images.numpy()
    return Samples(
        attempts=attempts, x=x, clean_logits=clean_logits, delta=arrays["delta"], logits=arrays["logits"],
        **columns,
    )  # fmt: skip


def save_scores(
    bench: Workbench, attack: Attack, evaluation: Evaluation, position: int, judged: JudgedChunk, run: RunLog
) -> None:
    """Save one chunk of scores with the evaluators' logits."""
    scores = judged.scores
    arrays: Arrays = {**score_columns(scores), "logits": scores.logits}
    if attack.split == FILE_SPLIT:  # of a data set's own splits they are stored once a model
        arrays["clean_logits"] = judged.clean_logits
    path = run.folder / "scores" / f"chunk-{position:05d}.npz"
    sha256 = write_chunk_file(path, arrays)
    with bench.store.transaction() as session:
        digest = write_scores(session, evaluation_id=evaluation.id, scores=scores)
        chunk = session.get_one(EvaluationChunk, (evaluation.id, position))
        runs.finish_chunk(chunk, uri=bench.relative(path), sha256=sha256, digest=digest)
        chunk.sub_batch = judged.sub_batch
    run.file(path, "scores")


def load_known_logits(bench: Workbench, attack: Attack, position: int) -> dict[int, Arrays]:
    """Return the logits that models had on a chunk in earlier evaluations, by model id.

    Each has ``logits`` (on x_adv) and, for images that came with their samples, ``clean_logits``.
    """
    statement = (
        select(
            EvaluationChunk.uri, EvaluationChunk.sha256, EvaluationMember.model_id, EvaluationMember.position
        )
        .join(Evaluation, Evaluation.id == EvaluationChunk.evaluation_id)
        .join(EvaluationMember, EvaluationMember.evaluation_id == Evaluation.id)
        .where(
            Evaluation.attack_id == attack.id,
            EvaluationChunk.position == position,
            EvaluationChunk.status == FINISHED,
        )
        .order_by(Evaluation.id)
    )
    with bench.store.read_session() as session:
        rows = session.execute(statement).all()
    known: dict[int, Arrays] = {}
    for (uri, sha256), members in groupby(rows, key=lambda row: (row.uri, row.sha256)):
        new = [row for row in members if row.model_id not in known]
        try:
            arrays = read_chunk_file(bench.locate(uri or ""), sha256) if new else {}
        except CheckpointError:
            continue  # the models are asked again
        for row in new:
            known[row.model_id] = {
                name: arrays[name][row.position] for name in ("logits", "clean_logits") if name in arrays
            }
    return known
