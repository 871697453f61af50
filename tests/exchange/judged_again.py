"""Stores whose attacks were judged several times, row by row as attacks and evaluators would leave them."""

from collections.abc import Sequence

import numpy as np
from sqlalchemy.orm import Session

from jsdelta_db.config.locations import Workspace
from jsdelta_db.records import Attempts, Samples, Scores
from jsdelta_db.store import runs
from jsdelta_db.store.attempts import write_samples, write_scores
from jsdelta_db.store.creating import open_for_writing
from jsdelta_db.store.derived import write_segments
from jsdelta_db.store.schema import Attack, AttackChunk, Evaluation, EvaluationChunk
from tests.stores import CLASSES, add_attack, add_chunks, add_dataset, add_evaluation, add_model

CHUNK = 2500
_PATH = "samples/chunk.npz"


def write_judged(workspace: Workspace, attacks: Sequence[tuple[int, int]]) -> None:
    """Make a store of attacks, each of so many attempts and judged so many times."""
    store = open_for_writing(workspace.db_url)
    with store.transaction() as session:
        dataset = add_dataset(session)
        models = [add_model(session, dataset, seed) for seed in range(1 + max(n for _, n in attacks))]
        for n_attempts, n_evaluations in attacks:
            attack = add_attack(
                session, models[0], chunk_size=CHUNK, n_images=n_attempts, n_skipped=0, n_attempts=n_attempts
            )
            samples = _samples(n_attempts)
            evaluations = [
                add_evaluation(session, attack, [model]) for model in models[1 : 1 + n_evaluations]
            ]
            _write(session, attack, samples, evaluations)
    store.close()


def _write(session: Session, attack: Attack, samples: Samples, evaluations: Sequence[Evaluation]) -> None:
    n_chunks = -(-attack.n_attempts // CHUNK)
    for number, evaluation in enumerate(evaluations):
        add_chunks(session, attack, evaluation, n_chunks, with_attack=number == 0)
    for position in range(n_chunks):
        rows = slice(position * CHUNK, (position + 1) * CHUNK)
        part = samples.pick(rows)
        digest = write_samples(session, attack_id=attack.id, samples=part)
        _finish(session.get_one(AttackChunk, (attack.id, position)), len(part.attempts), digest)
        for evaluation in evaluations:
            digest = write_scores(session, evaluation_id=evaluation.id, scores=_scores(part.attempts))
            _finish(session.get_one(EvaluationChunk, (evaluation.id, position)), len(part.attempts), digest)
    for evaluation in evaluations:
        write_segments(session, evaluation.id)


def _finish(chunk: AttackChunk | EvaluationChunk, n_attempts: int, digest: str) -> None:
    chunk.n_attempts = n_attempts
    runs.finish_chunk(chunk, uri=_PATH, sha256="of no file", digest=digest)


def _samples(n: int) -> Samples:
    index = np.arange(n)
    attempts = Attempts(index, index % len(CLASSES), (index + 1) % len(CLASSES))
    share, none = np.linspace(0.0, 1.0, n), np.zeros((n, 1), np.float32)
    return Samples(
        attempts, attempts.requested_target, index % 3 == 0, share, share, share, none, none, none, none
    )


def _scores(attempts: Attempts) -> Scores:
    n = len(attempts)
    share, ones = np.linspace(0.0, 1.0, n), np.ones(n, np.int64)
    member_js = share[:, None].astype(np.float32)
    return Scores(
        attempts,
        share,
        share,
        2 * share,
        share,
        ones,
        ones,
        ones,
        ones,
        member_js,
        member_js,
        member_js[None],
    )
