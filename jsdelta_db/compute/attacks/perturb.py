"""Chunks of attempts through an attack: keyed starts, steps, stored precision, success."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from jsdelta_db.compute.attacks.balls import BALLS, apply_delta, per_image
from jsdelta_db.compute.attacks.capture import Capture
from jsdelta_db.compute.attacks.criteria import has_arrived, is_success
from jsdelta_db.compute.attacks.description import Perturbed
from jsdelta_db.compute.attacks.objectives import Objective, build_objective
from jsdelta_db.compute.attacks.pgd import Steps, pgd
from jsdelta_db.compute.attacks.prepare import PreparedModel
from jsdelta_db.compute.models.inference import evaluating, forward
from jsdelta_db.config.attack import AttackConfig
from jsdelta_db.records import Attempts, Samples
from jsdelta_db.runtime import seeding
from jsdelta_db.runtime.memory import SubBatch, release_cached_memory


@dataclass(frozen=True, slots=True)
class PreparedAttack:
    """The parts that all chunks of one attack share.

    Attributes:
        surrogates: held-back models that the objectives ``bug`` and ``feature`` evaluate, too.
        chunk_size: attempts in a chunk, which is a batch; a shorter one is padded: all have one shape.
        sub_batch: attempts in a batch where memory does not suffice for whole chunks, from then on.
    """

    attacked: PreparedModel
    surrogates: Sequence[PreparedModel]
    config: AttackConfig
    chunk_size: int
    sub_batch: SubBatch = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sub_batch", SubBatch(self.chunk_size))

    @property
    def capture(self) -> Capture:
        """Whether its steps may be captured as a CUDA graph; a refusal is the attacked model's."""
        if all(each.capture.is_allowed for each in self.surrogates):
            return self.attacked.capture
        return Capture(is_allowed=False)


def perturb(
    attack: PreparedAttack, attempts: Attempts, x: Tensor, clean_logits: NDArray[np.float32]
) -> Samples:
    """Attack one chunk and describe its samples, see :func:`find_perturbations`."""
    return find_perturbations(attack, attempts, x, clean_logits).describe()


def find_perturbations(
    attack: PreparedAttack, attempts: Attempts, x: Tensor, clean_logits: NDArray[np.float32]
) -> Perturbed:
    """Attack one chunk; equal inputs give equal bytes, whatever ran before or beside it.

    Perturbations are rounded to float16 before success is checked, so what is stored is what was checked.
    Where memory does not suffice, the chunk is attacked in smaller batches, which may round otherwise; its
    targets, starts and order stay.

    Args:
        attempts: at most ``attack.chunk_size`` of them.
        x: their clean images on the CPU, float32 ``(n, c, h, w)`` in [0, 1]; left untouched.
        clean_logits: the attacked model's logits on ``x``, ``(n, classes)``.

    Raises:
        OutOfMemoryError: the device cannot take a single image.
    """

    def in_batches(size: int) -> list[_Found]:
        return [
            _perturb_batch(attack, attempts.pick(part), x[part], clean_logits[part])
            for part in (slice(start, start + size) for start in range(0, len(attempts), size))
        ]

    found = attack.sub_batch.fit(in_batches, "while attacking")
    release_cached_memory()  # a graph's memory and that of plain steps are apart: the next chunk needs both
    delta, logits = torch.cat([each.delta for each in found]), np.concatenate([each.logits for each in found])
    return Perturbed(attempts, x.numpy(), delta.numpy(), clean_logits, logits, attack.sub_batch.if_halved)


def _perturb_batch(
    attack: PreparedAttack, attempts: Attempts, x: Tensor, clean_logits: NDArray[np.float32]
) -> "_Found":
    config = attack.config
    batch = _Batch.of(attack, attempts, x)
    ball = BALLS[config.norm](batch.x, config.eps)
    objective = batch.objective(attack, lambda prepared: prepared.frozen)
    found: _Found | None = None
    for restart in range(config.restarts):
        start = batch.place(start_noise(attempts, tuple(x.shape[1:]), config, restart))
        x_adv = pgd(
            objective, ball, start, Steps(config.steps, config.step_size),
            has_arrived=batch.has_arrived if config.stop == "first-hit" else None,
            capture=attack.capture,
        )  # fmt: skip
        another = _check_restart(attack, batch, ball.stored(x_adv), clean_logits)
        found = another if found is None else found.improved_by(another)
    assert found is not None
    return found


@dataclass(frozen=True, slots=True)
class _Batch:
    """A chunk on its device, padded to the attack's one batch shape; ``attempts`` are the first rows."""

    attempts: Attempts
    x: Tensor
    source_label: Tensor
    requested_target: Tensor

    @classmethod
    def of(cls, attack: PreparedAttack, attempts: Attempts, x: Tensor) -> "_Batch":
        labels = (torch.from_numpy(part) for part in (attempts.source_label, attempts.requested_target))
        size, device = attack.sub_batch.size, attack.attacked.device
        return cls(attempts, _place(x, size, device), *(_place(part, size, device) for part in labels))

    def place(self, part: Tensor) -> Tensor:
        """Pad a tensor like the images and put it beside them."""
        return _place(part, len(self.x), self.x.device)

    def objective(
        self, attack: PreparedAttack, network_of: Callable[[PreparedModel], nn.Module]
    ) -> Objective:
        """Return the attack's objective on the batch, for the frozen networks or the models themselves."""
        attacked_model, *surrogates = map(network_of, (attack.attacked, *attack.surrogates))
        return build_objective(
            attack.config.objective, attacked_model, surrogates, self.x, self.source_label,
            self.requested_target,
        )  # fmt: skip

    def has_arrived(self, logits: Tensor) -> Tensor:
        return has_arrived(logits, self.source_label, self.requested_target)


@dataclass(frozen=True, slots=True)
class _Found:
    """The end of one restart, per attempt; ``loss`` is the objective in float32."""

    delta: Tensor
    logits: NDArray[np.float32]
    success: NDArray[np.bool_]
    loss: NDArray[np.float32]

    def improved_by(self, other: "_Found") -> "_Found":
        """Return the better of two per attempt: success first, then the lower objective, then the earlier."""
        wins = (other.success & ~self.success) | ((other.success == self.success) & (other.loss < self.loss))
        picked = per_image(torch.from_numpy(wins), self.delta)
        return _Found(
            torch.where(picked, other.delta, self.delta),
            np.where(wins[:, None], other.logits, self.logits),
            np.where(wins, other.success, self.success),
            np.where(wins, other.loss, self.loss),
        )


def _check_restart(
    attack: PreparedAttack, batch: _Batch, delta: Tensor, clean_logits: NDArray[np.float32]
) -> _Found:
    """Evaluate the end of a restart as it is stored, in float32 and on the models as they are."""
    n, attempts = len(batch.attempts), batch.attempts
    x_adv = apply_delta(batch.x, delta)
    logits = forward(attack.attacked.model, x_adv)[:n]
    loss = np.zeros(n, dtype=np.float32)
    if attack.config.restarts > 1:  # else there is nothing to compare
        with torch.no_grad(), ExitStack() as modes:
            for prepared in (attack.attacked, *attack.surrogates):
                modes.enter_context(evaluating(prepared.model))
            objective = batch.objective(attack, lambda prepared: prepared.model)
            loss = objective(x_adv)[0][:n].float().cpu().numpy()
    success = is_success(clean_logits, logits, attempts.source_label, attempts.requested_target)
    return _Found(delta[:n].cpu().contiguous(), logits, success, loss)


def start_noise(attempts: Attempts, shape: tuple[int, ...], config: AttackConfig, restart: int = 0) -> Tensor:
    """Draw each attempt's start in the unit ball, keyed by (seed, image, target, restart) alone."""
    if not config.random_start:
        return torch.zeros(len(attempts), *shape)
    draw = BALLS[config.norm].draw
    starts = [
        draw(seeding.generator("start", config.seed, int(index), int(target), restart), shape)
        for index, target in zip(attempts.sample_index, attempts.requested_target, strict=True)
    ]
    return torch.from_numpy(np.stack(starts))


def _place(part: Tensor, size: int, device: torch.device) -> Tensor:
    """Repeat the first row until there are ``size`` rows; images are put channels last."""
    missing = size - len(part)
    padded = torch.cat([part, part[:1].expand(missing, *part.shape[1:])]) if missing else part
    order = torch.channels_last if padded.dim() == 4 else torch.contiguous_format
    return padded.to(device).contiguous(memory_format=order)
