"""Robust accuracy: the share of images that stay with their label under one untargeted attack."""

import numpy as np
import torch
from torch import nn

from jsdelta_db.compute.attacks.perturb import PreparedAttack, perturb
from jsdelta_db.compute.attacks.prepare import prepare
from jsdelta_db.compute.attacks.targets import choose_images
from jsdelta_db.compute.data import Split
from jsdelta_db.compute.models.equivalence import probe_images
from jsdelta_db.compute.models.inference import forward
from jsdelta_db.config.attack import AttackConfig
from jsdelta_db.records import UNTARGETED, Attempts

BATCH_SIZE = 256


def robust_accuracy(
    model: nn.Module,
    split: Split,
    config: AttackConfig,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> tuple[float, int]:
    """Return the share of images classified correctly before and after an attack, and their number.

    Args:
        config: an untargeted attack; its ``images`` limits how many are attacked.
        model: on the device.
        dtype: of the arithmetic inside the attacked copy, where that computes what the model does.
    """
    rows = choose_images(split, config.images)
    prepared = prepare(model, probe_images(split, device), dtype)
    robust = 0
    for start in range(0, len(rows), BATCH_SIZE):
        part = rows[start : start + BATCH_SIZE]
        x, labels = split.batch(part), split.labels.numpy()[part]
        clean_logits = forward(model, x.to(device))
        right = np.flatnonzero(clean_logits.argmax(1) == labels)
        if len(right):
            attempts = Attempts(split.index[part][right], labels[right], np.full(len(right), UNTARGETED))
            attack = PreparedAttack(prepared, (), config, len(right))
            samples = perturb(attack, attempts, x[torch.from_numpy(right)], clean_logits[right])
            robust += len(right) - int(samples.success.sum())
    return robust / len(rows), len(rows)
