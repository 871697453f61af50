"""One chunk of attempts through an attack: keyed starts, steps, stored precision, success."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from jsdelta_db.compute.attacks.balls import BALLS, L2Ball, LinfBall, apply_delta
from jsdelta_db.compute.attacks.criteria import aimed_or_reached, has_arrived, is_success
from jsdelta_db.compute.attacks.objectives import Objective, build_objective
from jsdelta_db.compute.attacks.pgd import pgd
from jsdelta_db.compute.attacks.prepare import PreparedModel
from jsdelta_db.compute.data import Split
from jsdelta_db.compute.models.inference import evaluating, forward
from jsdelta_db.config.attack import AttackConfig
from jsdelta_db.records import Attempts, Samples
from jsdelta_db.runtime import seeding


def perturb(
    prepared: PreparedModel,
    split: Split,
    attempts: Attempts,
    clean_logits: NDArray[np.float32],
    config: AttackConfig,
    chunk_size: int,
    surrogates: Sequence[PreparedModel] = (),
) -> Samples:
    """Attack one chunk; equal inputs give equal bytes, whatever ran before or beside it.

    Args:
        attempts: at most ``chunk_size`` of them; a shorter chunk is padded, so that every batch of an
            attack has one shape.
        clean_logits: the attacked model's logits on the whole split ``(images, classes)``.
        surrogates: held-back models that the objectives ``bug`` and ``feature`` look at.
    """
    rows = split.rows_of(attempts.sample_index)
    x = split.batch(rows)
    batch = _Batch.of(x, attempts, chunk_size, prepared.device)
    ball = BALLS[config.norm](batch.x, config.eps)
    objective = batch.objective(config, prepared.frozen, [each.frozen for each in surrogates])
    found: _Found | None = None
    for restart in range(config.restarts):
        start = batch.place(start_noise(attempts, tuple(x.shape[1:]), config, restart))
        x_adv = pgd(
            objective, ball, start, step_size=config.step_size, steps=config.steps,
            has_arrived=batch.has_arrived if config.stop == "first-hit" else None, capture=True,
        )  # fmt: skip
        another = _look_at(prepared, surrogates, batch, ball.stored(x_adv), clean_logits[rows], config)
        found = another if found is None else found.improved_by(another)
    assert found is not None
    return describe_samples(attempts, x, found.delta, clean_logits[rows], found.logits)


@dataclass(frozen=True, slots=True)
class _Batch:
    """A chunk on its device, padded to the attack's one batch shape; ``attempts`` are the first rows."""

    attempts: Attempts
    x: Tensor
    source_label: Tensor
    requested_target: Tensor

    @classmethod
    def of(cls, x: Tensor, attempts: Attempts, size: int, device: torch.device) -> "_Batch":
        labels = (torch.from_numpy(part) for part in (attempts.source_label, attempts.requested_target))
        return cls(attempts, _place(x, size, device), *(_place(part, size, device) for part in labels))

    def place(self, part: Tensor) -> Tensor:
        """Pad a tensor like the images and put it beside them."""
        return _place(part, len(self.x), self.x.device)

    def objective(
        self, config: AttackConfig, attacked_model: nn.Module, surrogates: Sequence[nn.Module]
    ) -> Objective:
        return build_objective(
            config.objective, attacked_model, surrogates, self.x, self.source_label, self.requested_target
        )

    def has_arrived(self, logits: Tensor) -> Tensor:
        return has_arrived(logits, self.source_label, self.requested_target)


@dataclass(frozen=True, slots=True)
class _Found:
    """What one restart ended with, per attempt; ``loss`` is the objective in float32."""

    delta: Tensor
    logits: NDArray[np.float32]
    success: NDArray[np.bool_]
    loss: NDArray[np.float32]

    def improved_by(self, other: "_Found") -> "_Found":
        """Keep the better of two per attempt: success first, then the lower objective, then the earlier."""
        wins = (other.success & ~self.success) | ((other.success == self.success) & (other.loss < self.loss))
        picked = torch.from_numpy(wins).view(-1, *[1] * (self.delta.dim() - 1))
        return _Found(
            torch.where(picked, other.delta, self.delta),
            np.where(wins[:, None], other.logits, self.logits),
            np.where(wins, other.success, self.success),
            np.where(wins, other.loss, self.loss),
        )


def _look_at(
    prepared: PreparedModel,
    surrogates: Sequence[PreparedModel],
    batch: _Batch,
    delta: Tensor,
    clean_logits: NDArray[np.float32],
    config: AttackConfig,
) -> _Found:
    """Look at one restart's end as it is stored, in float32 and on the models as they are."""
    n = len(batch.attempts)
    x_adv = apply_delta(batch.x, delta)
    logits = forward(prepared.model, x_adv)[:n]
    loss = np.zeros(n, dtype=np.float32)
    if config.restarts > 1:  # else there is nothing to compare
        models = [prepared.model, *(each.model for each in surrogates)]
        with torch.no_grad(), ExitStack() as modes:
            for model in models:
                modes.enter_context(evaluating(model))
            loss = batch.objective(config, models[0], models[1:])(x_adv)[0][:n].float().cpu().numpy()
    attempts = batch.attempts
    success = is_success(clean_logits, logits, attempts.source_label, attempts.requested_target)
    return _Found(delta[:n].cpu().contiguous(), logits, success, loss)


def describe_samples(
    attempts: Attempts,
    x: Tensor,
    delta: Tensor,
    clean_logits: NDArray[np.float32],
    logits: NDArray[np.float32],
) -> Samples:
    """Measure what came out, as it is stored.

    Args:
        x: clean images ``(n, …)``, on the CPU.
        delta: at stored precision, on the CPU.
        clean_logits, logits: the attacked model's on x and on ``apply_delta(x, delta)``, ``(n, classes)``.
    """
    change = apply_delta(x, delta).double() - x.double()
    target_label = aimed_or_reached(logits, attempts.source_label, attempts.requested_target)
    return Samples(
        attempts=attempts,
        target_label=target_label,
        success=is_success(clean_logits, logits, attempts.source_label, attempts.requested_target),
        confidence=_probability(logits, target_label),
        linf=LinfBall.size(change).numpy(),
        l2=L2Ball.size(change).numpy(),
        x=x.numpy(),
        delta=delta.numpy(),
        clean_logits=clean_logits,
        logits=logits,
    )


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


def _probability(logits: NDArray[np.float32], label: NDArray[np.int64]) -> NDArray[np.float64]:
    probs = torch.from_numpy(logits).double().softmax(1).numpy()
    return np.asarray(probs[np.arange(len(label)), label])
