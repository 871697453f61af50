"""Sources of samples: chunk by chunk, made by an attack, given as arrays, or read from files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.compute.attacks import PreparedAttack, find_perturbations
from jsdelta_db.compute.attacks.callables import Passes
from jsdelta_db.config.attack import AttackConfig
from jsdelta_db.records import Attempts, Effort, Samples
from jsdelta_db.samples.chunks import load_samples
from jsdelta_db.store.schema import Attack
from jsdelta_db.workbench.models import LoadedModel
from jsdelta_db.workbench.workbench import Workbench


@dataclass(frozen=True)
class MadeChunk:
    """One chunk: what its evaluators are shown, and its samples, which are described when they are needed.

    Attributes:
        describe: returns the samples; works in main memory alone.
        sub_batch: attempts that were attacked at a time; None for all of them.
        passes: what went through the attacked model; None where nobody counted.
    """

    attempts: Attempts
    x: NDArray[np.float32]
    delta: NDArray[np.floating[Any]]
    describe: Callable[[], Samples]
    sub_batch: int | None = None
    passes: Passes | None = None

    @classmethod
    def of(cls, samples: Samples) -> "MadeChunk":
        """Return a chunk that is described already."""
        return cls(samples.attempts, samples.x, samples.delta, lambda: samples)

    @property
    def effort(self) -> Effort:
        """What it took, as the chunk's row records it."""
        if self.passes is None:
            return Effort(self.sub_batch)
        return Effort(self.sub_batch, self.passes.forward, self.passes.backward)

    @cached_property
    def samples(self) -> Samples:
        """The samples, described once."""
        return self.describe()


class SampleSource(Protocol):
    """Samples of one attack, by chunk."""

    def chunk(self, position: int, sub_batch: int | None = None) -> MadeChunk:
        """Return a chunk, the same each time.

        Args:
            sub_batch: attempts to attack at a time, where it is not made for the first time.
        """


@dataclass(frozen=True)
class AttackedSamples:
    """Samples that an attack makes when they are asked for."""

    attack: Attack
    config: AttackConfig
    attempts: Attempts
    attacked: LoadedModel
    surrogates: Sequence[LoadedModel]

    @cached_property
    def _prepared(self) -> PreparedAttack:
        """The parts that chunks share, also what of a batch has fitted into memory."""
        models = (self.attacked, *self.surrogates)
        as_planned = self.attack.dtype, self.attack.prepared_as
        attacked, *surrogates = (each.prepared(*as_planned) for each in models)
        return PreparedAttack(attacked, surrogates, self.config, self.attack.chunk_size)

    def chunk(self, position: int, sub_batch: int | None = None) -> MadeChunk:
        """Attack the images of a chunk."""
        attempts = self.attempts.chunk(position, self.attack.chunk_size)
        x, clean_logits = self.attacked.on_images(self.config.split, attempts.sample_index)
        prepared = self._prepared if sub_batch is None else replace(self._prepared, chunk_size=sub_batch)
        found = find_perturbations(prepared, attempts, x, clean_logits)
        return MadeChunk(
            attempts, found.x, found.delta, found.describe, found.sub_batch or sub_batch,
            _count_passes(self.config, len(attempts)),
        )  # fmt: skip


def _count_passes(config: AttackConfig, n: int) -> Passes | None:
    """Return what our steps take: one pass each way; None where an image's steps may end early."""
    if config.stop != "never":
        return None
    return Passes(n * config.steps * config.restarts, n * config.steps * config.restarts)


@dataclass(frozen=True, slots=True)
class GivenSamples:
    """Samples that came as arrays, all of them at once."""

    attack: Attack
    samples: Samples

    def chunk(self, position: int, sub_batch: int | None = None) -> MadeChunk:
        """Return the rows of a chunk."""
        del sub_batch
        size = self.attack.chunk_size
        return MadeChunk.of(self.samples.pick(slice(position * size, (position + 1) * size)))


@dataclass(frozen=True, slots=True)
class StoredSamples:
    """Samples that were stored before, as they were scored."""

    bench: Workbench
    attack: Attack
    attacked: LoadedModel

    def chunk(self, position: int, sub_batch: int | None = None) -> MadeChunk:
        """Load a chunk.

        Raises:
            CheckpointError: its file is missing or altered.
            UsageError: the perturbations were not stored.
        """
        del sub_batch
        return MadeChunk.of(load_samples(self.bench, self.attack, position, self.attacked))
