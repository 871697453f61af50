"""Scores: the evaluators' divergences and JSΔ of one chunk of samples, from logits."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jsdelta_db.compute.metrics.divergence import js_divergence, log_mean_probs, log_mean_without, log_probs
from jsdelta_db.records import Baseline, LabelPair, Samples, Scores, label_pair


def score(
    samples: Samples,
    clean_logits: NDArray[np.float32],
    adversarial_logits: NDArray[np.float32],
    baselines: Mapping[LabelPair, Baseline],
    temperatures: Sequence[float] = (),
) -> Scores:
    """Compare each evaluator's outputs on the clean and the adversarial image.

    Args:
        clean_logits, adversarial_logits: the evaluators' logits, float32 ``(evaluators, n, classes)``.
        baselines: of this set of evaluators at these temperatures, by label pair.
        temperatures: one per evaluator, 1 if not given; the attacked model's is always 1.

    Source: arXiv 2601.00577; JSΔ = mean_k js_k / mean_k ρ_k(y, t).
    """
    source, target = samples.attempts.source_label, samples.target_label
    scale = np.array(temperatures or [1.0] * len(clean_logits), dtype=np.float32)[:, None, None]
    clean, adversarial = log_probs(clean_logits / scale), log_probs(adversarial_logits / scale)
    member_js = js_divergence(clean, adversarial)
    js = member_js.mean(0).numpy()
    predicted_clean, predicted_adversarial = clean_logits.argmax(-1), adversarial_logits.argmax(-1)
    return Scores(
        attempts=samples.attempts,
        js=js,
        js_of_mean=js_divergence(log_mean_probs(clean), log_mean_probs(adversarial)).numpy(),
        js_delta=js / _divisors(source, target, baselines),
        js_attacked=js_divergence(log_probs(samples.clean_logits), log_probs(samples.logits)).numpy(),
        n_right=(predicted_clean == source).sum(0),
        n_at_target=(predicted_clean == target).sum(0),
        n_at_target_adv=(predicted_adversarial == target).sum(0),
        n_right_adv=(predicted_adversarial == source).sum(0),
        member_js=member_js.T.to(torch.float32).contiguous().numpy(),
        js_of_mean_without=js_of_mean_without(clean, adversarial),
        logits=adversarial_logits,
    )


def js_of_mean_without(clean: Tensor, adversarial: Tensor) -> NDArray[np.float32]:
    """Return the divergence of the mean outputs without each evaluator, float32 ``(n, evaluators)``.

    ``(n, 0)`` of a single evaluator.

    Args:
        clean, adversarial: the evaluators' log-probabilities ``(evaluators, n, classes)``.
    """
    n_evaluators, n = clean.shape[:2]
    found = np.empty((n, n_evaluators if n_evaluators > 1 else 0), np.float32)
    for left_out in range(found.shape[1]):
        clean_mean, adversarial_mean = (log_mean_without(each, left_out) for each in (clean, adversarial))
        found[:, left_out] = js_divergence(clean_mean, adversarial_mean).numpy()
    return found


def _divisors(
    source: NDArray[np.int64], target: NDArray[np.int64], baselines: Mapping[LabelPair, Baseline]
) -> NDArray[np.float64]:
    """Return ρ per sample, NaN where the label pair has no usable baseline."""
    pairs = [label_pair(int(y), int(t)) for y, t in zip(source, target, strict=True)]
    return np.array(
        [
            baselines[pair].rho if pair in baselines and baselines[pair].is_defined else np.nan
            for pair in pairs
        ]
    )
