"""Attacks: targets, the ball to stay in, the gradient steps, and the criterion of success."""

from jsdelta_db.compute.attacks.balls import BALLS, apply_delta
from jsdelta_db.compute.attacks.chunk_size import plan_chunk_size
from jsdelta_db.compute.attacks.criteria import is_success
from jsdelta_db.compute.attacks.description import Perturbed, describe_samples
from jsdelta_db.compute.attacks.objectives import build_objective
from jsdelta_db.compute.attacks.perturb import PreparedAttack, find_perturbations, perturb
from jsdelta_db.compute.attacks.pgd import Steps, pgd
from jsdelta_db.compute.attacks.prepare import PreparedModel, prepare
from jsdelta_db.compute.attacks.targets import choose_attempts

__all__ = [
    "BALLS", "Perturbed", "PreparedAttack", "PreparedModel", "Steps", "apply_delta", "build_objective",
    "choose_attempts", "describe_samples", "find_perturbations", "is_success", "perturb", "pgd",
    "plan_chunk_size", "prepare",
]  # fmt: skip
