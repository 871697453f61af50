"""Images a second of the training loop beside a plain DataLoader loop, and what SAM and PGD training cost.

Prints one JSON object. Images are random: what they show does not change what a step costs.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torchvision import transforms

from jsdelta_db.compute.data import Dataset, Split
from jsdelta_db.compute.models import build_model
from jsdelta_db.compute.training import Training, train
from jsdelta_db.config.training import TrainConfig
from jsdelta_db.runtime.devices import resolve_device, resolve_dtype

CLASSES = tuple("0123456789")
ROUNDS = 3


class PlainImages(TorchDataset):  # type: ignore[type-arg] # torch's own is not generic at run time
    """Images one by one, as torchvision's data sets give them: PIL, augmented, normalized."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:  # type: ignore[type-arg]
        self.images, self.labels = images, labels
        self.transform = transforms.Compose([
            transforms.ToPILImage(), transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(),
            transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.25,) * 3),
        ])  # fmt: skip

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.images[row]), int(self.labels[row])


def make_dataset(n: int) -> Dataset:
    """Return random images in CIFAR's format."""
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8))
    labels = torch.from_numpy(rng.integers(0, 10, n))
    small = Split(images[:64], labels[:64], np.arange(64))
    splits = {"train": Split(images, labels, np.arange(n)), "baseline": small, "attack": small}
    return Dataset("random", CLASSES, (0.5,) * 3, (0.25,) * 3, splits)


def plain_epoch(dataset: Dataset, config: TrainConfig, device: torch.device) -> float:
    """Train one epoch as tutorials do: float32, NCHW, two loading processes. Returns images a second."""
    split = dataset.splits["train"]
    model = build_model(config.arch, dataset).get_submodule("network").to(device).train()
    images = split.images.permute(0, 2, 3, 1).numpy()
    loader = DataLoader(
        PlainImages(images, split.labels.numpy()), batch_size=config.batch_size, shuffle=True, num_workers=2
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    begun = time.perf_counter()
    for x, y in loader:
        loss = nn.functional.cross_entropy(model(x.to(device)), y.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return len(split) / (time.perf_counter() - begun)


def our_epoch(dataset: Dataset, config: TrainConfig, device: torch.device) -> float:
    """Train one epoch with the project's loop. Returns images a second."""
    model = build_model(config.arch, dataset)
    dtype = resolve_dtype(config.dtype, device)
    begun = time.perf_counter()
    train(model, Training(dataset, config, 0, device, dtype))
    return len(dataset.splits["train"]) / (time.perf_counter() - begun)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON (the default and only form)")
    parser.add_argument("--images", type=int, default=8192, help="images an epoch")
    parser.add_argument("--steps", type=int, default=3, help="k of adversarial training")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    device = resolve_device(options.device)
    arch = "resnet18" if device.type == "cuda" else "resnet8"
    dataset = make_dataset(options.images)
    standard = TrainConfig(
        dataset="random", arch=arch, epochs=1, learning_rate=0.01, crop_padding=4, flip=True
    )
    sam = replace(standard, method="sam", sam_rho=0.05, sam_adaptive=False)
    adversarial = replace(
        standard, method="adversarial", train_norm="linf", train_eps=8 / 255, train_steps=options.steps,
        train_step_size=2 / 255,
    )  # fmt: skip
    ways: dict[str, Callable[[], float]] = {
        "plain": lambda: plain_epoch(dataset, standard, device),
        "ours": lambda: our_epoch(dataset, standard, device),
        "ours_float32": lambda: our_epoch(dataset, replace(standard, dtype="float32"), device),
        "sam": lambda: our_epoch(dataset, sam, device),
        "adversarial": lambda: our_epoch(dataset, adversarial, device),
    }
    seen: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(ROUNDS):  # in turns, so that a shared machine's noise hits all alike
        for name, measure in ways.items():
            seen[name].append(measure())
            print(f"round {turn + 1}: {name} {seen[name][-1]:.0f} images/s", file=sys.stderr)

    def ratio(one: str, other: str) -> float:
        return statistics.median(a / b for a, b in zip(seen[one], seen[other], strict=True))

    print(
        json.dumps({
            "ratio_plain": ratio("ours", "plain"), "ratio_plain_float32": ratio("ours_float32", "plain"),
            "sam_cost": ratio("ours", "sam"), "adversarial_cost": ratio("ours", "adversarial"),
            "adversarial_steps": options.steps, "device": device.type,
            "dtype": str(resolve_dtype("auto", device)).removeprefix("torch."), "model": arch,
            "images_per_s": {name: statistics.median(values) for name, values in seen.items()},
            "machine": f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads of "
            f"{os.cpu_count()}, torch {torch.__version__}",
        }, indent=2)
    )  # fmt: skip


if __name__ == "__main__":
    main()
