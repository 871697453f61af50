"""Rate of ``jsdelta attack`` with scoring, storing and logging, beside the bare engine's."""

import importlib
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from attack_models import IMAGE_SHAPE
from sqlalchemy import event, text
from sqlalchemy.orm import Session
from torch import Tensor
from torch.nn import functional as F

from jsdelta_db.compute import data
from jsdelta_db.compute.attacks import Steps
from jsdelta_db.compute.attacks.balls import Ball
from jsdelta_db.compute.attacks.objectives import Objective
from jsdelta_db.compute.data import Dataset, Split
from jsdelta_db.compute.data.cifar import load_cifar10
from jsdelta_db.compute.data.dataset import stratified_split
from jsdelta_db.compute.data.digits import load_digits
from jsdelta_db.config.attack import AttackConfig
from jsdelta_db.config.locations import resolve_workspace
from jsdelta_db.config.recipes import Recipe
from jsdelta_db.config.training import TrainConfig
from jsdelta_db.pipeline.attack import attack_and_score
from jsdelta_db.pipeline.train import train_ensemble
from jsdelta_db.workbench.workbench import Workbench, open_workbench

MEMBERS, EPOCHS = 5, 6
IMAGES, STEPS, EPS = 1000, 100, 4 / 255
BARE_STEPS = 20  # of the bare engine before each chunk
BASELINE_IMAGES = 300
TRAIN_IMAGES = 1000  # of the real CIFAR-10: what the members know does not change what a step costs


@dataclass(slots=True)
class Clock:
    """When the attack's first chunk began and when it last wrote; the bare engine takes turns with it.

    Before each chunk the bare engine makes a few steps from the same start on the same images, so that
    both meet the same neighbours; its turns are taken out of the attack's time.
    """

    begun: float = 0.0
    written: float = 0.0
    bare_s: float = 0.0
    bare_image_steps: int = 0

    def starting(self, perturb: Callable[..., Any]) -> Callable[..., Any]:
        """Note when the first chunk begins."""

        def chunk(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 whatever perturb() takes
            self.begun = self.begun or time.perf_counter()
            return perturb(*arguments, **options)

        return chunk

    def beside(self, pgd: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """Let the bare engine make a few steps first."""

        def both(
            objective: Objective,
            ball: Ball,
            start: Tensor,
            steps: Steps,
            **options: Any,  # noqa: ANN401 whatever else pgd() takes
        ) -> Tensor:
            now = time.perf_counter()
            found = pgd(objective, ball, start, replace(steps, count=BARE_STEPS), **options)
            if found.is_cuda:
                torch.cuda.synchronize()
            self.bare_s += time.perf_counter() - now
            self.bare_image_steps += len(found) * BARE_STEPS
            return pgd(objective, ball, start, steps, **options)

        return both

    def note_write(self, session: Session) -> None:
        """Remember the last commit, whether the store's or MLflow's."""
        del session
        self.written = time.perf_counter()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Watch the program inside the block."""
        sources = importlib.import_module("jsdelta_db.pipeline.evaluation.sources")
        engine = importlib.import_module("jsdelta_db.compute.attacks.perturb")
        perturb, pgd = sources.perturb, engine.pgd
        sources.perturb, engine.pgd = self.starting(perturb), self.beside(pgd)  # type: ignore[attr-defined]
        event.listen(Session, "after_commit", self.note_write)
        try:
            yield
        finally:
            event.remove(Session, "after_commit", self.note_write)
            sources.perturb, engine.pgd = perturb, pgd  # type: ignore[attr-defined]


def enlarged_digits(data_dir: Path, *, download: bool = False) -> Dataset:
    """Return the digits as three channels of 32×32, divided so that enough are there to attack."""
    digits = load_digits(data_dir, download=download)
    parts = digits.splits.values()
    small, labels = (torch.cat(each) for each in zip(*((p.images, p.labels) for p in parts), strict=True))
    images = F.interpolate(small, size=IMAGE_SHAPE[1:], mode="bilinear").expand(-1, IMAGE_SHAPE[0], -1, -1)
    sizes = {"train": len(labels) - BASELINE_IMAGES - IMAGES, "baseline": BASELINE_IMAGES, "attack": IMAGES}
    rows = stratified_split(labels.numpy(), tuple(sizes.values()), "benchmark")
    splits = {
        name: Split(images[part].contiguous(), labels[part], part)
        for name, part in zip(sizes, rows, strict=True)
    }
    return replace(digits, mean=digits.mean * 3, std=digits.std * 3, splits=splits)


def short_cifar10(data_dir: Path, *, download: bool = False) -> Dataset:
    """Return CIFAR-10 with fewer images to train on."""
    whole = load_cifar10(data_dir, download=download)
    train = whole.splits["train"]
    short = Split(train.images[:TRAIN_IMAGES], train.labels[:TRAIN_IMAGES], train.index[:TRAIN_IMAGES])
    return replace(whole, splits={**whole.splits, "train": short})


def measure_end_to_end(device: str, data_dir: Path | None, say: Callable[[str], None]) -> dict[str, Any]:
    """Train five members, attack the first, and compare with the bare engine.

    Args:
        data_dir: folder of the real CIFAR-10; the digits at its size if None.
    """
    dataset = "digits" if data_dir is None else "cifar10"
    loader, data.LOADERS[dataset] = (
        data.LOADERS[dataset],
        enlarged_digits if data_dir is None else short_cifar10,
    )
    train = TrainConfig(
        dataset=dataset, arch="resnet20", epochs=EPOCHS, batch_size=32, learning_rate=0.1, device=device
    )
    config = AttackConfig(eps=EPS, steps=STEPS, images=IMAGES, device=device)
    clock = Clock()
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            open_workbench(resolve_workspace(Path(folder), data_dir)) as bench,
        ):
            say(f"training {MEMBERS} members on {dataset}")
            threads = torch.get_num_threads()
            torch.set_num_threads(1)  # small batches: a second thread mostly waits
            train_ensemble(bench, Recipe("benchmark", "", MEMBERS, train))
            torch.set_num_threads(threads)
            say("one step on every image: clean logits and baselines")
            begun = time.perf_counter()
            attack_and_score(bench, [replace(config, steps=1)])
            first_s = time.perf_counter() - begun
            say(f"{STEPS} steps on {IMAGES} images")
            begun = time.perf_counter()
            with clock.running():
                attack_and_score(bench, [config])
            whole_s = time.perf_counter() - begun - clock.bare_s
            made = _attempts(bench)
    finally:
        data.LOADERS[dataset] = loader
    places = -(-made["n_attempts"] // made["chunk_size"]) * made["chunk_size"]
    attack_s = clock.written - clock.begun - clock.bare_s
    bare_rate = clock.bare_image_steps / clock.bare_s
    return {
        "share_of_bare_rate": round(made["n_attempts"] * STEPS / attack_s / bare_rate, 3),
        "places_filled": round(made["n_attempts"] / places, 3),  # the last chunk is padded
        "image_steps_per_s": round(made["n_attempts"] * STEPS / attack_s),
        "bare_image_steps_per_s": round(bare_rate),
        "attack_s": round(attack_s, 1),
        "start_up_s": round(clock.begun - begun, 1),
        "close_s": round(whole_s - attack_s - (clock.begun - begun), 1),
        "first_attack_s": round(first_s, 1),
        "images": IMAGES, "steps": STEPS, "dataset": dataset, "model": "resnet20", **made,
    }  # fmt: skip


def _attempts(bench: Workbench) -> dict[str, Any]:
    with bench.store.reading() as connection:
        row = connection.execute(
            text("SELECT n_attempts, chunk_size, dtype, device, threads FROM attack WHERE steps = :steps"),
            {"steps": STEPS},
        ).one()
    return dict(row._mapping)
