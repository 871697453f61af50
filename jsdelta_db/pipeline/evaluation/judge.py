"""Judgements: the evaluators' logits on one chunk of samples, and the scores they give."""

import numpy as np
import torch

from jsdelta_db.compute.attacks import apply_delta
from jsdelta_db.compute.metrics import score
from jsdelta_db.compute.models.inference import forward
from jsdelta_db.pipeline.evaluation.plan import Plan
from jsdelta_db.records import FILE_SPLIT, Baselines, Samples
from jsdelta_db.runtime.precision import keep_float32
from jsdelta_db.samples.chunks import JudgedChunk, load_known_logits


def judge(plan: Plan, samples: Samples, position: int, baselines: Baselines) -> JudgedChunk:
    """Compare the evaluators' outputs on each clean image and its adversarial one, in float32.

    Evaluators that have seen a chunk are never asked again: their logits are read from the score files of
    other evaluations of the same attack. That is all that ``--temperature fit`` needs.

    Args:
        position: of the chunk.
    """
    keep_float32()  # whatever the attacked network's own code switched on
    roles, split = plan.roles, plan.attack.split
    known = load_known_logits(roles.bench, plan.attack, position)
    x = torch.from_numpy(samples.x)
    x_adv = apply_delta(x, torch.from_numpy(samples.delta)).contiguous(memory_format=torch.channels_last)
    adversarial, clean = [], []
    for member in roles.evaluators:
        stored = known.get(member.row.id, {})
        logits = stored.get("logits")
        adversarial.append(forward(member.network, x_adv.to(member.device)) if logits is None else logits)
        if split == FILE_SPLIT:
            logits = stored.get("clean_logits")
            clean.append(forward(member.network, x.to(member.device)) if logits is None else logits)
        else:
            clean.append(
                member.logits(split)[roles.dataset.splits[split].rows_of(samples.attempts.sample_index)]
            )
    clean_logits = np.stack(clean)
    scores = score(samples, clean_logits, np.stack(adversarial), baselines, plan.temperatures)
    return JudgedChunk(scores, clean_logits)
