"""Consistency of a store: rows, plans and files checked against each other."""

from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Connection, func, select, text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session

from jsdelta_db.errors import one_of
from jsdelta_db.maintenance.side_files import find_damaged
from jsdelta_db.runtime.files import sha256_of_file
from jsdelta_db.store.altered import KINDS, list_altered, list_altered_baselines
from jsdelta_db.store.dataset_facts import find_impossible
from jsdelta_db.store.derived import differs
from jsdelta_db.store.ranges import CHOICES, RANGES, shown
from jsdelta_db.store.schema import (
    FINISHED,
    Attack,
    AttackChunk,
    Base,
    Dataset,
    Evaluation,
    EvaluationChunk,
    EvaluationMember,
    Model,
    ModelLogits,
    Sample,
    Score,
)
from jsdelta_db.store.segments import read_attempts


def find_problems(connection: Connection, root: Path) -> Iterator[str]:
    """Yield one line for each inconsistency.

    Checks the database's own integrity, values against their ranges, evaluators against the attacked
    models, chunks and rows against their plan, scores against samples, columns against rows, and rows and
    files against their hashes; of files that no row names, what they are.

    Args:
        root: the workspace that file paths are relative to.
    """
    if connection.dialect.name == "sqlite":
        broken = check_pages(connection, "integrity_check")
        yield from (f"database: {line}" for line in broken)
        if broken:
            return  # what is read from such a file means nothing
        for table, *_ in connection.execute(text("PRAGMA foreign_key_check")):
            yield f"database: a row of {table} points to one that is not there"
    yield from _check_ranges(connection)
    yield from _check_datasets(connection)
    yield from _check_weights(connection)
    yield from _check_chunks(connection)
    yield from _check_samples(connection)
    yield from _check_evaluations(connection)
    yield from _check_digests(connection)
    yield from _check_files(connection, root)
    yield from find_damaged(root)


def check_pages(connection: Connection, pragma: str) -> list[str]:
    """Return what SQLite finds wrong in its file, by ``integrity_check`` or the faster ``quick_check``."""
    try:
        lines = [line for (line,) in connection.execute(text(f"PRAGMA {pragma}(10)")) if line != "ok"]
    except DatabaseError as error:
        lines = [str(error.orig)]
    return [each for line in lines for each in line.splitlines()]


def _check_ranges(connection: Connection) -> Iterator[str]:
    """Yield columns with values that there cannot be."""
    for table, limits in RANGES.items():
        columns = Base.metadata.tables[table].c
        ends = [end for name in limits for end in (func.min(columns[name]), func.max(columns[name]))]
        found = connection.execute(select(*ends)).one()
        for name, low, high in zip(limits, found[::2], found[1::2], strict=True):
            for value in {low, high} - {None}:
                if not isinstance(value, int | float) or not limits[name][0] <= value <= limits[name][1]:
                    yield f"{table}.{name}: {value!r} is not valid: must be {shown(limits[name])}"
    for table, choices in CHOICES.items():
        for name, valid in choices.items():
            column = Base.metadata.tables[table].c[name]
            for (value,) in connection.execute(select(column).where(column.not_in(valid)).distinct()):
                yield f"{table}.{name}: {value!r} is not valid: must be {one_of(map(repr, valid))}"


def _check_datasets(connection: Connection) -> Iterator[str]:
    """Yield data sets whose facts there cannot be."""
    for uid, kind, facts in connection.execute(select(Dataset.uid, Dataset.kind, Dataset.construction)):
        impossible = find_impossible(kind, facts)
        if impossible is not None:
            yield f"dataset {uid}: {impossible}"


def _check_weights(connection: Connection) -> Iterator[str]:
    """Yield evaluators that judge themselves, and copies of a sha256 that are not the model's own.

    The schema refuses both, but not if another tool writes with foreign keys switched off.
    """
    attacked, evaluator = Model.__table__.alias("attacked"), Model.__table__.alias("evaluator")
    attacks = select(Attack.uid).join(attacked, attacked.c.id == Attack.attacked_model_id)
    differing = Attack.attacked_sha256.is_distinct_from(attacked.c.checkpoint_sha256)
    for (uid,) in connection.execute(attacks.where(differing)):
        yield f"attack {uid}: its attacked_sha256 is not that of its model's checkpoint"
    evaluations = select(Evaluation.uid).join(Attack, Attack.id == Evaluation.attack_id)
    for (uid,) in connection.execute(evaluations.where(Evaluation.attacked_sha256 != Attack.attacked_sha256)):
        yield f"evaluation {uid}: its attacked_sha256 is not that of its attack"
    members = (
        select(
            Evaluation.uid, evaluator.c.uid, evaluator.c.checkpoint_sha256, EvaluationMember.model_sha256,
            EvaluationMember.attacked_sha256, attacked.c.checkpoint_sha256, attacked.c.id == evaluator.c.id,
        )
        .join(EvaluationMember, EvaluationMember.evaluation_id == Evaluation.id)
        .join(Attack, Attack.id == Evaluation.attack_id)
        .join(attacked, attacked.c.id == Attack.attacked_model_id)
        .join(evaluator, evaluator.c.id == EvaluationMember.model_id)
    )  # fmt: skip
    for uid, model, own, copy, attacked_copy, attacked_own, is_attacked in connection.execute(members):
        if is_attacked or own == attacked_own:
            yield f"evaluation {uid}: evaluator {model} has the attacked weights, and cannot judge them"
        if copy != own or attacked_copy != attacked_own:
            yield f"evaluation {uid}: a sha256 beside evaluator {model} is not that of the model's checkpoint"


def _check_chunks(connection: Connection) -> Iterator[str]:
    """Yield attacks and evaluations whose chunks, or their attempts, are not as many as planned."""
    for run, chunk, parent in (
        (Attack, AttackChunk, AttackChunk.attack_id),
        (Evaluation, EvaluationChunk, EvaluationChunk.evaluation_id),
    ):
        position, chunk_attempts = chunk.position, chunk.n_attempts
        statement = (
            select(
                run.uid, Attack.n_attempts, Attack.chunk_size, func.count(position), func.max(position),
                func.coalesce(func.sum(chunk_attempts), 0), func.max(chunk_attempts),
            )
            .select_from(run)
            .join(chunk, parent == run.id)
            .group_by(run.id, run.uid, Attack.n_attempts, Attack.chunk_size)
        )  # fmt: skip
        if run is Evaluation:
            statement = statement.join(Attack, Attack.id == Evaluation.attack_id)
        for uid, planned, size, n, last, attempts, largest in connection.execute(statement):
            if not isinstance(size, int) or size < 1:
                continue  # said already: out of range
            if (n, last + 1, attempts) != (-(-planned // size), n, planned) or largest > size:
                yield (
                    f"{run.__tablename__} {uid}: {planned} attempts planned in chunks of {size}, "
                    f"{n} chunks hold {attempts}"
                )


def _check_samples(connection: Connection) -> Iterator[str]:
    """Yield unjudged attacks whose samples are not as many as their finished chunks' attempts."""
    judged = select(Evaluation.attack_id).where(Evaluation.status == FINISHED)
    finished = (AttackChunk.attack_id == Attack.id) & (AttackChunk.status == FINISHED)
    of_chunks = select(func.coalesce(func.sum(AttackChunk.n_attempts), 0)).where(finished)
    samples = select(func.count()).select_from(Sample).where(Sample.attack_id == Attack.id)
    statement = select(Attack.uid, of_chunks.scalar_subquery(), samples.scalar_subquery())
    for uid, expected, found in connection.execute(statement.where(Attack.id.not_in(judged))):
        if expected != found:
            yield f"attack {uid}: {expected} attempts in finished chunks, {found} samples"


def _check_evaluations(connection: Connection) -> Iterator[str]:
    of_chunks = select(func.coalesce(func.sum(EvaluationChunk.n_attempts), 0)).where(
        EvaluationChunk.evaluation_id == Evaluation.id, EvaluationChunk.status == FINISHED
    )
    statement = select(
        Evaluation.id, Evaluation.uid, Evaluation.status, Evaluation.attack_id, Attack.n_attempts,
        of_chunks.scalar_subquery(),
    ).join(Attack, Attack.id == Evaluation.attack_id)  # fmt: skip
    for evaluation_id, uid, status, attack_id, planned, in_chunks in connection.execute(statement).all():
        of_evaluation, of_attack = Score.evaluation_id == evaluation_id, Sample.attack_id == attack_id
        scores = connection.scalar(select(func.count()).select_from(Score).where(of_evaluation))
        attempts = read_attempts(
            connection, evaluation_id=evaluation_id, attack_id=attack_id, names=("success",)
        )
        matched = len(attempts["success"])
        if status != FINISHED:
            if not scores == matched == in_chunks:
                yield (
                    f"evaluation {uid}: {in_chunks} attempts in finished chunks, {scores} scores, "
                    f"{matched} of them with a sample"
                )
            continue
        samples = connection.scalar(select(func.count()).select_from(Sample).where(of_attack))
        if not scores == samples == matched == planned:
            yield (
                f"evaluation {uid}: {planned} attempts planned, {samples} samples, {scores} scores, "
                f"{matched} of them belong together"
            )
        elif differs(connection, evaluation_id):
            yield f"evaluation {uid}: its columns are not those of its rows; run jsdelta doctor --repair"


def _check_digests(connection: Connection) -> Iterator[str]:
    """Yield attacks, evaluations and models whose rows are not those that were stored."""
    for kind in KINDS:
        for _, uid in list_altered(connection, kind):
            yield (
                f"{kind.runs.__tablename__} {uid}: its {kind.title} are not those that were stored; "
                "run jsdelta doctor --repair"
            )
    with Session(connection) as session:
        for row, uid in list_altered_baselines(session):
            yield (
                f"model {uid}: its baseline of labels {row.label_low} and {row.label_high} is not the one "
                "that was stored; run jsdelta doctor --repair"
            )


def _check_files(connection: Connection, root: Path) -> Iterator[str]:
    statements = (
        select(Model.checkpoint_uri, Model.checkpoint_sha256).where(Model.status == FINISHED),
        select(ModelLogits.uri, ModelLogits.sha256),
        select(Dataset.uri, Dataset.sha256).where(Dataset.uri.is_not(None), Dataset.status == FINISHED),
        select(AttackChunk.uri, AttackChunk.sha256).where(AttackChunk.status == FINISHED),
        select(EvaluationChunk.uri, EvaluationChunk.sha256).where(EvaluationChunk.status == FINISHED),
    )
    for statement in statements:
        for uri, sha256 in connection.execute(statement):
            path = root / str(uri)
            if not path.is_file():
                yield f"file {uri}: missing"
            elif sha256_of_file(path) != sha256:
                yield f"file {uri}: altered or cut short"
