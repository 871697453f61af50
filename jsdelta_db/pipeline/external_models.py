"""External models: networks trained elsewhere, entered as models like any other."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session
from torch import nn

from jsdelta_db.compute import data
from jsdelta_db.compute.data import Dataset
from jsdelta_db.compute.models import save_checkpoint
from jsdelta_db.compute.models.checkpoint import serialize
from jsdelta_db.compute.models.checkpoint_file import load_weights
from jsdelta_db.compute.models.external import (
    LOGITS,
    Adapted,
    ExternalModel,
    build_external,
    build_with_own_weights,
    check_declared_outputs,
)
from jsdelta_db.compute.models.factories import name_for_rows, short_name
from jsdelta_db.compute.training import accuracy
from jsdelta_db.config.checks import OUTPUTS, check, check_choice, check_device, is_whole
from jsdelta_db.config.consent import give_consent
from jsdelta_db.config.evaluation import lowest_accuracy
from jsdelta_db.config.hashing import config_hash
from jsdelta_db.config.names import check_name, check_text
from jsdelta_db.errors import ModelError, UnknownNameError, UsageError
from jsdelta_db.runtime.devices import resolve_device
from jsdelta_db.runtime.files import sha256_of
from jsdelta_db.store import runs
from jsdelta_db.store.schema import FINISHED, Ensemble, Model, ModelMetric
from jsdelta_db.store.schema import Dataset as DatasetRow
from jsdelta_db.workbench.datasets import enter_dataset, open_dataset, root_of
from jsdelta_db.workbench.models import PREFLIGHT_IMAGES, check_network
from jsdelta_db.workbench.workbench import Workbench

LARGEST_SIZE = 4096  # pixels of a side: no network takes more
Normalization = tuple[float, ...] | str | None


@dataclass(frozen=True, slots=True)
class ExternalRequest:
    """A network made elsewhere, as a user names it.

    Attributes:
        name: to call it by.
        factory: ``torchvision:NAME``, ``timm:NAME``, ``module:callable`` or ``path/to/file.py:callable``; it
            is called with those of num_classes, in_channels and image_size that it takes.
        checkpoint: a training script's file, whose weights are copied into the workspace; None for the
            weights that the factory gives the network.
        dataset: name of the data set that it is for.
        mean, std: normalization of images in [0, 1], per channel; ``dataset`` for the data set's own,
            None for no normalization.
        method, seed: of its training, for people; weights that a factory draws at random have the seed.
        force: add it though its accuracy is chance.
        arguments: of the factory.
        outputs: what it returns: ``logits``, ``probs`` or ``log-probs``.
        resize: height and width that images get first; None for those that they have.
        device: where its accuracy is measured.
    """

    name: str
    factory: str
    checkpoint: Path | None
    dataset: str
    mean: Normalization = None
    std: Normalization = None
    method: str = "external"
    seed: int = 0
    force: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)
    outputs: str = LOGITS
    resize: int | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        check_name("model name", self.name)
        check_text("--method", self.method)
        check_choice("--outputs", self.outputs, OUTPUTS)
        check_device(self.device)
        size_ok = self.resize is None or (is_whole(self.resize, 1) and self.resize <= LARGEST_SIZE)
        check("--resize", self.resize, size_ok, f"a whole number from 1 to {LARGEST_SIZE}")


@dataclass(frozen=True, slots=True)
class ExternalNetwork:
    """A network that passed the preflight checks, with the recipe that builds it again.

    Attributes:
        dataset_row: None for a builtin data set, which the store may not know yet.
        accuracies: on the baseline and on the attack split.
        notes: what people should know of how it was read.
    """

    dataset: Dataset
    dataset_row: DatasetRow | None
    recipe: dict[str, Any]
    network: nn.Module
    accuracies: Mapping[str, float]
    notes: Sequence[str]


def add_model(
    bench: Workbench, request: ExternalRequest, opened: ExternalNetwork | None = None
) -> tuple[Model, bool]:
    """Add a network as a model that may be attacked or judge; the same one is found, not added twice.

    Args:
        opened: what :func:`open_external` made of the request, if that was done before.

    Returns:
        The row, and whether it is new.

    Raises:
        UsageError: a name that is taken or does not exist, or a normalization that is not valid.
        ModelError: the network cannot be built, loaded or used, or has learned nothing.
    """
    bench.device(request.device)  # says so where no card can be used
    opened = opened or open_network(bench, request)
    for line in opened.notes:
        bench.progress.report(line)
    name, recipe, origin = request.name, opened.recipe, {"method": request.method, "seed": request.seed}
    facts = {"kind": "external", "sha256": _hash_weights(opened.network, request.checkpoint), **origin}
    with bench.store.transaction() as session:
        dataset_row = opened.dataset_row or enter_dataset(session, opened.dataset)
        key = config_hash({**facts, **recipe}, [dataset_row.uid])
        known = _find_known(session, name, key)
    if known is not None:
        return known, False
    row = Model(
        uid=runs.new_uid(), config_hash=key, created_at=runs.now(), finished_at=runs.now(), name=name,
        dataset_id=dataset_row.id, recipe_name=name, recipe=recipe, **origin,
        architecture=short_name(request.factory), clean_accuracy=opened.accuracies["attack"], status=FINISHED,
    )  # fmt: skip
    run = bench.tracker.start(f"model {name}", uid=row.uid, params={**recipe, **origin})
    with run.closing():
        path = run.folder / "checkpoint.pt"
        row.checkpoint_sha256, row.checkpoint_uri = (
            save_checkpoint(opened.network, path),
            bench.relative(path),
        )
        run.file(path)
        run.metrics({"clean_accuracy": row.clean_accuracy})
        row.mlflow_run_id = run.logged_id
        with bench.store.transaction() as session:
            session.add(row)
            session.flush()
            session.add_all(_list_metrics(row, root_of(session, dataset_row), opened))
    return row, True


def open_before_store(
    data_dir: Path, request: ExternalRequest, known: Iterable[str] = data.LOADERS
) -> ExternalNetwork | None:
    """Open a network before a store is made for it; None if its data set is in a store already.

    Args:
        known: names of data sets, also of those in the store.

    Raises:
        UsageError, ModelError: see :func:`add_model`.
    """
    if request.dataset not in known:
        raise UnknownNameError("dataset", request.dataset, known)
    if request.dataset not in data.LOADERS:
        return None
    return open_external(data.load(request.dataset, data_dir), None, request)


def open_network(bench: Workbench, request: ExternalRequest) -> ExternalNetwork:
    """Open a network for any data set.

    Raises:
        UsageError, ModelError: see :func:`add_model`.
    """
    if request.dataset in data.LOADERS:  # entered with the model, not before
        return open_external(data.load(request.dataset, bench.workspace.data_dir), None, request)
    return open_external(*open_dataset(bench, request.dataset), request)


def open_external(
    dataset: Dataset, dataset_row: DatasetRow | None, request: ExternalRequest
) -> ExternalNetwork:
    """Build a network and run the preflight checks; needs no store and makes nothing.

    Raises:
        UsageError, ModelError: see :func:`add_model`.
    """
    factory, source_sha256 = name_for_rows(request.factory)
    give_consent(factory)  # by typing it
    recipe = ExternalModel(
        factory, *_normalization(dataset, request.mean, request.std), request.arguments, request.outputs,
        request.resize, source_sha256,
    ).as_recipe()  # fmt: skip
    network, notes = _load(recipe, dataset, request)
    device = resolve_device(request.device)
    network.to(device)
    few = dataset.splits["attack"].batch(slice(0, PREFLIGHT_IMAGES)).to(device)
    note = check_declared_outputs(network, few, request.name)
    check_network(network, dataset.splits["attack"], device, request.name)
    found = accuracy(network, dataset.splits["baseline"], device)
    if not request.force:
        _check_accuracy(found, dataset, request)
    accuracies = {"baseline": found, "attack": accuracy(network, dataset.splits["attack"], device)}
    return ExternalNetwork(dataset, dataset_row, recipe, network, accuracies, [*notes, *filter(None, [note])])


def _load(
    recipe: Mapping[str, Any], dataset: Dataset, request: ExternalRequest
) -> tuple[Adapted, Sequence[str]]:
    """Return the network with its weights, and what was stripped from their file."""
    if request.checkpoint is None:
        return build_with_own_weights(recipe, dataset, request.seed), ()
    network = build_external(recipe, dataset)
    return network, load_weights(network.network, request.checkpoint)


def _check_accuracy(found: float, dataset: Dataset, request: ExternalRequest) -> None:
    """Refuse a network that has learned nothing, as far as one can tell.

    Raises:
        ModelError: says what to check.
    """
    needed = lowest_accuracy(len(dataset.classes))
    if found < needed:
        is_bare = request.checkpoint is None
        weights = "that it has learned (--checkpoint, or --set weights=DEFAULT), " if is_bare else ""
        raise ModelError(
            f"model {request.name} has an accuracy of {found:.1%} on the baseline split of "
            f"{dataset.name!r}, which is chance: must be {needed:.1%} or more; check {weights}--mean and "
            "--std, the value range that it was trained on (here images are in [0, 1]), and the order of its "
            "labels and of its channels (RGB); --force adds it all the same"
        )


def _hash_weights(network: nn.Module, checkpoint: Path | None) -> str:
    return sha256_of(serialize(network) if checkpoint is None else checkpoint.read_bytes())


def _list_metrics(row: Model, root: DatasetRow, opened: ExternalNetwork) -> list[ModelMetric]:
    """Return a model's accuracies as rows; the held-out images are those of the data set at the start."""
    return [
        ModelMetric(
            model_id=row.id, dataset_id=root.id, split=split, name="clean_accuracy", value=value,
            n=len(opened.dataset.splits[split]),
        )
        for split, value in opened.accuracies.items()
    ]  # fmt: skip


def _normalization(
    dataset: Dataset, mean: Normalization, std: Normalization
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the means to subtract and the deviations to divide by.

    Raises:
        UsageError: a value that no normalization has.
    """
    means = dataset.mean if mean == "dataset" else mean or (0.0,)
    stds = dataset.std if std == "dataset" else std or (1.0,)
    assert not isinstance(means, str)
    assert not isinstance(stds, str)
    if not all(0.0 <= value <= 1.0 for value in means):
        raise UsageError(f"--mean {means} is out of range: must be [0, 1], the range of the images")
    if not all(0.0 < value <= 1.0 for value in stds):
        raise UsageError(f"--std {stds} is out of range: must be (0, 1], the range of the images")
    return means, stds


def _find_known(session: Session, name: str, key: str) -> Model | None:
    """Return the model if it was added before.

    Raises:
        UsageError: another one has this name, or this one has another name.
    """
    runs.serialize(session, f"model {name}")
    named = session.scalars(select(Model).where(Model.name == name)).first()
    same = session.scalars(select(Model).where(Model.config_hash == key)).first()
    ensembles = select(Ensemble).where(Ensemble.name == name, Ensemble.status == FINISHED)
    if session.scalars(ensembles).first() is not None:
        raise UsageError(f"there is an ensemble {name!r}; choose another name")
    if named is not None and (same is None or named.id != same.id):
        raise UsageError(f"there is another model {name!r} ({named.uid}); choose another name")
    if same is not None and same.name != name:
        raise UsageError(f"this model was added as {same.name!r} ({same.uid}); use that name")
    return same
