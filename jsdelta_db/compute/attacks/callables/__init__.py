"""Somebody's attacks: found by name, called on chunks of ours, believed in nothing."""

from jsdelta_db.compute.attacks.callables.calling import CalledAttack
from jsdelta_db.compute.attacks.callables.counting import Passes
from jsdelta_db.compute.attacks.callables.finding import find_attack, wrap_function

__all__ = ["CalledAttack", "Passes", "find_attack", "wrap_function"]
