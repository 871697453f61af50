"""Stability of an attack's successful samples, measured once."""

import numpy as np

from jsdelta_db.compute.attacks.stability import measure_stability
from jsdelta_db.pipeline.evaluation.plan import Plan
from jsdelta_db.pipeline.evaluation.sources import StoredSamples
from jsdelta_db.records import Samples
from jsdelta_db.store.attempts import count_without_stability, write_stability


def add_stability(plan: Plan) -> None:
    """Measure the stability of a finished attack's successful samples, if it is not stored yet.

    Raises:
        UsageError: its perturbations were not stored.
    """
    attack, roles = plan.attack, plan.roles
    with roles.bench.store.read_session() as session:
        if not count_without_stability(session, attack_id=attack.id):
            return
    source = StoredSamples(roles.bench, attack, roles.attacked)
    with roles.bench.progress.task(f"stability, {plan.title}", attack.n_attempts) as advance:
        for position in plan.chunks:
            samples = source.chunk(position).samples
            if samples.success.any():
                _measure(plan, samples)
            advance(len(samples.attempts))


def _measure(plan: Plan, samples: Samples) -> None:
    attack, attacked = plan.attack, plan.roles.attacked
    hits = samples.pick(np.flatnonzero(samples.success))
    stability = measure_stability(
        attacked.network, hits, norm=attack.norm, eps=attack.eps, seed=attack.seed, device=attacked.device
    )
    with plan.roles.bench.store.transaction() as session:
        write_stability(session, attack_id=attack.id, attempts=hits.attempts, stability=stability)
