"""Models in use: networks loaded when first needed, outputs computed once and stored."""

import io
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from jsdelta_db.compute.attacks import PreparedModel, prepare
from jsdelta_db.compute.attacks.preflight import check_model
from jsdelta_db.compute.data import Dataset, Split
from jsdelta_db.compute.metrics import compare_labels, fit_temperature
from jsdelta_db.compute.models import build_model, load_checkpoint, predict
from jsdelta_db.compute.models.equivalence import probe_images
from jsdelta_db.compute.models.external import build_external
from jsdelta_db.compute.models.factories import check_source
from jsdelta_db.compute.models.memory_order import arrange
from jsdelta_db.compute.models.sharpness import RADIUS, sharpness
from jsdelta_db.compute.models.zoo import check_outputs
from jsdelta_db.config.consent import require_consent
from jsdelta_db.config.evaluation import TEMPERATURE_ONE
from jsdelta_db.config.training import TrainConfig
from jsdelta_db.errors import CheckpointError, StoreError, UsageError
from jsdelta_db.records import FOLDED, PLAIN, ImageMeans, LabelPair
from jsdelta_db.runtime.devices import dtype_name, resolve_dtype
from jsdelta_db.runtime.files import write_atomically
from jsdelta_db.store import runs
from jsdelta_db.store.baselines import read_model_baselines, write_model_baselines
from jsdelta_db.store.schema import Dataset as DatasetRow
from jsdelta_db.store.schema import Model, ModelLogits, ModelMetric
from jsdelta_db.workbench.datasets import open_root
from jsdelta_db.workbench.model_files import read_logits
from jsdelta_db.workbench.workbench import Workbench

PREFLIGHT_IMAGES = 8  # enough to see a fault


class LoadedModel:
    """A finished model of the store on one data set; what was computed of it before is read.

    Attributes:
        row: the model.
        dataset: the images that it is asked about.
    """

    def __init__(
        self, bench: Workbench, row: Model, dataset: Dataset, dataset_id: int, device: torch.device
    ) -> None:
        self.row, self.dataset, self.device = row, dataset, device
        self._bench, self._dataset_id = bench, dataset_id
        self._logits: dict[str, NDArray[np.float32]] = {}
        self._prepared: dict[tuple[str, str | None], PreparedModel] = {}

    @property
    def title(self) -> str:
        """Name for people."""
        return self.row.title

    @cached_property
    def network(self) -> nn.Module:
        """The network with its verified weights, in eval mode on the device; takes images in [0, 1].

        Raises:
            CodeError: the row names code of somebody's, and the user did not agree to run it.
            ModelError: the file of that code was edited since.
            CheckpointError: the file is missing, cut short or altered.
            ModelOutputError: its outputs are not finite logits.
        """
        check_source(self.row.recipe)
        require_consent(_code(self.row), is_given=self._bench.trusts_code)
        network = _build(self.row, self.dataset)
        path = self._bench.locate(self.row.checkpoint_uri or "")
        load_checkpoint(network, path, self.row.checkpoint_sha256 or "")
        check_outputs(network, self.dataset, f"{self.row.architecture}, {self.title}")
        return arrange(network.to(self.device), self._probe_images)

    def check_gradients(self, split: str) -> None:
        """Run the preflight checks on a few images.

        Raises:
            ModelError: outputs or gradients that no attack can use.
        """
        check_network(self.network, self.dataset.splits[split], self.device, self.title)

    def prepared(self, dtype: str, prepared_as: str | None = None) -> PreparedModel:
        """Return the frozen copy that gradient steps run on.

        Args:
            dtype: inside the copy; where that does not compute what the model does, float32 is taken.
            prepared_as: ``folded`` or ``plain``, as it was decided before; None to decide.
        """
        key = dtype, prepared_as
        if key not in self._prepared:
            made = prepare(self.network, self._probe_images, resolve_dtype(dtype, self.device), prepared_as)
            if made.note is not None:
                self._say(made.note)
            made.capture.tell = self._say
            self._prepared[key] = self._prepared[dtype_name(made.dtype), made.prepared_as] = made
        return self._prepared[key]

    def _say(self, line: str) -> None:
        self._bench.progress.report(f"{self.title}: {line}")

    @cached_property
    def _probe_images(self) -> Tensor:
        return probe_images(self.dataset.splits["baseline"], self.device)

    def logits(self, split: str) -> NDArray[np.float32]:
        """Return its clean logits on a whole split ``(n, classes)``, computed once and stored."""
        if split not in self._logits:
            self._logits[split] = self._read_logits(split)
        return self._logits[split]

    def on_images(self, split: str, index: NDArray[np.int64]) -> tuple[Tensor, NDArray[np.float32]]:
        """Return images of a split by their index, float32 ``(n, c, h, w)``, and its logits on them."""
        images = self.dataset.splits[split]
        rows = images.rows_of(index)
        return images.batch(rows), self.logits(split)[rows]

    def _read_logits(self, split: str) -> NDArray[np.float32]:
        key = {"model_id": self.row.id, "dataset_id": self._dataset_id, "split": split}
        with self._bench.store.read_session() as session:
            stored = session.get(ModelLogits, key)
        if stored is not None:
            with suppress(CheckpointError):  # a file that is gone or altered is made again
                return read_logits(self._bench.workspace, stored)
        logits = predict(self.network, self.dataset.splits[split], self.device)
        buffer = io.BytesIO()
        np.save(buffer, logits, allow_pickle=False)
        path = self._bench.locate(self.row.checkpoint_uri or "").with_name(f"logits-{split}.npy")
        sha256 = write_atomically(path, buffer.getvalue())
        with self._bench.store.transaction() as session:
            runs.serialize(session, f"logits of {self.row.uid}, {split}")
            session.merge(ModelLogits(**key, uri=self._bench.relative(path), sha256=sha256))
        self._bench.tracker.reattach(self.row.mlflow_run_id, path.parent).file(path)
        return logits

    def measure_sharpness(self) -> None:
        """Measure how sharp its minimum is on the baseline split, once, and store it."""
        with self._bench.store.read_session() as session:
            if session.get_one(Model, self.row.id).sharpness is not None:
                return
        split = self.dataset.splits["baseline"]
        value = sharpness(self.network, split, self.device)
        with self._bench.store.transaction() as session:
            session.get_one(Model, self.row.id).sharpness = value
            session.merge(
                ModelMetric(
                    model_id=self.row.id, dataset_id=self._dataset_id, split="baseline", name="sharpness",
                    norm="l2", eps=RADIUS, steps=1, value=value, n=len(split),
                )
            )  # fmt: skip

    def temperature(self, rule: str) -> float:
        """Return its softmax temperature: 1, or the likeliest on the baseline split."""
        if rule == TEMPERATURE_ONE:
            return 1.0
        return fit_temperature(self.logits("baseline"), self.dataset.splits["baseline"].labels.numpy())

    def baselines(self, pairs: Iterable[LabelPair], temperature_rule: str) -> dict[LabelPair, ImageMeans]:
        """Return its baselines for some label pairs, computed once per rule and stored."""
        key = {
            "model_id": self.row.id, "dataset_id": self._dataset_id, "split": "baseline",
            "temperature_rule": temperature_rule,
        }  # fmt: skip
        wanted = set(pairs)
        with self._bench.store.read_session() as session:
            means = read_model_baselines(session, key=key, pairs=wanted)
        missing = sorted(wanted - set(means))
        if missing:
            labels, temperature = self.dataset.splits["baseline"].labels, self.temperature(temperature_rule)
            computed = compare_labels(self.logits("baseline"), labels.numpy(), missing, temperature)
            with self._bench.store.transaction() as session:
                runs.serialize(session, f"baselines of {self.row.uid}")
                write_model_baselines(session, key=key, means=computed)
            means.update(computed)
        return {pair: means[pair] for pair in wanted if pair in means}


def _code(row: Model) -> str:
    """Return the name of what builds a model."""
    return str(row.recipe.get("factory" if row.name is not None else "arch", row.architecture))


def _build(row: Model, dataset: Dataset) -> nn.Module:
    if row.name is not None:  # added, not trained here
        return build_external(row.recipe, dataset)
    try:
        config = TrainConfig(**row.recipe)
    except TypeError as error:
        raise StoreError(
            f"the recipe of model {row.uid} cannot be read ({error}); see jsdelta db check"
        ) from error
    return build_model(config.arch, dataset, width=config.width, seed=row.seed)


def open_models(
    bench: Workbench, dataset_row: DatasetRow, device: str
) -> tuple[Dataset, Callable[[Model], LoadedModel]]:
    """Load a data set that is nobody's child, and return a function that loads its models, each once."""
    dataset = open_root(bench.workspace, dataset_row)
    resolved = bench.device(device)
    loaded: dict[int, LoadedModel] = {}

    def load(row: Model) -> LoadedModel:
        if row.id not in loaded:
            loaded[row.id] = LoadedModel(bench, row, dataset, dataset_row.id, resolved)
        return loaded[row.id]

    return dataset, load


@dataclass(frozen=True, slots=True)
class Preparation:
    """What gradient steps run on, as rows record it: decided once, and the same when work is resumed."""

    dtype: str
    prepared_as: str


def decide_preparation(models: Sequence[LoadedModel], requested: str) -> Preparation:
    """Decide what the steps of one attack or construction run on; all of its models alike.

    Args:
        requested: ``auto``, ``float32`` or ``bfloat16``.

    Raises:
        UsageError: bfloat16 was asked for, and the machine lacks it or a model does not allow it.
    """
    dtype = dtype_name(resolve_dtype(requested, models[0].device))
    made = [each.prepared(dtype) for each in models]
    for model, each in zip(models, made, strict=True):
        if requested == "bfloat16" and dtype_name(each.dtype) != requested:
            raise UsageError(
                f"--dtype 'bfloat16' does not fit {model.title} ({each.reason}): must be float32 or auto"
            )
    if any(dtype_name(each.dtype) != dtype for each in made):
        dtype = "float32"
    return Preparation(dtype, PLAIN if any(each.prepared_as == PLAIN for each in made) else FOLDED)


def check_network(network: nn.Module, split: Split, device: torch.device, title: str) -> None:
    """Run the preflight checks on a few images of a split.

    Raises:
        ModelError: outputs or gradients that no attack can use.
    """
    few = slice(0, min(PREFLIGHT_IMAGES, len(split)))
    check_model(network, split.batch(few).to(device), split.labels[few].to(device), title)
