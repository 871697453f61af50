"""Images a second of the training loop beside a plain DataLoader loop, and what SAM and PGD training cost.

Prints one JSON object. Images are random: what they show does not change what a step costs. Before the rounds
each way runs once on few images, unmeasured: on a card libraries load and choose their kernels then.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
WARM_UP_BATCHES = 6  # more than a capture of adversarial training's attack waits for


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
    with torch_as_it_comes(device):
        begun = now(device)
        for x, y in loader:
            loss = nn.functional.cross_entropy(model(x.to(device)), y.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return len(split) / (now(device) - begun)


def our_epoch(dataset: Dataset, config: TrainConfig, device: torch.device) -> float:
    """Train one epoch with the project's loop. Returns images a second."""
    model = build_model(config.arch, dataset)
    dtype = resolve_dtype(config.dtype, device)
    begun = now(device)
    train(model, Training(dataset, config, 0, device, dtype))
    return len(dataset.splits["train"]) / (now(device) - begun)


def now(device: torch.device) -> float:
    """Return the time once the device has done all that was begun, in seconds."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@contextmanager
def torch_as_it_comes(device: torch.device) -> Iterator[None]:
    """Give a plain loop the faster convolutions that it has on a card where nobody asks for others."""
    cudnn = torch.backends.cudnn
    if device.type != "cuda":
        yield
        return
    switches = cudnn.conv if hasattr(cudnn, "conv") else cudnn  # torch 2.9 renamed the switch for TF32
    name, fast = ("fp32_precision", "tf32") if hasattr(cudnn, "conv") else ("allow_tf32", True)
    before = getattr(switches, name), cudnn.deterministic
    setattr(switches, name, fast)
    cudnn.deterministic = False
    try:
        yield
    finally:
        setattr(switches, name, before[0])
        cudnn.deterministic = before[1]


def card_name(device: torch.device) -> str | None:
    """Return the name of the card; None on a processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else None


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
    ways: dict[str, Callable[[Dataset], float]] = {
        "plain": lambda images: plain_epoch(images, standard, device),
        "ours": lambda images: our_epoch(images, standard, device),
        "ours_float32": lambda images: our_epoch(images, replace(standard, dtype="float32"), device),
        "sam": lambda images: our_epoch(images, sam, device),
        "adversarial": lambda images: our_epoch(images, adversarial, device),
    }
    few = make_dataset(min(WARM_UP_BATCHES * standard.batch_size, options.images))
    for measure in ways.values():
        measure(few)
    seen: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(ROUNDS):  # in turns, so that a shared machine's noise hits all alike
        for name, measure in ways.items():
            seen[name].append(measure(dataset))
            print(f"round {turn + 1}: {name} {seen[name][-1]:.0f} images/s", file=sys.stderr)

    def ratio(one: str, other: str) -> float:
        return statistics.median(a / b for a, b in zip(seen[one], seen[other], strict=True))

    print(
        json.dumps({
            "ratio_plain": ratio("ours", "plain"), "ratio_plain_float32": ratio("ours_float32", "plain"),
            "sam_cost": ratio("ours", "sam"), "adversarial_cost": ratio("ours", "adversarial"),
            "adversarial_steps": options.steps, "device": device.type, "card": card_name(device),
            "dtype": str(resolve_dtype("auto", device)).removeprefix("torch."), "model": arch,
            "images_per_s": {name: statistics.median(values) for name, values in seen.items()},
            "machine": f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads of "
            f"{os.cpu_count()}, torch {torch.__version__}",
        }, indent=2)
    )  # fmt: skip


if __name__ == "__main__":
    main()
