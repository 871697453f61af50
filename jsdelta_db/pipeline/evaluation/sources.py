"""Sources of samples: chunk by chunk, made by an attack, given as arrays, or read from files."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from jsdelta_db.compute.attacks import PreparedAttack, perturb
from jsdelta_db.compute.data import Dataset
from jsdelta_db.config.attack import AttackConfig
from jsdelta_db.records import Attempts, Samples
from jsdelta_db.samples.chunks import load_samples
from jsdelta_db.store.schema import Attack
from jsdelta_db.workbench.models import LoadedModel
from jsdelta_db.workbench.workbench import Workbench


class SampleSource(Protocol):
    """Samples of one attack, by chunk."""

    def chunk(self, position: int) -> Samples:
        """Return the samples of a chunk, the same each time."""


@dataclass(frozen=True, slots=True)
class AttackedSamples:
    """Samples that an attack makes when they are asked for."""

    attack: Attack
    config: AttackConfig
    dataset: Dataset
    attempts: Attempts
    attacked: LoadedModel
    surrogates: Sequence[LoadedModel]

    def chunk(self, position: int) -> Samples:
        """Attack the images of a chunk."""
        models = (self.attacked, *self.surrogates)
        as_planned = self.attack.dtype, self.attack.prepared_as
        attacked, *surrogates = (each.prepared(*as_planned) for each in models)
        attempts = self.attempts.chunk(position, self.attack.chunk_size)
        split = self.dataset.splits[self.config.split]
        rows = split.rows_of(attempts.sample_index)
        prepared = PreparedAttack(attacked, surrogates, self.config, self.attack.chunk_size)
        return perturb(prepared, attempts, split.batch(rows), self.attacked.logits(self.config.split)[rows])


@dataclass(frozen=True, slots=True)
class GivenSamples:
    """Samples that came as arrays, all of them at once."""

    attack: Attack
    samples: Samples

    def chunk(self, position: int) -> Samples:
        """Return the rows of a chunk."""
        size = self.attack.chunk_size
        return self.samples.pick(slice(position * size, (position + 1) * size))


@dataclass(frozen=True, slots=True)
class StoredSamples:
    """Samples that were stored before, as they were scored."""

    bench: Workbench
    attack: Attack
    dataset: Dataset
    attacked: LoadedModel

    def chunk(self, position: int) -> Samples:
        """Load a chunk.

        Raises:
            CheckpointError: its file is missing or altered.
            UsageError: the perturbations were not stored.
        """
        return load_samples(self.bench, self.attack, position, self.dataset, self.attacked)
