"""Attacks: what to aim at, the gradient steps, and what counts as success."""

from jsdelta_db.attacks.criteria import is_success
from jsdelta_db.attacks.perturb import PreparedModel, perturb, plan_chunk_size
from jsdelta_db.attacks.pgd import targeted_pgd
from jsdelta_db.attacks.targets import choose_attempts

__all__ = ["PreparedModel", "choose_attempts", "is_success", "perturb", "plan_chunk_size", "targeted_pgd"]
