"""Robust accuracy: the share of images that stay with their label under one untargeted attack."""

import numpy as np
import torch
from torch import nn

from jsdelta_db.compute.attacks.perturb import PreparedAttack, perturb
from jsdelta_db.compute.attacks.prepare import prepare
from jsdelta_db.compute.attacks.targets import choose_images
from jsdelta_db.compute.data import Split
from jsdelta_db.compute.models.equivalence import probe_images
from jsdelta_db.compute.models.inference import batch_size, predict
from jsdelta_db.config.attack import AttackConfig
from jsdelta_db.records import UNTARGETED, Attempts


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
    rows, chosen = choose_images(split, config.images), split
    if len(rows) < len(split):
        chosen = Split(split.images[rows], split.labels[rows], split.index[rows])
    clean_logits, labels = predict(model, chosen, device), chosen.labels.numpy()
    right = np.flatnonzero(clean_logits.argmax(1) == labels)
    if not len(right):
        return 0.0, len(rows)
    attempts = Attempts(chosen.index[right], labels[right], np.full(len(right), UNTARGETED))
    batches = -(-len(right) // batch_size(device))
    size = -(-len(right) // batches)  # shared out evenly: padding is work, too
    attack = PreparedAttack(prepare(model, probe_images(split, device), dtype), (), config, size)
    robust = 0
    for position in range(batches):
        part = right[position * size : (position + 1) * size]
        samples = perturb(attack, attempts.chunk(position, size), chosen.batch(part), clean_logits[part])
        robust += len(part) - int(samples.success.sum())
    return robust / len(rows), len(rows)
