"""The formulas of intervals over images and models in plain loops over rows, from nothing but SQL."""

import json
import math
import sqlite3
from contextlib import closing
from itertools import groupby

import numpy as np
from scipy.stats import t as student

MEASURES = ("js-delta", "js-of-mean", "median", "relative")


def read_rows(path):
    """Return every attempt of a store as a dictionary of plain numbers, with its models by their weights."""
    with closing(sqlite3.connect(path)) as store:
        store.row_factory = sqlite3.Row
        models = {row["id"]: row for row in store.execute("SELECT * FROM model")}
        rho = {
            (row["model_id"], row["label_low"], row["label_high"]): row["rho"]
            for row in store.execute("SELECT * FROM rho_baseline WHERE split = 'baseline'")
        }
        of_mean = {
            (row["evaluation_id"], row["label_low"], row["label_high"]): (
                row["rho_of_mean"], np.frombuffer(row["rho_of_mean_without"] or b"", "<f8").tolist(),
            )
            for row in store.execute("SELECT * FROM evaluation_baseline")
        }  # fmt: skip
        found = []
        evaluations = store.execute(
            "SELECT evaluation.id, attack_id, attacked_model_id, eps, target_rule FROM evaluation "
            "JOIN attack ON attack.id = attack_id"
        ).fetchall()
        for evaluation_id, attack_id, attacked, eps, rule in evaluations:
            members = [
                row["model_id"]
                for row in store.execute(
                    "SELECT model_id FROM evaluation_member WHERE evaluation_id = ? ORDER BY position",
                    (evaluation_id,),
                )
            ]
            rows = store.execute(
                "SELECT sample.*, score.* FROM sample JOIN score USING (sample_index, requested_target) "
                "WHERE attack_id = ? AND evaluation_id = ?",
                (attack_id, evaluation_id),
            )
            for row in rows:
                pair = sorted((row["source_label"], row["target_label"]))
                found.append(
                    {
                        **dict(row), "eps": eps, "rule": rule, "n_evaluators": len(members),
                        "attacked": models[attacked]["checkpoint_sha256"],
                        "seed_of_attacked": models[attacked]["seed"],
                        "evaluators": [models[m]["checkpoint_sha256"] for m in members],
                        "js_k": np.frombuffer(row["member_js"], "<f4").astype(float).tolist(),
                        "rho_k": [rho[(m, *pair)] for m in members],
                        "rho_of_mean": of_mean[(evaluation_id, *pair)][0],
                        "rho_of_mean_k": of_mean[(evaluation_id, *pair)][1],
                        "js_of_mean_k": np.frombuffer(row["js_of_mean_without"] or b"", "<f4").tolist(),
                        "rho_attacked": rho.get((attacked, *pair)),
                    }
                )  # fmt: skip
        found_recipes = {
            row["checkpoint_sha256"]: json.dumps(json.loads(row["recipe"]), sort_keys=True)
            for row in models.values()
        }
    return found, found_recipes


def value_of(row, measure, without=None):
    """Return the measure of one attempt, None where it has none, without the evaluator of some weights."""
    if row["js_delta"] is None:
        return None
    kept = [k for k, sha256 in enumerate(row["evaluators"]) if sha256 != without]
    if measure == "median":
        if any(rho < 0.05 for rho in row["rho_k"]):
            return None
        return float(np.median([row["js_k"][k] / row["rho_k"][k] for k in kept]))
    if measure == "js-of-mean":
        if without is None:
            return row["js_of_mean"] / row["rho_of_mean"]
        left_out = row["evaluators"].index(without)
        return row["js_of_mean_k"][left_out] / row["rho_of_mean_k"][left_out]
    if without is None:
        value = row["js_delta"]
    else:
        value = sum(row["js_k"][k] for k in kept) / sum(row["rho_k"][k] for k in kept)
    if measure == "relative":
        if row["rho_attacked"] is None:
            return None
        change = row["js_attacked"] / row["rho_attacked"]
        return None if change < 0.05 else value / change
    return value


def share_of(rows, measure, beta, of_attempts, without=None):
    """Return hits and trials by image, without a model in all its roles."""
    hits, trials = {}, {}
    for row in rows:
        if value_of(row, measure) is None or row["attacked"] == without:
            continue
        if not (row["success"] or of_attempts):
            continue
        image = row["sample_index"]
        trials[image] = trials.get(image, 0) + 1
        hits[image] = hits.get(image, 0) + int(
            row["success"] == 1
            and value_of(row, measure, without if without in row["evaluators"] else None) < beta
        )
    return hits, trials


def interval(rows, recipes, measure, beta, *, of_attempts=False, over_models=True):
    """Return value, low, high, the models' share of the variance, and what is covered; for fractions in (0, 1)."""
    hits, trials = share_of(rows, measure, beta, of_attempts)
    n_hits, n_trials, n_images = sum(hits.values()), sum(trials.values()), len(trials)
    r = n_hits / n_trials
    v_img = n_images / (n_images - 1) * sum((hits[i] - r * trials[i]) ** 2 for i in trials) / n_trials**2
    of_hits = sum(hits[i] > 0 for i in trials)
    of_others = sum(hits[i] < trials[i] for i in trials)
    if min(of_hits, of_others) < 5:
        v_img = max(v_img, r * (1 - r) / n_trials)
    parts = [(v_img, n_images - 1)]
    covers = "images"
    if over_models:
        attacked = {row["attacked"] for row in rows}
        judging = {sha256 for row in rows for sha256 in row["evaluators"]}
        units = sorted(
            (recipes[unit], (unit in attacked, unit in judging), unit) for unit in attacked | judging
        )
        small = set()
        for (_, role), stratum in groupby(units, key=lambda each: each[:2]):
            left = []
            for _, _, unit in stratum:
                h, t = share_of(rows, measure, beta, of_attempts, unit)
                left.append(sum(h.values()) / sum(t.values()) if t else None)
            n = len(left)
            if n < 3 or None in left:
                small.add(role)
                continue
            mean = sum(left) / n
            parts.append(((n - 1) / n * sum((each - mean) ** 2 for each in left), n - 1))
        covers = "images+models" if not small else "images"
        if small == {(True, False)}:
            covers = "images+evaluators"
    v = sum(part for part, _ in parts)
    nu = v**2 / sum(part**2 / degrees for part, degrees in parts if part > 0)
    margin = student.ppf(0.975, nu) * math.sqrt(v) / (r * (1 - r))
    logit = math.log(r / (1 - r))
    low, high = (1 / (1 + math.exp(-(logit + sign * margin))) for sign in (-1, 1))
    return r, low, high, (v - v_img) / v, covers
