"""External models: networks trained elsewhere, entered as models like any other."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session
from torch import nn

from jsdelta_db.compute import data
from jsdelta_db.compute.data import Dataset
from jsdelta_db.compute.models import save_checkpoint
from jsdelta_db.compute.models.external import ExternalModel, build_external, load_external
from jsdelta_db.compute.training import accuracy
from jsdelta_db.config.checks import check_device
from jsdelta_db.config.consent import give_consent
from jsdelta_db.config.evaluation import lowest_accuracy
from jsdelta_db.config.hashing import config_hash
from jsdelta_db.config.names import check_name, check_text
from jsdelta_db.errors import ModelError, UnknownNameError, UsageError
from jsdelta_db.runtime.devices import resolve_device
from jsdelta_db.runtime.files import sha256_of
from jsdelta_db.store import runs
from jsdelta_db.store.schema import FINISHED, Ensemble, Model
from jsdelta_db.workbench.datasets import enter_dataset
from jsdelta_db.workbench.models import check_network
from jsdelta_db.workbench.workbench import Workbench

Normalization = tuple[float, ...] | str | None


@dataclass(frozen=True, slots=True)
class ExternalRequest:
    """A network made elsewhere, as a user names it.

    Attributes:
        name: to call it by.
        factory: ``module:callable``, called with those of num_classes, in_channels and image_size that
            it takes.
        checkpoint: a saved state dict; it is copied into the workspace.
        dataset: name of the builtin data set that it is for.
        mean, std: normalization of images in [0, 1], per channel; ``dataset`` for the data set's own,
            None for no normalization.
        method, seed: of its training, for people.
        force: add it though its accuracy is chance.
        device: where its accuracy is measured.
    """

    name: str
    factory: str
    checkpoint: Path
    dataset: str
    mean: Normalization = None
    std: Normalization = None
    method: str = "external"
    seed: int = 0
    force: bool = False
    device: str = "auto"


@dataclass(frozen=True, slots=True)
class ExternalNetwork:
    """A network that passed the preflight checks, with the recipe that builds it again.

    Attributes:
        accuracy: on the attack split.
    """

    dataset: Dataset
    recipe: dict[str, Any]
    network: nn.Module
    accuracy: float


def add_model(bench: Workbench, request: ExternalRequest) -> tuple[Model, bool]:
    """Add a network as a model that may be attacked or judge; the same one is found, not added twice.

    Returns:
        The row, and whether it is new.

    Raises:
        UsageError: a name that is taken or does not exist, or a normalization that is not valid.
        ModelError: the network cannot be built, loaded or used, or has learned nothing.
    """
    bench.device(request.device)  # says so where no card can be used
    opened = open_external(bench.workspace.data_dir, request)
    name, recipe, origin = request.name, opened.recipe, {"method": request.method, "seed": request.seed}
    facts = {"kind": "external", "sha256": sha256_of(request.checkpoint.read_bytes()), **origin}
    with bench.store.transaction() as session:
        dataset_row = enter_dataset(session, opened.dataset)
        key = config_hash({**facts, **recipe}, [dataset_row.uid])
        known = _find_known(session, name, key)
    if known is not None:
        return known, False
    row = Model(
        uid=runs.new_uid(), config_hash=key, created_at=runs.now(), finished_at=runs.now(), name=name,
        dataset_id=dataset_row.id, recipe_name=name, recipe=recipe, architecture=request.factory, **origin,
        clean_accuracy=opened.accuracy, status=FINISHED,
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
    return row, True


def open_external(data_dir: Path, request: ExternalRequest) -> ExternalNetwork:
    """Build a network and run the preflight checks; needs no store and makes nothing.

    Raises:
        UsageError, ModelError: see :func:`add_model`.
    """
    name = check_name("model name", request.name)
    check_text("--method", request.method)
    check_device(request.device)
    device = resolve_device(request.device)
    if request.dataset not in data.LOADERS:
        raise UnknownNameError("dataset", request.dataset, data.LOADERS)
    dataset = data.load(request.dataset, data_dir)
    give_consent(request.factory)  # by typing it
    recipe = ExternalModel(request.factory, *_normalization(dataset, request.mean, request.std)).as_recipe()
    network = load_external(build_external(recipe, dataset), request.checkpoint)
    network.to(device)
    check_network(network, dataset.splits["attack"], device, name)
    found = accuracy(network, dataset.splits["attack"], device)
    needed = lowest_accuracy(len(dataset.classes))
    if found < needed and not request.force:
        raise ModelError(
            f"model {name} has an accuracy of {found:.1%} on {dataset.name!r}, which is chance: must be "
            f"{needed:.1%} or more; is --mean/--std missing? --force adds it all the same"
        )
    return ExternalNetwork(dataset, recipe, network, found)


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
