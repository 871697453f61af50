"""The Jensen–Shannon divergence, from log-probabilities, in bits."""

import math
import sys

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LN2 = math.log(2.0)
BLOCK_PAIRS = 20_000  # pairs compared at once: a few megabytes, which stay in the cache
SMALLEST = sys.float_info.min  # a probability that may stand for 0 in p · log p


def log_probs(logits: NDArray[np.float32]) -> Tensor:
    """Return float64 log-probabilities of logits ``(…, classes)``."""
    return torch.from_numpy(logits).double().log_softmax(-1)


def js_divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return JS(p, q) in bits, in [0, 1]: the divergence, not its square root.

    Args:
        log_p, log_q: float64 log-probabilities ``(…, classes)``, broadcast against each other.

    With m = (p + q)/2, log(p/m) = log 2 − log(1 + q/p): exactly 0 where p = q, and finite for
    probabilities that underflow, where p·log(p/m) gives NaN.

    Source: Lin 1991, "Divergence Measures Based on the Shannon Entropy".
    """
    zero = torch.zeros((), dtype=log_p.dtype)
    log_ratio = log_q - log_p
    toward_p = log_p.exp() * (LN2 - torch.logaddexp(zero, log_ratio))
    toward_q = log_q.exp() * (LN2 - torch.logaddexp(zero, -log_ratio))
    return ((toward_p + toward_q).sum(-1) / (2.0 * LN2)).clamp_(0.0, 1.0)


def js_by_entropies(log_p: Tensor, log_q: Tensor, pairs: tuple[Tensor, Tensor]) -> Tensor:
    """Return JS(p, q) in bits of some rows of both: H((p + q)/2) − (H(p) + H(q))/2.

    Six times as fast as :func:`js_divergence`, and exact to 1e-15 bits, not relative to the divergence: for
    outputs that are far apart.

    Args:
        log_p, log_q: float64 log-probabilities ``(n, classes)`` and ``(m, classes)``.
        pairs: rows of the one and of the other.
    """
    p, q = log_p.exp(), log_q.exp()
    of_p, of_q = (p * log_p).sum(1), (q * log_q).sum(1)
    rows_p, rows_q = pairs
    mean = (p[rows_p] + q[rows_q]).mul_(0.5)
    of_mean = mean.clamp_min(SMALLEST).log_().mul_(mean).sum(1)
    return (((of_p[rows_p] + of_q[rows_q]) / 2.0 - of_mean) / LN2).clamp_(0.0, 1.0)


def mean_js_of_all(log_p: Tensor, log_q: Tensor) -> float:
    """Return the mean of JS(p, q) in bits over every row of the one with every row of the other.

    As fast and as exact as :func:`js_by_entropies`.

    Args:
        log_p, log_q: float64 log-probabilities ``(n, classes)`` and ``(m, classes)``.
    """
    p, q = log_p.exp(), log_q.exp()
    own = ((p * log_p).sum(1).mean() + (q * log_q).sum(1).mean()) / 2.0
    of_mean = torch.zeros((), dtype=log_p.dtype)
    block = max(1, BLOCK_PAIRS // len(q))
    for start in range(0, len(p), block):
        mean = (p[start : start + block, None] + q[None]).mul_(0.5)
        of_mean += mean.clamp_min(SMALLEST).log_().mul_(mean).sum()
    return float(((own - of_mean / (len(p) * len(q))) / LN2).clamp(0.0, 1.0))


def mean_js(log_p: Tensor, log_q: Tensor) -> float:
    """Return the mean divergence of two models' outputs on the same images ``(n, classes)``."""
    return float(js_divergence(log_p, log_q).mean())


def log_mean_probs(log_p: Tensor) -> Tensor:
    """Return the log of the members' mean probabilities: ``(members, …, classes)`` → ``(…, classes)``."""
    return log_p.logsumexp(0) - math.log(len(log_p))


def log_mean_without(log_p: Tensor, left_out: int) -> Tensor:
    """Return the log of the mean probabilities of all members but one."""
    return log_mean_probs(torch.cat([log_p[:left_out], log_p[left_out + 1 :]]))
