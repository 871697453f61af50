"""Student's t: quantiles without SciPy, whose import takes longer than most queries."""

from functools import cache, lru_cache
from math import exp, lgamma, log, pi, sin, sqrt, tan

import numpy as np
from numpy.typing import NDArray

NODES = 48  # of a Gauss-Legendre rule
LARGE = 100.0  # from here on a series gives the ratio of gamma functions: differences of lgamma lose digits
SMALLEST_STEP = 1e-15  # of Newton's method, relative


@lru_cache(maxsize=1 << 14)
def t_quantile(share: float, degrees: float) -> float:
    """Return the value that Student's t stays below with a probability.

    t = √ν · tan θ, where θ has a density proportional to cos^(ν − 1) θ, which is smooth for every ν from 1:
    a quadrature integrates it to rounding. From the centre Newton's method climbs to the value without ever
    passing it, since the density falls.

    Args:
        share: probability, from 0.5 to below 1.
        degrees: degrees of freedom ν, from 1, not necessarily whole.
    """
    constant = exp(_log_gamma_ratio(degrees / 2)) / sqrt(pi)
    nodes, weights = _rule()
    power = (degrees - 1) / 2
    angle = 0.0
    while True:
        # cos² = 1 − sin²: with thousands of degrees the angles are so small that a cosine is rounded to 1.
        below = constant * angle * float(weights @ np.exp(power * np.log1p(-(np.sin(angle * nodes) ** 2))))
        step = (share - 0.5 - below) / (constant * (1 - sin(angle) ** 2) ** power)
        if step <= SMALLEST_STEP * angle:
            return sqrt(degrees) * tan(angle)
        angle += step


def _log_gamma_ratio(a: float) -> float:
    """Return log(Γ(a + ½) / Γ(a))."""
    if a < LARGE:
        return lgamma(a + 0.5) - lgamma(a)
    return log(a) / 2 - 1 / (8 * a) + 1 / (192 * a**3)


@cache
def _rule() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return nodes and weights of the quadrature over [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    return (nodes + 1) / 2, weights / 2
