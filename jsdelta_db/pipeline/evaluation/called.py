"""Called attacks: somebody's callable in place of our steps, chunk by chunk like ours."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from jsdelta_db.compute.attacks.callables import CalledAttack
from jsdelta_db.config.attack import AttackConfig
from jsdelta_db.config.attack_by import AttackBy
from jsdelta_db.pipeline.evaluation.sources import MadeChunk
from jsdelta_db.records import PLAIN, Attempts
from jsdelta_db.runtime.version import installed_version
from jsdelta_db.workbench.models import LoadedModel, Preparation, decide_preparation

UNKNOWN = "unknown"  # as of samples made elsewhere
FEW = 2  # attempts of a trial: enough to see a fault
DTYPE = "float32"  # what a caller of the library by hand would get


@dataclass(frozen=True)
class CalledSamples:
    """Samples that somebody's attack makes when they are asked for."""

    by: AttackBy
    config: AttackConfig
    chunk_size: int
    attempts: Attempts
    attacked: LoadedModel

    @cached_property
    def _called(self) -> CalledAttack:
        return CalledAttack(self.attacked.prepared(DTYPE, PLAIN), self.by, self.config, self.chunk_size)

    def try_out(self) -> None:
        """Attack a few images, before anything is stored.

        Raises:
            AttackError: it failed, or what it returns cannot be used.
        """
        few = self.attempts.pick(slice(FEW))
        self._called.try_out(few, *self._show(few))

    def chunk(self, position: int, sub_batch: int | None = None) -> MadeChunk:
        """Attack the images of a chunk."""
        attempts, called = self.attempts.chunk(position, self.chunk_size), self._called
        if sub_batch is not None:
            called = CalledAttack(called.attacked, self.by, self.config, sub_batch)
        found, passes = called.perturb(position, attempts, *self._show(attempts))
        return MadeChunk(attempts, found.x, found.delta, found.describe, found.sub_batch or sub_batch, passes)

    def _show(self, attempts: Attempts) -> tuple[Tensor, NDArray[Any]]:
        return self.attacked.on_images(self.config.split, attempts.sample_index)


def prepare_steps(models: Sequence[LoadedModel], config: AttackConfig) -> Preparation:
    """Decide what an attack runs on: of somebody's, the models as they are."""
    return Preparation(DTYPE, PLAIN) if config.attack_by else decide_preparation(models, config.dtype)


def method_columns(config: AttackConfig) -> dict[str, Any]:
    """Return the columns of an attack's row that say how its samples are made."""
    by = config.attack_by
    if by is None:
        return {
            "steps": config.steps, "step_size": config.step_size, "random_start": config.random_start,
            "restarts": config.restarts, "objective": config.objective, "stop": config.stop,
            "library": "jsdelta", "library_version": installed_version(), "requested_dtype": config.dtype,
        }  # fmt: skip
    # Nothing of ours: no steps that we know of.
    return {
        "steps": 0, "step_size": 0.0, "random_start": False, "restarts": 0, "objective": UNKNOWN,
        "stop": UNKNOWN, "library": by.name, "library_version": by.version, "requested_dtype": DTYPE,
        "attack_by": by.canonical(),
    }  # fmt: skip
