"""Planned evaluations, worked off chunk by chunk: samples made or read, judged and kept."""

import numpy as np
import torch
from numpy.typing import NDArray

from jsdelta_db.compute.attacks import apply_delta
from jsdelta_db.compute.metrics import score
from jsdelta_db.compute.models.inference import forward
from jsdelta_db.pipeline.evaluation.plan import Plan
from jsdelta_db.records import FILE_SPLIT, Baselines, Samples, Scores
from jsdelta_db.samples.chunks import keep_samples, kept_logits, read_samples
from jsdelta_db.store import runs
from jsdelta_db.tracking import RunLog
from jsdelta_db.workbench.workbench import Workbench


def _get_samples(bench: Workbench, plan: Plan, work: runs.ChunkWork, run: RunLog) -> Samples:
    """Make a chunk of samples, or read it; one whose perturbations were not kept comes out the same again."""
    if plan.make is not None and (work.to_attack or not plan.attack.keeps_samples):
        samples = plan.make(work.position)
        if work.to_attack:
            keep_samples(bench, plan.attack, samples, work.position, run)
        return samples
    return read_samples(bench, plan.attack, work.position, plan.dataset, plan.attacked)


def judge(
    bench: Workbench, plan: Plan, samples: Samples, position: int, baselines: Baselines
) -> tuple[Scores, NDArray[np.float32]]:
    """Let the evaluators compare each clean image with its adversarial one, in float32.

    Evaluators that have seen these samples before are not asked again.

    Returns:
        The scores, and the evaluators' clean logits ``(evaluators, n, classes)``.
    """
    kept = kept_logits(bench, plan.attack, position)
    x = torch.from_numpy(samples.x)
    x_adv = apply_delta(x, torch.from_numpy(samples.delta)).contiguous(memory_format=torch.channels_last)
    adversarial, clean = [], []
    for member in plan.evaluators:
        known = kept.get(member.row.id, {})
        said = known.get("logits")
        adversarial.append(forward(member.network, x_adv.to(member.device)) if said is None else said)
        if plan.attack.split == FILE_SPLIT:
            said = known.get("clean_logits")
            clean.append(forward(member.network, x.to(member.device)) if said is None else said)
        else:
            rows = plan.dataset.splits[plan.attack.split].rows_of(samples.attempts.sample_index)
            clean.append(member.logits(plan.attack.split)[rows])
    clean_logits = np.stack(clean)
    return score(samples, clean_logits, np.stack(adversarial), baselines, plan.temperatures), clean_logits
