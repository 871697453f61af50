"""The formulas of comparisons in plain loops over rows, from nothing but SQL."""

import math
from collections import defaultdict
from itertools import groupby
from statistics import mean

import numpy as np
from scipy.stats import t as student

from tests.queries.brute_force import read_rows, value_of


def read(folder):
    """Return the attempts of a store with the method and seed of the attacked model, and recipes by weights."""
    rows, recipes = read_rows(folder / "jsdelta.db")
    for row in rows:
        row["method"] = "sam" if "sam" in recipes[row["attacked"]] else "standard"
        row["unit"] = row["sample_index"], row["requested_target"]
    return rows, recipes


def keep_common(of_a, of_b):
    """Return the rows with a measure at the units that both sides have."""
    of_a, of_b = ([row for row in some if row["js_delta"] is not None] for some in (of_a, of_b))
    units = {row["unit"] for row in of_a} & {row["unit"] for row in of_b}
    return [row for row in of_a if row["unit"] in units], [row for row in of_b if row["unit"] in units]


def count(rows, measure, beta, gone=frozenset()):
    """Return attempts, successes and bugs by unit without some models."""
    found = defaultdict(lambda: [0, 0, 0])
    for row in rows:
        if row["attacked"] in gone or value_of(row, measure) is None:
            continue
        (without,) = gone & set(row["evaluators"]) or (None,)
        is_bug = row["success"] and value_of(row, measure, without) < beta
        for place, counts in enumerate((1, row["success"], is_bug)):
            found[row["unit"]][place] += int(counts)
    return found


def rows_of(quantity, own, other):
    """Return hits and trials by unit."""
    found = {}
    for unit, (attempted, success, bugs) in own.items():
        hits, trials = {
            "fraction": (bugs, success),
            "rate": (bugs, attempted),
            "non-bug-rate": (success - bugs, attempted),
            "equal-success": (bugs * other[unit][1], success * other[unit][1]) if unit in other else (0, 0),
        }[quantity]
        found[unit] = hits, trials
    return found


def fraction(rows):
    """Return the fraction of rows by unit."""
    trials = sum(t for _, t in rows.values())
    return sum(h for h, _ in rows.values()) / trials if trials else math.nan


def difference(of_a, of_b, quantity, measure, beta, gone=frozenset()):
    """Return the difference without some models, and both sides' hits and trials by unit."""
    a, b = count(of_a, measure, beta, gone), count(of_b, measure, beta, gone)
    rows = rows_of(quantity, a, b), rows_of(quantity, b, a)
    return fraction(rows[0]) - fraction(rows[1]), *rows


def interval(of_a, of_b, recipes, quantity, measure, beta, pair_by):
    """Return difference, bounds, p, smallest detectable difference and the models' share of the variance.

    Args:
        pair_by: what attacked models of both sides that are drawn together share.
    """
    of_a, of_b = keep_common(of_a, of_b)
    d, a, b = difference(of_a, of_b, quantity, measure, beta)
    errors, images = defaultdict(float), set()
    for sign, rows in ((1, a), (-1, b)):
        r, trials = fraction(rows), sum(t for _, t in rows.values())
        for (image, _), (h, t) in rows.items():
            errors[image] += sign * (h - r * t) / trials
            images |= {image} if t else set()
    n = len(images)
    v_img = n / (n - 1) * sum(errors[image] ** 2 for image in images)
    together = defaultdict(set)
    for row in (*of_a, *of_b):
        together[row[pair_by]].add(row["attacked"])
    judges = {sha256 for row in (*of_a, *of_b) for sha256 in row["evaluators"]}
    attacked = set().union(*together.values())
    units = [frozenset(each) for each in together.values()]
    units += [frozenset({each}) for each in judges - attacked]
    strata = sorted(
        (
            ((sorted(recipes[m] for m in unit), bool(unit & attacked), bool(unit & judges)), sorted(unit))
            for unit in units
        ),
        key=str,
    )
    parts = [(v_img, n - 1)]
    for _, some in groupby(strata, key=lambda each: each[0]):
        left = [difference(of_a, of_b, quantity, measure, beta, frozenset(u))[0] for _, u in some]
        m = len(left)
        if m >= 3:
            parts.append(((m - 1) / m * sum((each - mean(left)) ** 2 for each in left), m - 1))
    v = sum(part for part, _ in parts)
    nu = v**2 / sum(part**2 / degrees for part, degrees in parts if part > 0)
    margin = student.ppf(0.975, nu) * math.sqrt(v)
    p = 2 * student.sf(abs(d) / math.sqrt(v), nu)
    mde = (student.ppf(0.975, nu) + student.ppf(0.8, nu)) * math.sqrt(v)
    return d, max(d - margin, -1), min(d + margin, 1), p, mde, (v - v_img) / v


def values(rows, measure):
    """Return the measure of all successes."""
    return np.array([value_of(row, measure) for row in rows if row["success"]])
