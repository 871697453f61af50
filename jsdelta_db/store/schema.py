"""Schema: the tables as SQLAlchemy classes; migrations create them.

Wide facts stand on a run's row; per-sample rows stay narrow, with natural primary keys. Every
run-like row has a ``uid``, by which people and files name it, and a ``config_hash``, by which the same
run is found again. Integer ids are local to a store. Times are UTC; ``heartbeat_at`` is in epoch seconds.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.sqlite import REAL
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeEngine

from jsdelta_db.store.constants import FAILED, FINISHED, HEAD_REVISION, PENDING, RUNNING, VERSION_TABLE

__all__ = ["FAILED", "FINISHED", "HEAD_REVISION", "PENDING", "RUNNING", "VERSION_TABLE"]

# STRICT tables on SQLite refuse a NumPy integer, which would land as a BLOB; they know few type names.
Small: TypeEngine[int] = SmallInteger().with_variant(Integer(), "sqlite")
Checksum: TypeEngine[int] = BigInteger().with_variant(Integer(), "sqlite")  # unsigned, of 32 bits
Count: TypeEngine[int] = BigInteger().with_variant(Integer(), "sqlite")
Real: TypeEngine[float] = Double().with_variant(REAL(), "sqlite")
OUTSIDE = text("outside = 1")


class Base(DeclarativeBase):
    """Base of all tables: names every constraint, so that migrations can name what they change."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {str: Text, float: Real, datetime: DateTime(timezone=True), dict[str, Any]: JSON}  # noqa: RUF012 SQLAlchemy's form


class Lease:
    """The owner of a row: host, boot, process and its start; the heartbeat counts on other hosts only."""

    status: Mapped[str] = mapped_column(default=PENDING)
    owner: Mapped[str | None]
    heartbeat_at: Mapped[float | None]


class Chunk(Lease):
    """Columns of a batch of attempts: never merged or split, worked on by one process at a time."""

    n_attempts: Mapped[int]
    uri: Mapped[str | None]
    sha256: Mapped[str | None]
    digest: Mapped[str | None]  # of the chunk's rows
    card: Mapped[str | None]  # that computed it, such as "cuda:0 NVIDIA H200"; null on a processor
    sub_batch: Mapped[int | None]  # attempts computed at a time; null for all of them


class Run:
    """Columns of every run-like row."""

    id: Mapped[int] = mapped_column(primary_key=True, sort_order=-3)
    uid: Mapped[str] = mapped_column(unique=True, sort_order=-2)
    config_hash: Mapped[str] = mapped_column(index=True, sort_order=-1)
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    mlflow_run_id: Mapped[str | None]


class Dataset(Run, Lease, Base):
    """A data set: builtin (named by its fingerprint), constructed from another, or external."""

    __tablename__ = "dataset"

    name: Mapped[str]
    kind: Mapped[str]
    fingerprint: Mapped[str | None]
    classes: Mapped[list[str]] = mapped_column(JSON)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("dataset.id"))
    construction: Mapped[dict[str, Any] | None]
    seed: Mapped[int | None]
    uri: Mapped[str | None]
    sha256: Mapped[str | None]


class Model(Run, Lease, Base):
    """One trained network; every ensemble of the same configuration and seed shares it."""

    __tablename__ = "model"
    __table_args__ = (UniqueConstraint("id", "checkpoint_sha256"),)

    dataset_id: Mapped[int] = mapped_column(ForeignKey("dataset.id"))
    name: Mapped[str | None]  # of a model that was added, not trained here
    recipe_name: Mapped[str]
    recipe: Mapped[dict[str, Any]]
    architecture: Mapped[str]
    method: Mapped[str]
    seed: Mapped[int]
    checkpoint_uri: Mapped[str | None]
    checkpoint_sha256: Mapped[str | None]
    clean_accuracy: Mapped[float | None]
    sharpness: Mapped[float | None]
    device: Mapped[str | None]  # as resolved; the recipe holds what was requested
    card: Mapped[str | None]  # that it was trained on; see Chunk
    dtype: Mapped[str | None]
    threads: Mapped[int | None]

    @property
    def title(self) -> str:
        """Name for people: of a member of an ensemble its seed."""
        return self.name or f"seed {self.seed}"


class ModelMetric(Base):
    """A measurement of a model: clean and robust accuracies, sharpness, agreement."""

    __tablename__ = "model_metric"

    model_id: Mapped[int] = mapped_column(ForeignKey("model.id"), primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("dataset.id"), primary_key=True)
    split: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    norm: Mapped[str] = mapped_column(primary_key=True, default="")  # "", 0 and 0 where no attack is meant
    eps: Mapped[float] = mapped_column(primary_key=True, default=0.0)
    steps: Mapped[int] = mapped_column(primary_key=True, default=0)
    value: Mapped[float]
    n: Mapped[int]


class ModelLogits(Base):
    """A model's clean logits on a whole split, stored so that scores can be recomputed without it."""

    __tablename__ = "model_logits"

    model_id: Mapped[int] = mapped_column(ForeignKey("model.id"), primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("dataset.id"), primary_key=True)
    split: Mapped[str] = mapped_column(primary_key=True)
    uri: Mapped[str]
    sha256: Mapped[str]


class Ensemble(Run, Lease, Base):
    """Models of one recipe and different seeds; names need not be unique."""

    __tablename__ = "ensemble"

    name: Mapped[str] = mapped_column(index=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("dataset.id"))


class EnsembleMember(Base):
    """A model's place in an ensemble."""

    __tablename__ = "ensemble_member"

    ensemble_id: Mapped[int] = mapped_column(ForeignKey("ensemble.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("model.id"), index=True)


class Attack(Run, Base):
    """One attack on one model at one ε; its status comes from its chunks."""

    __tablename__ = "attack"
    __table_args__ = (
        UniqueConstraint("id", "attacked_sha256"),
        ForeignKeyConstraint(
            ["attacked_model_id", "attacked_sha256"], ["model.id", "model.checkpoint_sha256"]
        ),
    )

    attacked_model_id: Mapped[int] = mapped_column(index=True)
    attacked_sha256: Mapped[str]
    dataset_id: Mapped[int] = mapped_column(ForeignKey("dataset.id"))
    split: Mapped[str]
    norm: Mapped[str]
    eps: Mapped[float]
    steps: Mapped[int]  # 0 for samples made elsewhere: whatever comes after this row is the same code
    step_size: Mapped[float]
    random_start: Mapped[bool]
    restarts: Mapped[int]
    target_rule: Mapped[str]
    objective: Mapped[str]
    stop: Mapped[str]
    seed: Mapped[int]
    images: Mapped[int | None]  # as requested; null for the whole split
    library: Mapped[str]
    library_version: Mapped[str]
    # The plan, fixed when the row is made: the counts stand here and not on the chunks, so that a chunk is
    # its attempts and nothing else.
    chunk_size: Mapped[int]
    n_images: Mapped[int]
    n_skipped: Mapped[int]
    n_attempts: Mapped[int]
    # As requested and as resolved: the request is hashed, a resumed attack uses what was resolved.
    requested_device: Mapped[str]
    requested_dtype: Mapped[str]
    device: Mapped[str]
    dtype: Mapped[str]
    threads: Mapped[int]
    artifact_uri: Mapped[str | None]
    keeps_samples: Mapped[bool] = mapped_column(default=True)  # whether its files hold the perturbations
    image_keys: Mapped[bytes | None] = mapped_column(LargeBinary)  # of images from a file; ``image_keys.py``
    prepared_as: Mapped[str | None]  # what gradient steps ran on: the "folded" copy or the "plain" one
    # Of somebody's attack: name, version, arguments and accept_eps; null for our own steps.
    attack_by: Mapped[dict[str, Any] | None]


class AttackSurrogate(Base):
    """A held-back model that an attack's objective uses."""

    __tablename__ = "attack_surrogate"

    attack_id: Mapped[int] = mapped_column(ForeignKey("attack.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("model.id"))


class AttackChunk(Chunk, Base):
    """The samples of one batch of attempts."""

    __tablename__ = "attack_chunk"

    attack_id: Mapped[int] = mapped_column(ForeignKey("attack.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    # Images that went through the attacked model, added up over the passes; null where nobody counted.
    forward_passes: Mapped[int | None] = mapped_column(Count)
    backward_passes: Mapped[int | None] = mapped_column(Count)


class Sample(Base):
    """One attempt: an image pushed towards a label."""

    __tablename__ = "sample"
    __table_args__ = (
        CheckConstraint("success IN (0, 1)", name="success"),
        Index(
            "ix_sample_outside",
            "attack_id",
            sqlite_where=OUTSIDE,
            postgresql_where=OUTSIDE,
        ),  # of none but these: queries count them, and there are few
        {"sqlite_with_rowid": False, "sqlite_strict": True},
    )

    attack_id: Mapped[int] = mapped_column(ForeignKey("attack.id"), primary_key=True)
    sample_index: Mapped[int] = mapped_column(primary_key=True)
    requested_target: Mapped[int] = mapped_column(Small, primary_key=True)  # −1 when untargeted
    source_label: Mapped[int] = mapped_column(Small)
    target_label: Mapped[int] = mapped_column(Small)
    success: Mapped[int] = mapped_column(Small)
    confidence: Mapped[float]
    linf: Mapped[float | None]
    l2: Mapped[float | None]
    stability: Mapped[float | None]
    # Whether it lies beyond ε, so that it counts as a failure; null where that is no question (outside.py).
    outside: Mapped[int | None] = mapped_column(Small)


class Evaluation(Run, Lease, Base):
    """A set of evaluators judging the samples of one attack."""

    __tablename__ = "evaluation"
    __table_args__ = (
        UniqueConstraint("id", "attacked_sha256"),
        ForeignKeyConstraint(["attack_id", "attacked_sha256"], ["attack.id", "attack.attacked_sha256"]),
    )

    attack_id: Mapped[int] = mapped_column(index=True)
    attacked_sha256: Mapped[str]
    ensemble_id: Mapped[int | None] = mapped_column(ForeignKey("ensemble.id"))  # whose members judge
    temperature_rule: Mapped[str]
    baseline_rule: Mapped[str]
    artifact_uri: Mapped[str | None]


class EvaluationMember(Base):
    """An evaluator; the attacked model's weights cannot be one, and none counts twice."""

    __tablename__ = "evaluation_member"
    __table_args__ = (
        CheckConstraint("model_sha256 <> attacked_sha256", name="not_attacked"),
        UniqueConstraint("evaluation_id", "model_sha256"),
        ForeignKeyConstraint(["model_id", "model_sha256"], ["model.id", "model.checkpoint_sha256"]),
        ForeignKeyConstraint(
            ["evaluation_id", "attacked_sha256"], ["evaluation.id", "evaluation.attacked_sha256"]
        ),
    )

    evaluation_id: Mapped[int] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    model_id: Mapped[int]
    model_sha256: Mapped[str]
    attacked_sha256: Mapped[str]
    temperature: Mapped[float] = mapped_column(default=1.0)


class EvaluationChunk(Chunk, Base):
    """The scores of one attack chunk."""

    __tablename__ = "evaluation_chunk"

    evaluation_id: Mapped[int] = mapped_column(ForeignKey("evaluation.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)


class RhoBaseline(Base):
    """The mean divergence of one model between clean images of two labels, the lower label first."""

    __tablename__ = "rho_baseline"

    model_id: Mapped[int] = mapped_column(ForeignKey("model.id"), primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("dataset.id"), primary_key=True)
    split: Mapped[str] = mapped_column(primary_key=True)
    temperature_rule: Mapped[str] = mapped_column(primary_key=True)
    label_low: Mapped[int] = mapped_column(Small, primary_key=True)
    label_high: Mapped[int] = mapped_column(Small, primary_key=True)
    rho: Mapped[float]
    standard_error: Mapped[float | None]
    pairs: Mapped[int]
    n_low: Mapped[int]
    # Float64 means per image, the lower label's first: a set's standard error needs no second pass.
    image_means: Mapped[bytes] = mapped_column(LargeBinary)
    digest: Mapped[str | None]  # of the row


class EvaluationBaseline(Base):
    """The baseline of a set of evaluators; JSΔ divides by ``rho`` where ``defined``."""

    __tablename__ = "evaluation_baseline"

    evaluation_id: Mapped[int] = mapped_column(ForeignKey("evaluation.id"), primary_key=True)
    label_low: Mapped[int] = mapped_column(Small, primary_key=True)
    label_high: Mapped[int] = mapped_column(Small, primary_key=True)
    rho: Mapped[float]
    rho_of_mean: Mapped[float]
    standard_error: Mapped[float | None]
    pairs: Mapped[int]
    images: Mapped[int]
    # Float64 of the mean outputs without each evaluator; null in rows from before, or of a single evaluator.
    rho_of_mean_without: Mapped[bytes | None] = mapped_column(LargeBinary)


class ControlResult(Base):
    """The outcome of a control, whose samples are made and scored in memory only."""

    __tablename__ = "control_result"

    evaluation_id: Mapped[int] = mapped_column(ForeignKey("evaluation.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[float | None]
    low: Mapped[float | None]
    high: Mapped[float | None]
    passed: Mapped[bool | None]


class Score(Base):
    """Divergences of one sample, in bits; ``db check`` compares the rows with ``sample``."""

    __tablename__ = "score"
    __table_args__ = ({"sqlite_with_rowid": False, "sqlite_strict": True},)

    evaluation_id: Mapped[int] = mapped_column(ForeignKey("evaluation.id"), primary_key=True)
    sample_index: Mapped[int] = mapped_column(primary_key=True)
    requested_target: Mapped[int] = mapped_column(Small, primary_key=True)
    js: Mapped[float]
    js_of_mean: Mapped[float]
    js_delta: Mapped[float | None]  # null where the label pair has no usable baseline
    js_attacked: Mapped[float]
    n_right: Mapped[int] = mapped_column(Small)
    n_at_target: Mapped[int] = mapped_column(Small)
    n_at_target_adv: Mapped[int] = mapped_column(Small)
    # Packed (``packed.py``). What follows it is null in rows from before there was such a column.
    member_js: Mapped[bytes] = mapped_column(LargeBinary)
    n_right_adv: Mapped[int | None] = mapped_column(Small)
    # Divergence of the mean outputs without each evaluator; null, too, where a single one judged.
    js_of_mean_without: Mapped[bytes | None] = mapped_column(LargeBinary)


class ImageCount(Base):
    """Attempts of a finished evaluation by image; see ``image_counts.py``.

    Made together with the segments, from the same rows.
    """

    __tablename__ = "image_count"
    __table_args__ = ({"sqlite_strict": True},)

    evaluation_id: Mapped[int] = mapped_column(
        ForeignKey("evaluation.id"), primary_key=True, autoincrement=False
    )
    n_undefined: Mapped[int]  # attempts whose label pairs have no usable baseline
    # One count per image, in the order of their numbers: bits, or little-endian unsigned integers.
    bits: Mapped[int] = mapped_column(Small)
    success: Mapped[bytes] = mapped_column(LargeBinary)
    failure: Mapped[bytes] = mapped_column(LargeBinary)
    crc32: Mapped[int] = mapped_column(Checksum)  # of the row's own values
    segments_crc32: Mapped[int] = mapped_column(Checksum)  # of the segments' values that are no blobs


class ScoreSegment(Base):
    """Up to some thousand attempts of a finished evaluation as columns; see ``segments.py``.

    Made from ``sample`` and ``score`` alone, and so never lost for good. Attempts of a segment are alike in
    ``success`` and in whether they have a JSΔ, and ascend by it.
    """

    __tablename__ = "score_segment"
    __table_args__ = ({"sqlite_strict": True},)

    evaluation_id: Mapped[int] = mapped_column(ForeignKey("evaluation.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    n: Mapped[int]
    success: Mapped[int] = mapped_column(Small)
    js_delta_min: Mapped[float | None]  # null where the segment's label pairs have no usable baseline
    js_delta_max: Mapped[float | None]
    checksums: Mapped[bytes] = mapped_column(LargeBinary)  # a CRC-32 of each of the blobs, in their order
    # One value per attempt, little-endian: unsigned integers as narrow as possible, and doubles. What every
    # question needs comes first, then the narrow ones: SQLite reads a row from its front.
    sample_index: Mapped[bytes] = mapped_column(LargeBinary)
    label_pair: Mapped[bytes] = mapped_column(LargeBinary)  # source label · classes + target label
    n_right: Mapped[bytes] = mapped_column(LargeBinary)
    js_delta: Mapped[bytes] = mapped_column(LargeBinary)
    # Null in segments from before there were such columns, and where rows lack a value. Doubles where a
    # threshold decides; ``confidence`` is float32, and so are the last two, of a value for each evaluator.
    n_at_target: Mapped[bytes | None] = mapped_column(LargeBinary)
    n_at_target_adv: Mapped[bytes | None] = mapped_column(LargeBinary)
    n_right_adv: Mapped[bytes | None] = mapped_column(LargeBinary)
    confidence: Mapped[bytes | None] = mapped_column(LargeBinary)
    js_of_mean: Mapped[bytes | None] = mapped_column(LargeBinary)
    js_attacked: Mapped[bytes | None] = mapped_column(LargeBinary)
    member_js: Mapped[bytes | None] = mapped_column(LargeBinary)
    js_of_mean_without: Mapped[bytes | None] = mapped_column(LargeBinary)


# Tables whose rows a process owns; an evaluation's owner is one of those that work on it.
LEASED = (Dataset, Model, Evaluation, AttackChunk, EvaluationChunk)
# Tables made from others: not exported, made again instead.
DERIVED = (ImageCount, ScoreSegment)
