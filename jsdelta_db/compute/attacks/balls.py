"""Perturbation balls, linf and l2: their starts, steps and projections.

Each ball is made around a batch ``x``, float32 ``(n, …)`` in [0, 1], with radius ``eps`` in pixel units.
Its methods change their argument in place, so that a step allocates as little as it can.
"""

import math
from abc import ABC, abstractmethod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Perturbations are rounded to this precision before success is checked and scored: what is stored is what
# was evaluated.
STORED = torch.float16


class Ball(ABC):
    """All images of [0, 1] that are at most ``eps`` from ``x``."""

    norm: str

    def __init__(self, x: Tensor, eps: float) -> None:
        self.x, self.eps = x, eps

    @staticmethod
    @abstractmethod
    def draw(generator: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Draw a point of the unit ball, an image's start as a share of ε."""

    @staticmethod
    @abstractmethod
    def draw_batch(generator: torch.Generator, shape: tuple[int, ...]) -> Tensor:
        """Draw a point of the unit ball for each image of a batch ``(n, …)``, on the generator's device."""

    @staticmethod
    @abstractmethod
    def spread(signs: Tensor, radius: float) -> Tensor:
        """Turn signs ±1 ``(n, …)`` into noise of that length in this norm."""

    @staticmethod
    @abstractmethod
    def size(change: Tensor) -> Tensor:
        """Return the length of each change in this norm: ``(n, …)`` → ``(n,)``."""

    @abstractmethod
    def project_(self, x_adv: Tensor) -> Tensor:
        """Project every image into the ball and [0, 1]."""

    @abstractmethod
    def step_(self, x_adv: Tensor, gradient: Tensor, step_size: float) -> Tensor:
        """Descend the gradient by ``step_size`` in this norm, and project."""

    @abstractmethod
    def stored(self, x_adv: Tensor) -> Tensor:
        """Round ``x_adv − x`` to the stored precision without leaving the ball."""


class LinfBall(Ball):
    """No pixel changes by more than ε; the box is computed once."""

    norm = "linf"

    def __init__(self, x: Tensor, eps: float) -> None:
        super().__init__(x, eps)
        self.lower, self.upper = (x - eps).clamp_(min=0.0), (x + eps).clamp_(max=1.0)

    @staticmethod
    def draw(generator: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Draw uniformly in [−1, 1]."""
        return generator.random(shape, dtype=np.float32) * np.float32(2.0) - np.float32(1.0)

    @staticmethod
    def draw_batch(generator: torch.Generator, shape: tuple[int, ...]) -> Tensor:
        """Draw uniformly in [−1, 1]."""
        return torch.rand(shape, generator=generator, device=generator.device).mul_(2.0).sub_(1.0)

    @staticmethod
    def spread(signs: Tensor, radius: float) -> Tensor:
        """Change every pixel by the radius."""
        return signs * radius

    @staticmethod
    def size(change: Tensor) -> Tensor:
        """Return the largest change of a pixel."""
        return change.flatten(1).abs().amax(1)

    def project_(self, x_adv: Tensor) -> Tensor:
        """Clamp to the box."""
        return x_adv.clamp_(min=self.lower, max=self.upper)

    def step_(self, x_adv: Tensor, gradient: Tensor, step_size: float) -> Tensor:
        """Take a signed step."""
        return self.project_(x_adv.sub_(gradient.sign_(), alpha=step_size))

    def stored(self, x_adv: Tensor) -> Tensor:
        """Clamp to the largest float16 that stays below ε even after x + δ is rounded to float32."""
        limit = np.float16(self.eps)
        while limit > 0 and float(limit) > self.eps - 2.0**-24:
            limit = np.nextafter(limit, np.float16(0))
        return (x_adv - self.x).clamp_(-float(limit), float(limit)).to(STORED)


class L2Ball(Ball):
    """The Euclidean length of the change is at most ε."""

    norm = "l2"

    @staticmethod
    def draw(generator: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Draw uniformly in the ball: a normal direction, a radius of u^(1/d)."""
        direction = generator.standard_normal(shape, dtype=np.float32)
        radius = generator.random() ** (1.0 / direction.size)
        return np.asarray(direction * np.float32(radius / np.linalg.norm(direction)))

    @staticmethod
    def draw_batch(generator: torch.Generator, shape: tuple[int, ...]) -> Tensor:
        """Draw uniformly in each image's ball."""
        device = generator.device
        direction = torch.randn(shape, generator=generator, device=device)
        radius = torch.rand(shape[0], generator=generator, device=device) ** (1.0 / direction[0].numel())
        return direction * per_image(radius / direction.flatten(1).norm(dim=1), direction)

    @staticmethod
    def spread(signs: Tensor, radius: float) -> Tensor:
        """Change every pixel alike, to that total length."""
        return signs * (radius / math.sqrt(signs[0].numel()))

    @staticmethod
    def size(change: Tensor) -> Tensor:
        """Return the Euclidean length."""
        length: Tensor = change.flatten(1).norm(dim=1)
        return length

    def project_(self, x_adv: Tensor) -> Tensor:
        """Shorten changes that are too long, then clamp to [0, 1], which only shortens further."""
        change = x_adv.detach() - self.x
        share = (self.eps / per_image(self.size(change), change).clamp_(min=1e-30)).clamp_(max=1.0)
        return x_adv.copy_(change.mul_(share).add_(self.x)).clamp_(0.0, 1.0)

    def step_(self, x_adv: Tensor, gradient: Tensor, step_size: float) -> Tensor:
        """Take a step of that length; an image without a finite gradient stays."""
        gradient.nan_to_num_()
        length = per_image(self.size(gradient), gradient).clamp_(min=1e-30)
        return self.project_(x_adv.sub_(gradient.div_(length), alpha=step_size))

    def stored(self, x_adv: Tensor) -> Tensor:
        """Shorten changes that rounding would leave outside; each image by itself."""
        change = x_adv - self.x
        length = per_image(self.size(change.double()), change).clamp(min=1e-30)
        limit = torch.full_like(length, self.eps)
        while True:
            rounded = (change * (limit / length).clamp(max=1.0)).to(STORED)
            moved = apply_delta(self.x, rounded).double() - self.x.double()
            outside = self.size(moved) > self.eps
            if not bool(outside.any()):
                return rounded
            limit[outside] *= 1.0 - 2.0**-11  # half a float16 step


BALLS: dict[str, type[Ball]] = {"linf": LinfBall, "l2": L2Ball}


def apply_delta(x: Tensor, delta: Tensor) -> Tensor:
    """Return the image that is checked and scored: x + delta in float32, clipped to [0, 1]."""
    return (x + delta.to(torch.float32)).clamp_(0.0, 1.0)


def per_image(values: Tensor, like: Tensor) -> Tensor:
    """Shape one value an image ``(n,)`` so that it is taken with all pixels of its image ``(n, …)``."""
    return values.view(-1, *[1] * (like.dim() - 1))
