"""Chunk files: what a chunk's rows rest on. Equal arrays give equal bytes."""

import io
import zipfile
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from jsdelta_db.compute.data import Dataset
from jsdelta_db.errors import CheckpointError, UsageError
from jsdelta_db.records import FILE_SPLIT, Attempts, Samples, Scores
from jsdelta_db.runtime.files import read_verified, write_atomically
from jsdelta_db.store import attempts as attempt_rows
from jsdelta_db.store import runs
from jsdelta_db.store.schema import (
    FINISHED,
    Attack,
    AttackChunk,
    Evaluation,
    EvaluationChunk,
    EvaluationMember,
)
from jsdelta_db.tracking import RunLog
from jsdelta_db.workbench.models import LoadedModel
from jsdelta_db.workbench.workbench import Workbench

Arrays = dict[str, NDArray[Any]]


def keep_samples(bench: Workbench, attack: Attack, samples: Samples, position: int, run: RunLog) -> None:
    """Keep one chunk of samples: the file first, then the rows."""
    arrays: Arrays = _keys(samples.attempts) | {"logits": samples.logits}
    if attack.keeps_samples:
        arrays["delta"] = samples.delta
    if attack.split == FILE_SPLIT:
        arrays |= {"x": samples.x, "clean_logits": samples.clean_logits}
    path = run.folder / "samples" / f"chunk-{position:05d}.npz"
    # Perturbations shrink to half of their size for a few per mille of the time; logits do not.
    sha256 = _write(path, arrays, compressed=attack.keeps_samples)
    with bench.store.transaction() as session:
        attempt_rows.write_samples(session, attack_id=attack.id, samples=samples)
        chunk = session.get_one(AttackChunk, (attack.id, position))
        runs.finish_chunk(chunk, uri=bench.relative(path), sha256=sha256)
    run.file(path, "samples")


def check_kept(attack: Attack) -> None:
    """Refuse an attack whose perturbations were not kept.

    Raises:
        UsageError: there is nothing to look at again.
    """
    if not attack.keeps_samples:
        raise UsageError(
            f"attack {attack.uid} was made with --no-save-samples, so there is nothing to look at again; "
            "attack with another --seed"
        )


def read_samples(
    bench: Workbench, attack: Attack, position: int, dataset: Dataset, attacked: LoadedModel
) -> Samples:
    """Load one chunk of stored samples, as they were scored.

    Raises:
        CheckpointError: the file is missing or altered.
        UsageError: the perturbations were not kept.
    """
    check_kept(attack)
    with bench.store.transaction() as session:
        chunk = session.get_one(AttackChunk, (attack.id, position))
        arrays = _read(bench, chunk.uri, chunk.sha256)
        keys = {name: arrays[name] for name in ("sample_index", "requested_target")}
        stored = attempt_rows.read_samples(session, attack_id=attack.id, **keys)
    attempts = Attempts(source_label=stored.pop("source_label"), **keys)
    if attack.split == FILE_SPLIT:
        x, clean_logits = arrays["x"], arrays["clean_logits"]
    else:
        split = dataset.splits[attack.split]
        rows = split.rows_of(attempts.sample_index)
        x, clean_logits = split.batch(rows).numpy(), attacked.logits(attack.split)[rows]
    return Samples(
        attempts=attempts, x=x, clean_logits=clean_logits, delta=arrays["delta"], logits=arrays["logits"],
        **stored,
    )  # fmt: skip


def keep_scores(
    bench: Workbench,
    attack: Attack,
    evaluation: Evaluation,
    scores: Scores,
    clean_logits: NDArray[np.float32],
    position: int,
    run: RunLog,
) -> None:
    """Keep one chunk of scores: the evaluators' logits as a file first, then the rows."""
    arrays: Arrays = _keys(scores.attempts) | {"logits": scores.logits}
    if attack.split == FILE_SPLIT:  # of a data set's own splits they are kept once a model
        arrays["clean_logits"] = clean_logits
    path = run.folder / "scores" / f"chunk-{position:05d}.npz"
    sha256 = _write(path, arrays)
    with bench.store.transaction() as session:
        attempt_rows.write_scores(session, evaluation_id=evaluation.id, scores=scores)
        chunk = session.get_one(EvaluationChunk, (evaluation.id, position))
        runs.finish_chunk(chunk, uri=bench.relative(path), sha256=sha256)
    run.file(path, "scores")


def kept_logits(bench: Workbench, attack: Attack, position: int) -> dict[int, Arrays]:
    """Return what models have said of a chunk in evaluations before, by model id.

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
    with bench.store.transaction() as session:
        rows = session.execute(statement).all()
    kept: dict[int, Arrays] = {}
    for (uri, sha256), members in groupby(rows, key=lambda row: (row.uri, row.sha256)):
        new = [row for row in members if row.model_id not in kept]
        try:
            arrays = _read(bench, uri, sha256) if new else {}
        except CheckpointError:
            continue  # they can be asked again
        for row in new:
            kept[row.model_id] = {
                name: arrays[name][row.position] for name in ("logits", "clean_logits") if name in arrays
            }
    return kept


def _keys(attempts: Attempts) -> Arrays:
    return {"sample_index": attempts.sample_index, "requested_target": attempts.requested_target}


def _write(path: Path, arrays: Arrays, *, compressed: bool = False) -> str:
    """Write arrays as one .npz and return its sha256; equal arrays give equal bytes.

    NumPy's own level of compression costs four times as much, for a tenth less.
    """
    buffer = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, np.ascontiguousarray(array), allow_pickle=False)
            # Without a date of its own a ZipInfo has a fixed one.
            entry = zipfile.ZipInfo(f"{name}.npy")
            archive.writestr(entry, content.getvalue(), compress_type=kind, compresslevel=1)
    return write_atomically(path, buffer.getvalue())


def _read(bench: Workbench, uri: str | None, sha256: str | None) -> Arrays:
    content = read_verified(bench.locate(uri or ""), sha256)
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return dict(arrays)
