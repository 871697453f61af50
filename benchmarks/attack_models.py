"""Models for ``attack.py``: CIFAR networks trained for a minute on enlarged digits.

``python attack_models.py NETWORK FOLDER DEVICE IMAGES`` writes ``NETWORK.pt`` and ``NETWORK.npz``.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jsdelta_db.compute.data.dataset import Dataset
from jsdelta_db.compute.data.digits import load_digits
from jsdelta_db.compute.models.networks import CifarResNet, Normalized
from jsdelta_db.compute.models.torchvision_networks import small_image_resnet
from jsdelta_db.runtime.devices import bfloat16_pays, resolve_device

IMAGE_SHAPE, CLASSES = (3, 32, 32), 10
STEPS_ON_A_CARD = 100
TRAINING_BATCH = 32


@dataclass(frozen=True, slots=True)
class Setting:
    """How one network is trained and attacked: about 95 % right, and about half of the targets reached."""

    batches: int
    rate: float
    eps: float
    steps: int

    def steps_on(self, device_type: str) -> int:
        """Return the steps of an attack: on a card as many as usual, for a capture pays over many."""
        return self.steps if device_type == "cpu" else STEPS_ON_A_CARD


SETTINGS = {
    "resnet18": Setting(batches=60, rate=0.05, eps=4 / 255, steps=4),
    "resnet20": Setting(batches=150, rate=0.1, eps=2 / 255, steps=8),
}


def build_network(name: str) -> nn.Module:
    """Build the CIFAR form of a network."""
    channels = IMAGE_SHAPE[0]
    return (
        small_image_resnet(18, CLASSES, channels) if name == "resnet18" else CifarResNet(3, CLASSES, channels)
    )


def load_model(name: str, checkpoint: Path | str, device: torch.device | str = "cpu") -> nn.Module:
    """Build the attacked model as a user has it: eval mode, nothing folded or frozen, images in [0, 1]."""
    model = Normalized(build_network(name), (0.0,) * 3, (1.0,) * 3)
    # Mean and deviation are no part of a state dict: they travel beside it.
    state, model.mean, model.std = torch.load(checkpoint, weights_only=True)
    model.network.load_state_dict(state)
    return model.eval().to(device)


@torch.no_grad()
def logits_of(model: nn.Module, x: Tensor) -> Tensor:
    """Return float32 logits, on the model's device and back."""
    device = next(model.parameters()).device
    return torch.cat([model(part.to(device)).cpu() for part in torch.split(x, 64)])


def flops_of_a_step(model: nn.Module) -> float:
    """Count what one image's step multiplies and adds: a forward pass, and a backward one to the input.

    Convolutions and linear layers alone, and no gradients of the weights: an attack needs none.
    """
    counts: list[int] = []

    def count(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        if isinstance(module, nn.Conv2d | nn.Linear):
            counts.append(2 * output[0].numel() * module.weight[0].numel())

    hooks = [module.register_forward_hook(count) for module in model.modules()]
    logits_of(model, torch.zeros(1, *IMAGE_SHAPE))
    for hook in hooks:
        hook.remove()
    return 2.0 * sum(counts)


def images_of(dataset: Dataset, split: str) -> tuple[Tensor, Tensor]:
    """Return the 8×8 digits of a split as three channels of 32×32, and their labels."""
    part = dataset.splits[split]
    larger = F.interpolate(part.images, size=IMAGE_SHAPE[1:], mode="bilinear")
    return larger.expand(-1, IMAGE_SHAPE[0], -1, -1).contiguous(), part.labels


def train(name: str, dataset: Dataset, device: torch.device, checkpoint: Path) -> None:
    """Train a network for a minute, on one thread."""
    torch.manual_seed(0)
    setting = SETTINGS[name]
    mean, std = (torch.tensor(part * 3).view(1, 3, 1, 1) for part in (dataset.mean, dataset.std))
    x, labels = images_of(dataset, "train")
    x, labels = ((x - mean) / std).to(device), labels.to(device)
    network = build_network(name).to(device).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(
        network.parameters(), setting.rate, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, setting.rate, total_steps=setting.batches)
    for _ in range(setting.batches):
        rows = torch.randperm(len(x))[:TRAINING_BATCH].to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16_pays(device.type)):
            loss = F.cross_entropy(network(x[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call] # torch's own annotations lack it
        optimizer.step()
        schedule.step()
    state = {key: value.contiguous() for key, value in network.cpu().state_dict().items()}
    torch.save((state, mean, std), checkpoint)


def choose_images(model: nn.Module, dataset: Dataset, path: Path, count: int) -> None:
    """Keep ``count`` unseen images that the model has right, each with a wrong label to aim at."""
    x, labels = (part[: count + count // 4] for part in images_of(dataset, "attack"))
    right = logits_of(model, x).argmax(1) == labels
    rows = torch.nonzero(right)[:, 0]
    rows = rows.repeat(-(-count // len(rows)))[:count]  # again from the first where there are too few
    steps = torch.from_numpy(np.random.default_rng(0).integers(1, CLASSES, count))
    target_label = (labels[rows] + steps) % CLASSES
    np.savez(
        path, x=x[rows].numpy(), target_label=target_label.numpy(), accuracy=right.float().mean().numpy()
    )


def main() -> None:
    """Train, choose, write."""
    name, folder, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[4])
    device = resolve_device(sys.argv[3])
    torch.set_num_threads(1)  # two at once, each with a core of its own
    dataset = load_digits(folder)
    checkpoint = folder / f"{name}.pt"
    train(name, dataset, device, checkpoint)
    choose_images(load_model(name, checkpoint, device), dataset, folder / f"{name}.npz", count)


if __name__ == "__main__":
    main()
