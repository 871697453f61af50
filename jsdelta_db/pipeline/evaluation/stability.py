"""Stability of an attack's successful samples, measured once."""

import numpy as np

from jsdelta_db.compute.attacks.stability import measure_stability
from jsdelta_db.pipeline.evaluation.plan import Plan
from jsdelta_db.samples.chunks import read_samples
from jsdelta_db.store.attempts import count_without_stability, write_stability
from jsdelta_db.workbench.workbench import Workbench


def add_stability(bench: Workbench, plan: Plan) -> None:
    """Measure the stability of a finished attack's successful samples, if it is not stored yet.

    Raises:
        UsageError: its perturbations were not kept.
    """
    attack = plan.attack
    with bench.store.transaction() as session:
        if not count_without_stability(session, attack_id=attack.id):
            return
    chunks = range(-(-attack.n_attempts // attack.chunk_size))
    with bench.progress.task(f"stability, {plan.title}", attack.n_attempts) as advance:
        for position in chunks:
            samples = read_samples(bench, attack, position, plan.dataset, plan.attacked)
            hits = np.flatnonzero(samples.success)
            if len(hits):
                successful = samples.pick(hits)
                stability = measure_stability(
                    plan.attacked.network, successful, norm=attack.norm, eps=attack.eps, seed=attack.seed,
                    device=plan.attacked.device,
                )  # fmt: skip
                with bench.store.transaction() as session:
                    write_stability(
                        session, attack_id=attack.id, attempts=successful.attempts, stability=stability
                    )
            advance(len(samples.attempts))
