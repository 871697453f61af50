"""Followers: evaluators that move with the attacked model, as a copy of it would."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.config.controls import FOLLOWS_ATTACKED
from jsdelta_db.pipeline.evaluation.finished import EvaluationRows
from jsdelta_db.pipeline.evaluation.roles import describe
from jsdelta_db.records import Control
from jsdelta_db.store.controls import forget_control, list_controls, write_controls
from jsdelta_db.store.divergences import count_successes, list_judged_alike, read_divergences
from jsdelta_db.workbench.workbench import Workbench

FOLLOWS, KEEPS_STILL = 0.5, 0.3  # medians of js / js_attacked; honest ones are ≤ 0.21 at small ε
FEWEST_SUCCESSES = 30
FEWEST_OTHERS = 2  # of two evaluators nobody can tell which one is out of line


def judge_following(bench: Workbench, finished: Sequence[EvaluationRows]) -> None:
    """Store, of finished evaluations, whether an evaluator follows the attacked model, and report who does.

    At the smallest ε with enough successes and never beyond: a large change moves honest models, too.
    """
    for each in finished:
        attack, evaluation = each.attack, each.evaluation
        with bench.store.read_session() as session:
            alike = list_judged_alike(session, attack, evaluation)
            counts = ((found, count_successes(session, attack_id)) for found, attack_id in alike)
            weakest = next((found for found, count in counts if count >= FEWEST_SUCCESSES), None)
            known = list_controls(session, evaluation_id=evaluation.id)
            if weakest != evaluation.id or FOLLOWS_ATTACKED in known:
                continue
            member_js, js_attacked = read_divergences(session, attack, evaluation)
        outcome, followers = _find_followers(np.median(member_js / js_attacked[:, None], axis=0))
        with bench.store.transaction() as session:
            forget_control(session, evaluation_ids=[found for found, _ in alike], name=FOLLOWS_ATTACKED)
            write_controls(session, evaluation_id=evaluation.id, controls=[outcome])
        if outcome.passed is False:
            names = ", ".join(describe(each.roles.evaluators[place]) for place in followers)
            bench.progress.report(
                f"evaluator {names} follows the attacked model ({describe(each.roles.attacked)}): it "
                f"shares {outcome.value:.0%} of that model's change and the others hardly any, as a copy "
                "would; judge again without it: jsdelta score --evaluators"
            )


def _find_followers(shares: NDArray[np.float64]) -> tuple[Control, list[int]]:
    """Return the outcome, and the places of the evaluators that follow.

    Args:
        shares: of the attacked model's change that each evaluator sees, its median.
    """
    followers = np.flatnonzero(shares > FOLLOWS).tolist()
    others = np.delete(shares, followers)
    if len(shares) <= FEWEST_OTHERS:
        return Control(FOLLOWS_ATTACKED, None, has_verdict=False), []
    stand_out = len(others) >= FEWEST_OTHERS and bool((others < KEEPS_STILL).all())
    # Where most of them move, nobody stands out: shown only.
    verdict = stand_out or not followers
    return Control(FOLLOWS_ATTACKED, float(shares.max()), high=FOLLOWS, has_verdict=verdict), followers
