"""Student's t: quantiles and tails without SciPy, whose import takes longer than most queries."""

from functools import cache, lru_cache
from math import exp, lgamma, log, log1p, pi, sin, sqrt, tan

import numpy as np
from numpy.typing import NDArray

NODES = 48  # of a Gauss-Legendre rule
LARGE = 100.0  # from here on a series gives the ratio of gamma functions: differences of lgamma lose digits
SMALLEST_STEP = 1e-15  # of Newton's method, relative
MOST_TERMS = 10_000  # of a continued fraction
TINY = 1e-300  # in place of a 0 that it would divide by


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


def t_tail(value: float, degrees: float) -> float:
    """Return the probability that Student's t lies above a value; twice that of |t| is a two-sided p.

    Half of the incomplete beta function I_x(ν/2, ½) at x = ν / (ν + t²), by its continued fraction, which
    keeps small probabilities exact to their last digits.

    Source: Abramowitz and Stegun 26.5.8, 26.7.1; Lentz 1976 for the fraction.

    Args:
        value: from 0.
        degrees: degrees of freedom ν, above 0, not necessarily whole.
    """
    if value == 0:
        return 0.5
    a, b, ratio = degrees / 2, 0.5, value * value / degrees
    below, above = 1 / (1 + ratio), ratio / (1 + ratio)  # x and 1 − x
    # x^a · (1 − x)^b / B(a, b); small x is a power whose exponent is not rounded.
    factor = exp(_log_gamma_ratio(a) - a * log1p(ratio) + log(above) / 2) / sqrt(pi)
    if below < (a + 1) / (a + b + 2):
        return factor / a * _beta_fraction(a, b, below) / 2
    return 0.5 - factor / b * _beta_fraction(b, a, above) / 2


def _beta_fraction(a: float, b: float, x: float) -> float:
    """Return the continued fraction of the incomplete beta function."""
    c, d = 1.0, 1 / _not_zero(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, MOST_TERMS):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / _not_zero(1 + term * d)
            c = _not_zero(1 + term / c)
            value *= c * d
        if abs(c * d - 1) < SMALLEST_STEP:
            break
    return value


def _not_zero(number: float) -> float:
    return number if abs(number) > TINY else TINY


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
