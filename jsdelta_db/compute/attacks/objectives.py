"""Objectives: the loss that an attack lowers, per image.

An objective is called with a batch of images and returns ``(loss (n,), attacked logits (n, classes))``.
The losses of a batch are independent, so their sum's gradient is each image's own.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jsdelta_db.records import UNTARGETED

Objective = Callable[[Tensor], tuple[Tensor, Tensor]]
BaseLoss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Return −log p(label), ``(n,)``."""
    return F.cross_entropy(logits, label, reduction="none")


def margin(logits: Tensor, label: Tensor) -> Tensor:
    """Return the best other logit minus the one of ``label``, ``(n,)``: negative once that wins.

    Source: Carlini and Wagner 2017, "Towards Evaluating the Robustness of Neural Networks", f_6.
    """
    at_label = label[:, None]
    return logits.scatter(1, at_label, -torch.inf).amax(1) - logits.gather(1, at_label)[:, 0]


def build_objective(
    name: str,
    attacked_model: nn.Module,
    surrogates: Sequence[nn.Module],
    x: Tensor,
    source_label: Tensor,
    requested_target: Tensor,
) -> Objective:
    """Return the objective of a batch.

    Args:
        name: ``target`` or ``margin`` (the attacked model alone), ``bug`` (reach the target while the
            surrogates' outputs stay what they are on ``x``) or ``feature`` (reach it on them as well).
        attacked_model, surrogates: frozen; take images in [0, 1].
        x: clean images ``(n, …)``; only ``bug`` evaluates them.
        source_label, requested_target: ``(n,)``; the target is −1 to leave the source label instead.
    """
    untargeted = bool((requested_target == UNTARGETED).all())
    label, sign = (source_label, -1.0) if untargeted else (requested_target, 1.0)
    base: BaseLoss = margin if name == "margin" else cross_entropy
    if name in ("target", "margin"):

        def alone(x_adv: Tensor) -> tuple[Tensor, Tensor]:
            logits = attacked_model(x_adv)
            return base(logits, label).mul(sign), logits

        return alone
    if name == "feature":

        def together(x_adv: Tensor) -> tuple[Tensor, Tensor]:
            logits = attacked_model(x_adv)
            losses = [base(logits, label)] + [base(each(x_adv), label) for each in surrogates]
            return torch.stack(losses).mean(0).mul(sign), logits

        return together
    with torch.no_grad():
        clean_probs = [each(x).softmax(1) for each in surrogates]

    def unnoticed(x_adv: Tensor) -> tuple[Tensor, Tensor]:
        logits = attacked_model(x_adv)
        moved = [
            # Their clean outputs are the labels: lowest where nothing moves.
            F.cross_entropy(each(x_adv), probs, reduction="none")
            for each, probs in zip(surrogates, clean_probs, strict=True)
        ]
        return base(logits, label).mul(sign) + torch.stack(moved).mean(0), logits

    return unnoticed
