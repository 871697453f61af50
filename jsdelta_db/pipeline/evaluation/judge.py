"""Judgements: the evaluators' logits on one chunk of samples, and the scores they give."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jsdelta_db.compute.attacks import apply_delta
from jsdelta_db.compute.metrics import score
from jsdelta_db.compute.models.inference import predict_images
from jsdelta_db.pipeline.evaluation.plan import Plan
from jsdelta_db.pipeline.evaluation.sources import MadeChunk
from jsdelta_db.records import FILE_SPLIT, Baselines, Samples
from jsdelta_db.runtime.precision import keep_float32
from jsdelta_db.samples.chunks import JudgedChunk, load_known_logits


@dataclass(frozen=True, slots=True)
class Answers:
    """The evaluators' logits on one chunk, float32 ``(evaluators, n, classes)``.

    Attributes:
        clean, adversarial: on x and on x_adv.
        sub_batch: attempts that they were shown at a time; None for all of them.
    """

    clean: NDArray[np.float32]
    adversarial: NDArray[np.float32]
    sub_batch: int | None


def ask_evaluators(plan: Plan, chunk: MadeChunk, position: int) -> Answers:
    """Show the evaluators each clean image and its adversarial one, in float32.

    Evaluators that have seen a chunk are never asked again: their logits are read from the score files of
    other evaluations of the same attack. That is all that ``--temperature fit`` needs.

    Args:
        position: of the chunk.

    Raises:
        OutOfMemoryError: the device cannot take a single image.
    """
    keep_float32()  # whatever the attacked network's own code switched on
    roles, split = plan.roles, plan.attack.split
    known = load_known_logits(roles.bench, plan.attack, position)
    stored = [known.get(member.row.id, {}) for member in roles.evaluators]
    x = torch.from_numpy(chunk.x)
    x_adv = apply_delta(x, torch.from_numpy(chunk.delta)).contiguous(memory_format=torch.channels_last)
    adversarial = _ask(plan, x_adv, [each.get("logits") for each in stored])
    if split == FILE_SPLIT:
        clean = _ask(plan, x, [each.get("clean_logits") for each in stored])
    else:
        rows = roles.dataset.splits[split].rows_of(chunk.attempts.sample_index)
        clean = np.stack([member.logits(split)[rows] for member in roles.evaluators])
    return Answers(clean, adversarial, plan.sub_batch.if_halved)


def judge(plan: Plan, samples: Samples, answers: Answers, baselines: Baselines) -> JudgedChunk:
    """Compare the evaluators' logits on each clean image and its adversarial one; needs no device."""
    scores = score(samples, answers.clean, answers.adversarial, baselines, plan.temperatures)
    return JudgedChunk(scores, answers.clean, answers.sub_batch)


def _ask(plan: Plan, images: Tensor, stored: Sequence[NDArray[np.float32] | None]) -> NDArray[np.float32]:
    """Return each evaluator's logits, as they are stored or, where they are not, of its network."""
    evaluators = plan.roles.evaluators
    networks = [member.network for member, logits in zip(evaluators, stored, strict=True) if logits is None]
    if not networks:
        return np.stack([logits for logits in stored if logits is not None])
    device = evaluators[0].device
    asked = iter(predict_images(networks, images, device, plan.sub_batch, "while judging"))
    return np.stack([next(asked) if logits is None else logits for logits in stored])
