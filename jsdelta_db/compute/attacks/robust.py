"""Robust accuracy: the share of images that stay with their label under one untargeted attack."""

import numpy as np
import torch
from torch import nn

from jsdelta_db.compute.attacks.perturb import perturb
from jsdelta_db.compute.attacks.prepare import prepare
from jsdelta_db.compute.attacks.targets import choose_images
from jsdelta_db.compute.data import Split
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
    """Return the share of images that a model has right and keeps right, and of how many.

    Args:
        config: an untargeted attack; ``images`` says how many to look at.
        dtype: of the arithmetic inside the attacked copy.
    """
    rows = choose_images(split, config.images)
    prepared = prepare(model, device, dtype)
    kept = 0
    for start in range(0, len(rows), BATCH_SIZE):
        part = rows[start : start + BATCH_SIZE]
        labels = split.labels.numpy()[part]
        clean_logits = forward(model, split.batch(part).to(device))
        right = clean_logits.argmax(1) == labels
        attempts = Attempts(split.index[part][right], labels[right], np.full(int(right.sum()), UNTARGETED))
        if len(attempts):
            here = Split(split.images[part[right]], split.labels[part[right]], split.index[part][right])
            samples = perturb(prepared, here, attempts, clean_logits[right], config, len(attempts))
            kept += len(attempts) - int(samples.success.sum())
    return kept / len(rows), len(rows)
