"""Calls of somebody's attack: what it is given, and what is checked and measured of what comes back.

It works on copies, so that nothing it changes outlives a call. Its images are projected on nothing: they are
rounded to the stored precision, and success and size are measured on what is stored, as of ours.
"""

import contextlib
import copy
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from jsdelta_db.compute.attacks.balls import STORED, apply_delta
from jsdelta_db.compute.attacks.callables.counting import CountedModel, Passes
from jsdelta_db.compute.attacks.callables.seeding import seeded
from jsdelta_db.compute.attacks.description import Perturbed
from jsdelta_db.compute.attacks.preflight import check_images
from jsdelta_db.compute.attacks.prepare import ModelItself, PreparedModel
from jsdelta_db.compute.models.inference import forward
from jsdelta_db.compute.models.named_code import users_code
from jsdelta_db.config.attack import AttackConfig
from jsdelta_db.config.attack_by import AttackBy
from jsdelta_db.errors import AttackError, DataError, ModelError
from jsdelta_db.records import UNTARGETED, Attempts
from jsdelta_db.runtime.memory import SubBatch, is_out_of_memory


@dataclass(frozen=True, slots=True)
class _Batch:
    """Attempts on their device, as an attack is given them; it gets clones."""

    x: Tensor
    label: Tensor
    target_label: Tensor | None


@dataclass(frozen=True, slots=True)
class _Found:
    delta: Tensor
    logits: NDArray[np.float32]
    passes: Passes


@dataclass(frozen=True, slots=True)
class CalledAttack:
    """Somebody's attack on one model.

    Attributes:
        attacked: with a plain copy, in float32.
        chunk_size: attempts in a chunk.
        sub_batch: attempts in a call, where memory does not suffice for whole chunks.
    """

    attacked: PreparedModel
    by: AttackBy
    config: AttackConfig
    chunk_size: int
    sub_batch: SubBatch = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sub_batch", SubBatch(self.chunk_size))

    def try_out(self, attempts: Attempts, x: Tensor, clean_logits: NDArray[np.float32]) -> None:
        """Call it on a few attempts, before anything is stored.

        Raises:
            AttackError: see :meth:`perturb`.
        """
        self._perturb_batch(attempts, x, clean_logits, ("trial",))

    def perturb(
        self, position: int, attempts: Attempts, x: Tensor, clean_logits: NDArray[np.float32]
    ) -> tuple[Perturbed, Passes]:
        """Attack one chunk; equal inputs give equal bytes, if the attack draws from global generators alone.

        Args:
            position: of the chunk, which its random numbers depend on.
            attempts: of the chunk.
            x: their clean images on the CPU, float32 ``(n, c, h, w)`` in [0, 1]; left untouched.
            clean_logits: the attacked model's logits on ``x``, ``(n, classes)``.

        Raises:
            AttackError: it failed, or returned what are no images of this shape in [0, 1].
            ModelError: the model cannot be copied.
            OutOfMemoryError: the device cannot take a single image.
        """

        def in_batches(size: int) -> list[_Found]:
            return [
                self._perturb_batch(attempts.pick(part), x[part], clean_logits[part], (position, part.start))
                for part in (slice(start, start + size) for start in range(0, len(attempts), size))
            ]

        found = self.sub_batch.fit(in_batches, "while attacking")
        delta = torch.cat([each.delta for each in found]).numpy()
        logits = np.concatenate([each.logits for each in found])
        perturbed = Perturbed(attempts, x.numpy(), delta, clean_logits, logits, self.sub_batch.if_halved)
        return perturbed, sum((each.passes for each in found), Passes())

    def _perturb_batch(
        self, attempts: Attempts, x: Tensor, clean_logits: NDArray[np.float32], key: tuple[int | str, ...]
    ) -> _Found:
        device = self.attacked.device
        label, target = (
            torch.from_numpy(part).to(device) for part in (attempts.source_label, attempts.requested_target)
        )
        is_untargeted = bool((attempts.requested_target == UNTARGETED).all())
        batch = _Batch(x.to(device), label, None if is_untargeted else target)
        model = CountedModel(self._copy(), clean_logits.shape[1])
        with seeded(device, "called", self.config.seed, *key):
            x_adv = self._call(model, batch)
        delta = _stored_change(batch.x, x_adv)
        return _Found(delta.cpu(), forward(self.attacked.model, apply_delta(batch.x, delta)), model.passes)

    def _copy(self) -> nn.Module:
        if isinstance(self.attacked.frozen, ModelItself):
            raise ModelError(f"the model cannot be copied, and {self.by.name} gets nothing but a copy of it")
        return copy.deepcopy(self.attacked.frozen)

    def _call(self, model: CountedModel, batch: _Batch) -> Tensor:
        """Return the images that it makes, float32.

        Raises:
            AttackError: see :meth:`perturb`.
        """
        by, x, target = self.by, batch.x.clone(), batch.target_label
        given = model, x, batch.label.clone(), None if target is None else target.clone()
        with self._as_ours(), contextlib.redirect_stdout(sys.stderr), torch.enable_grad():
            returned = by.fn(*given, self.config.eps, self.config.norm, **by.arguments)
            if not torch.is_grad_enabled():
                raise AttackError(
                    f"{by.name} leaves gradients switched off: switch them on again before it returns"
                )
        if not torch.equal(x.detach(), batch.x):
            raise AttackError(
                f"{by.name} changes the images that it is given: must return new ones (x.clone())"
            )
        return _check_images(by.name, returned, batch.x)

    @contextlib.contextmanager
    def _as_ours(self) -> Iterator[None]:
        """Raise what it raises as one line of ours; that memory ends, as it is: less at a time may fit."""
        try:
            with users_code(lambda reason: AttackError(f"{self.by.name} failed: {reason}")):
                yield
        except AttackError as error:
            if isinstance(error.__cause__, MemoryError | RuntimeError) and is_out_of_memory(error.__cause__):
                raise error.__cause__ from None
            raise


def _check_images(name: str, returned: object, x: Tensor) -> Tensor:
    """Return what an attack returned as float32 images beside the clean ones.

    Raises:
        AttackError: they are none, of another shape, not finite, or not in [0, 1].
    """
    images = torch.from_numpy(returned) if isinstance(returned, np.ndarray) else returned
    if not isinstance(images, Tensor) or not images.is_floating_point():
        kind = images.dtype if isinstance(images, Tensor) else type(returned).__name__
        raise AttackError(f"{name} returns {kind}: must be images, a tensor of floating numbers like x")
    if images.shape != x.shape:
        raise AttackError(f"{name} returns shape {tuple(images.shape)}: must be that of x, {tuple(x.shape)}")
    found = images.detach().to(x.device, torch.float32)
    if not torch.isfinite(found).all():
        raise AttackError(f"{name} returns values that are not finite: must be images in [0, 1]")
    try:
        check_images(found, f"the images that {name} returns")
    except DataError as error:
        raise AttackError(str(error)) from None
    return found


def _stored_change(x: Tensor, x_adv: Tensor) -> Tensor:
    """Round ``x_adv − x`` to the stored precision towards 0: never farther from x than what came back."""
    change = x_adv - x
    rounded = change.to(STORED)
    is_farther = rounded.float().abs() > change.abs()
    # One step towards 0, whatever the sign: the bits beneath it are the magnitude.
    return (rounded.view(torch.int16) - is_farther.to(torch.int16)).view(STORED)
