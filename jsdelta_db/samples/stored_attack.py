"""Stored attacks, read back from rows and files: no network is loaded and nothing is written."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, and_, select
from sqlalchemy.orm import Session

from jsdelta_db.compute.attacks import apply_delta
from jsdelta_db.compute.data import Dataset
from jsdelta_db.config.locations import Workspace
from jsdelta_db.errors import CheckpointError, NothingToDoError
from jsdelta_db.records import FILE_SPLIT
from jsdelta_db.samples.chunk_files import Key, StoredFile, gather
from jsdelta_db.store.attempts import IS_COUNTED
from jsdelta_db.store.schema import (
    Attack,
    AttackChunk,
    Evaluation,
    EvaluationChunk,
    EvaluationMember,
    Model,
    ModelLogits,
    Sample,
    Score,
)
from jsdelta_db.store.schema import Dataset as DatasetRow
from jsdelta_db.workbench.datasets import open_root
from jsdelta_db.workbench.model_files import read_logits


@dataclass(frozen=True, slots=True)
class StoredRows:
    """Attempts of an attack as the store has them; each array is ``(n,)``.

    Attributes:
        requested_target: the label aimed at, −1 when untargeted.
        target_label: the label aimed at, or reached when untargeted.
        success: and within ε (``store/outside.py``).
        confidence: the attacked model's probability of ``target_label`` on x_adv.
        js_delta: NaN where nobody judged, or where the label pair has no baseline.
    """

    sample_index: NDArray[np.int64]
    requested_target: NDArray[np.int64]
    source_label: NDArray[np.int64]
    target_label: NDArray[np.int64]
    success: NDArray[np.bool_]
    confidence: NDArray[np.float64]
    js_delta: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.sample_index)

    def pick(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> "StoredRows":
        """Return some of them."""
        return StoredRows(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True, slots=True)
class StoredImages:
    """Images of some attempts, float32 ``(n, c, h, w)`` in [0, 1], as they were scored.

    Attributes:
        logits: the attacked model's on x_adv, float32 ``(n, classes)``.
    """

    x: NDArray[np.float32]
    x_adv: NDArray[np.float32]
    logits: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class StoredOpinion:
    """One evaluator's outputs on some attempts: float32 logits ``(n, classes)``, and js ``(n,)`` in bits."""

    evaluator: str
    temperature: float
    clean_logits: NDArray[np.float32]
    logits: NDArray[np.float32]
    js: NDArray[np.float32]


class StoredAttack:
    """A finished attack whose perturbations are stored, and one evaluation of it.

    Attributes:
        attack, attacked: the attack and the model that it was made against.
        dataset_row: of the data set that the images are from.
        evaluation: None where nobody judged.
    """

    def __init__(
        self, session: Session, workspace: Workspace, attack: Attack, evaluation: Evaluation | None
    ) -> None:
        self.attack, self.evaluation = attack, evaluation
        self.attacked = session.get_one(Model, attack.attacked_model_id)
        self.dataset_row = session.get_one(DatasetRow, attack.dataset_id)
        self._session, self._workspace = session, workspace

    @property
    def classes(self) -> list[str]:
        """Names of the labels."""
        return self.dataset_row.classes

    @cached_property
    def _dataset(self) -> Dataset:
        return open_root(self._workspace, self.dataset_row, "that was attacked")

    def read_rows(self) -> StoredRows:
        """Return all attempts, by image and target."""
        this_score = and_(
            Score.evaluation_id == (self.evaluation.id if self.evaluation else None),
            Score.sample_index == Sample.sample_index,
            Score.requested_target == Sample.requested_target,
        )
        rows = self._session.execute(
            select(
                Sample.sample_index, Sample.requested_target, Sample.source_label, Sample.target_label,
                IS_COUNTED, Sample.confidence, Score.js_delta,
            )
            .outerjoin(Score, this_score)
            .where(Sample.attack_id == self.attack.id)
            .order_by(Sample.sample_index, Sample.requested_target)
        ).all()  # fmt: skip
        table = np.array([tuple(row) for row in rows], dtype=np.float64).reshape(-1, 7)  # None becomes NaN
        index, requested, source, target = table[:, :4].astype(np.int64).T
        return StoredRows(
            index, requested, source, target, table[:, 4].astype(bool), table[:, 5], table[:, 6]
        )

    def read_images(self, rows: StoredRows) -> StoredImages:
        """Return the images of some attempts, in their order.

        Raises:
            DataError, UsageError: the data set's files are missing, or are others than those attacked.
            CheckpointError: a file of the samples is missing or altered.
        """
        names = ("delta", "logits", *(("x",) if self.attack.split == FILE_SPLIT else ()))
        files = self._list_files(AttackChunk, AttackChunk.attack_id == self.attack.id)
        arrays = gather(self._workspace.root, files, _keys(rows), dict.fromkeys(names, 0))
        if self.attack.split != FILE_SPLIT:
            split = self._dataset.splits[self.attack.split]
            arrays["x"] = split.batch(split.rows_of(rows.sample_index)).numpy()
        x_adv = apply_delta(torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["delta"]))
        return StoredImages(arrays["x"], x_adv.numpy(), arrays["logits"])

    def read_opinions(self, rows: StoredRows) -> list[StoredOpinion]:
        """Return each evaluator's outputs on some attempts, in member order.

        Raises:
            NothingToDoError: nobody judged.
            CheckpointError: a file of the scores, or of a model's clean logits, is missing or altered.
        """
        if self.evaluation is None:
            uid = self.attack.uid
            raise NothingToDoError(
                f"attack {uid} was judged by nobody yet; run jsdelta score --attack {uid} --evaluators NAME"
            )
        members = self._session.execute(
            select(EvaluationMember, Model)
            .join(Model, Model.id == EvaluationMember.model_id)
            .where(EvaluationMember.evaluation_id == self.evaluation.id)
            .order_by(EvaluationMember.position)
        ).all()
        names = ("logits", *(("clean_logits",) if self.attack.split == FILE_SPLIT else ()))
        files = self._list_files(EvaluationChunk, EvaluationChunk.evaluation_id == self.evaluation.id)
        arrays = gather(self._workspace.root, files, _keys(rows), dict.fromkeys(names, 1))
        if "clean_logits" not in arrays:
            arrays["clean_logits"] = np.stack([self._clean_logits(model, rows) for _, model in members])
        js = self._read_member_js(self.evaluation, rows)
        return [
            StoredOpinion(
                _title(model, [other for _, other in members]), member.temperature, arrays["clean_logits"][i],
                arrays["logits"][i], js[i],
            )
            for i, (member, model) in enumerate(members)
        ]  # fmt: skip

    def _list_files(
        self, table: type[AttackChunk] | type[EvaluationChunk], condition: ColumnElement[bool]
    ) -> list[StoredFile]:
        rows = self._session.execute(
            select(table.uri, table.sha256).where(condition).order_by(table.position)
        )
        return [StoredFile(uri or "", sha256 or "") for uri, sha256 in rows]

    def _clean_logits(self, model: Model, rows: StoredRows) -> NDArray[np.float32]:
        key = {"model_id": model.id, "dataset_id": self.dataset_row.id, "split": self.attack.split}
        stored = self._session.get(ModelLogits, key)
        if stored is None:
            raise CheckpointError(
                f"the clean logits of model {model.uid} are not stored; see jsdelta db check"
            )
        logits = read_logits(self._workspace, stored)
        split = self._dataset.splits[self.attack.split]
        return np.asarray(logits[split.rows_of(rows.sample_index)])

    def _read_member_js(self, evaluation: Evaluation, rows: StoredRows) -> NDArray[np.float32]:
        """Return each evaluator's divergence, ``(evaluators, n)``."""
        stored = self._session.execute(
            select(Score.sample_index, Score.requested_target, Score.member_js).where(
                Score.evaluation_id == evaluation.id,
                Score.sample_index.in_(rows.sample_index.tolist()),
            )
        )
        packed = {(index, target): js for index, target, js in stored}
        return np.stack([np.frombuffer(packed[key], dtype="<f4") for key in _keys(rows)], axis=1)


def _keys(rows: StoredRows) -> list[Key]:
    return list(zip(rows.sample_index.tolist(), rows.requested_target.tolist(), strict=True))


def _title(model: Model, among: Sequence[Model]) -> str:
    """Return a model's title, with the start of its uid where another has the same."""
    titles = [each.title for each in among]
    return model.title if titles.count(model.title) == 1 else f"{model.title}@{model.uid[:4]}"
