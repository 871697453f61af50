"""Arithmetic in float32: products and convolutions beside float64, also after a factory turned TF32 on."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from gpu_checks.findings import Case, Finding
from gpu_checks.subjects import small_digits
from jsdelta_db.compute.models import build_model

# TF32 keeps ten bits: its error is 1e-4. In float32 sums of a few hundred products stay below 1e-6, in any
# order.
LARGEST_ERROR = 1e-6
LARGEST_WINOGRAD_ERROR = 1e-5  # its transforms, which only contiguous images may meet, lose a digit
TF32_FACTORY = "gpu_checks.networks:turn_tf32_on"


def cases(device: torch.device) -> list[Case]:
    """Return the cases: as the devices are resolved, and after a user's factory changed the settings."""
    return [
        Case("as resolved", lambda: _compare(device, "as resolved")),
        Case("after a factory", lambda: _after_a_factory(device)),
    ]


def _after_a_factory(device: torch.device) -> list[Finding]:
    build_model(TF32_FACTORY, small_digits())
    return _compare(device, "after a factory turned TF32 on")


def _compare(device: torch.device, when: str) -> list[Finding]:
    found = []
    for name, (operation, bound) in _operations(device).items():
        error = operation()
        found.append(Finding(f"{name}, {when}", error, error < bound, f"< {bound:g}"))
    return found


def _operations(device: torch.device) -> dict[str, tuple[Callable[[], float], float]]:
    """Return operations by name: a function that gives the relative error, and the largest allowed."""
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 256, 256, generator=generator).to(device)
    images = torch.randn(32, 32, 16, 16, generator=generator).to(device)
    weight = torch.randn(32, 32, 3, 3, generator=generator).to(device)
    last = {"memory_format": torch.channels_last}
    in_order = (images.contiguous(**last), weight.contiguous(**last))
    return {
        "matrix product": (lambda: _error(torch.mm, a, b), LARGEST_ERROR),
        "convolution": (lambda: _error(_convolve, *in_order), LARGEST_ERROR),
        "gradient of a convolution": (lambda: _error(_gradient, *in_order), LARGEST_ERROR),
        "convolution, contiguous": (lambda: _error(_convolve, images, weight), LARGEST_WINOGRAD_ERROR),
    }


def _convolve(images: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(images, weight, padding=1)


def _gradient(images: Tensor, weight: Tensor) -> Tensor:
    """Return a gradient to the images: all that an attack asks of a convolution."""
    probe = images.detach().clone().requires_grad_()
    made = _convolve(probe, weight)
    above = torch.randn(made.shape, generator=torch.Generator().manual_seed(1)).to(made)
    (gradient,) = torch.autograd.grad(made, probe, above)
    return gradient


def _error(operation: Callable[[Tensor, Tensor], Tensor], one: Tensor, other: Tensor) -> float:
    """Return the error of an operation in float32, as a share of the largest value of the same in float64."""
    exact = operation(one.double(), other.double())
    return float((operation(one, other).double() - exact).abs().max() / exact.abs().max())
