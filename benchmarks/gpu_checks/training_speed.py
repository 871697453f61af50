"""Training speed: images a second by network and method, beside a plain loop, and how busy the card is."""

import statistics
from dataclasses import replace
from functools import partial

import torch
from clock import seconds_of
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from training import make_dataset, our_epoch, plain_epoch

from gpu_checks.findings import Case, Finding, skipped
from jsdelta_db.compute.data import Dataset
from jsdelta_db.config.training import TrainConfig

ROUNDS = 3
IMAGES = {"resnet8": 16_384, "resnet18": 8192, "resnet50": 4096}
IMAGES_ON_A_CPU = 128
PROFILED_IMAGES = 1024  # thousands of kernels a batch: the profiler's own arithmetic takes longer than they
PLAIN_ARCH = "resnet18"
EXPECTED = {"resnet18 standard": ">= 12000 (H100)", "plain": ">= 5 (H100)"}
METHODS = {
    "standard": {},
    "sam": {"sam_rho": 0.05, "sam_adaptive": False},
    "adversarial": {"train_norm": "linf", "train_eps": 8 / 255, "train_steps": 3, "train_step_size": 2 / 255},
}


def cases(device: torch.device) -> list[Case]:
    """Return the cases, standard training and the plain loop first."""
    if device.type == "cpu":
        return [
            Case("resnet8 standard", partial(_measure, "resnet8", "standard", device)),
            skipped("plain loop", "benchmarks/training.py measures it on a CPU"),
        ]
    found = [Case(f"{arch} standard", partial(_measure, arch, "standard", device)) for arch in IMAGES]
    found.append(Case("plain loop", partial(_beside_plain, device)))
    more = [(arch, method) for arch in IMAGES for method in METHODS if method != "standard"]
    return found + [
        Case(f"{arch} {method}", partial(_measure, arch, method, device)) for arch, method in more
    ]


def _config(arch: str, method: str) -> TrainConfig:
    return TrainConfig(
        dataset="random", arch=arch, epochs=1, method=method, learning_rate=0.01, crop_padding=4, flip=True,
        **METHODS[method],
    )  # fmt: skip


def _images(arch: str, device: torch.device) -> Dataset:
    return make_dataset(IMAGES_ON_A_CPU if device.type == "cpu" else IMAGES[arch])


def _measure(arch: str, method: str, device: torch.device) -> list[Finding]:
    """Train one epoch a round after a warm-up, then once more under the profiler."""
    name, config, dataset = f"{arch} {method}", _config(arch, method), _images(arch, device)
    if device.type == "cpu":
        return [Finding(f"{name}, images/s", round(our_epoch(dataset, config, device)))]
    our_epoch(dataset, config, device)
    rates, seconds = [], []
    for _ in range(ROUNDS):
        # The clock outside waits for the card, whatever the loop's own does.
        seconds.append(seconds_of(lambda: rates.append(our_epoch(dataset, config, device)), device))
    found = [Finding(f"{name}, images/s", round(statistics.median(rates)), wanted=EXPECTED.get(name, ""))]
    busy = (
        _kernel_seconds_an_image(config, device) * len(dataset.splits["train"]) / statistics.median(seconds)
    )
    return [*found, Finding(f"{name}, share of time the card is busy", round(busy, 3))]


def _kernel_seconds_an_image(config: TrainConfig, device: torch.device) -> float:
    """Return how long the card computes and copies for an image, from a short epoch under the profiler."""
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        our_epoch(make_dataset(PROFILED_IMAGES), config, device)
        torch.cuda.synchronize(device)
    on_card = [each for each in seen.key_averages() if each.device_type == DeviceType.CUDA]
    return sum(float(each.self_device_time_total) for each in on_card) / 1e6 / PROFILED_IMAGES


def _beside_plain(device: torch.device) -> list[Finding]:
    """Train one epoch with either loop, in turns, both in their usual form."""
    config, dataset = _config(PLAIN_ARCH, "standard"), _images(PLAIN_ARCH, device)
    our_epoch(dataset, config, device)
    ratios = [
        our_epoch(dataset, config, device) / plain_epoch(dataset, replace(config, dtype="float32"), device)
        for _ in range(2)
    ]
    name = f"{PLAIN_ARCH}, images/s over a plain loop's"
    return [Finding(name, round(statistics.median(ratios), 2), wanted=EXPECTED["plain"])]
