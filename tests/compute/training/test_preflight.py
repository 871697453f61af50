"""The preflight of a training: which networks are refused before it begins, and the dtype it gets."""

from pathlib import Path

import pytest
import torch

from jsdelta_db.compute import data
from jsdelta_db.compute.training import check_fresh
from jsdelta_db.config.recipes import get_recipe
from jsdelta_db.errors import ModelError, OutOfMemoryError, UsageError
from jsdelta_db.runtime import devices
from tests.pipeline.ensembles import networks

CPU = torch.device("cpu")
NETWORKS = "tests.pipeline.ensembles.networks"


def check(name, **changes):
    """Look at a fresh network of a user."""
    config = get_recipe("digits").override(arch=f"{NETWORKS}:{name}", **changes).train
    return check_fresh(config, data.load("digits", Path("unused")), 0, CPU)


@pytest.mark.parametrize(
    ("name", "fragment"),
    [
        ("Probabilities", "returns probabilities"),
        ("Dropping", "is dropout or noise on in eval mode"),
        ("Detached", "reaches the image"),
        ("Untrainable", "cannot be trained in float32 (not in this mode)"),
    ],
)
def test_networks_that_an_attack_would_refuse_are_not_trained(name, fragment):
    """One line says what is wrong, and with which architecture."""
    with pytest.raises(ModelError) as caught:
        check(name)
    assert fragment in str(caught.value)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["Viewing", "Asking", "Untraceable", "ZeroHead", "weight_normed", "spectral_normed", "pruned"]
)
def test_networks_that_learn_pass(name):
    """A fresh network is at chance, and may have no gradient before its first step."""
    assert torch.float32 == check(name, dtype="float32").dtype


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory"),
            OutOfMemoryError,
            "out of memory on a few images of 'digits'; ",
        ),
        (
            ValueError("two at most"),
            ModelError,
            "architecture '.*Viewing' failed on a few images .two at most.",
        ),
    ],
)
def test_a_first_look_that_fails_says_why(error, kind, message, monkeypatch):
    """A full card is no fault of the architecture's; an error in eval mode is, whenever it comes."""

    def forward(self, x, real=networks.Viewing.forward):
        if len(x) > 2:  # which it was built on
            raise error
        return real(self, x)

    monkeypatch.setattr(networks.Viewing, "forward", forward)
    with pytest.raises(kind, match=message):
        check("Viewing")


@pytest.fixture
def bfloat16(monkeypatch):
    """A machine whose bfloat16 pays."""
    monkeypatch.setattr(devices, "has_bfloat16", lambda device_type: True)
    monkeypatch.setattr(devices, "bfloat16_pays", lambda device_type: True)


def test_auto_is_float32_where_a_network_fails_in_bfloat16(bfloat16, monkeypatch):
    """Asked for, bfloat16 is refused in one line that says why."""

    def forward(self, x, real=networks.Viewing.forward):
        logits = real(self, x)
        if logits.dtype is torch.bfloat16:
            raise RuntimeError("no such kernel")
        return logits

    assert torch.bfloat16 == check("Viewing", dtype="auto").dtype
    monkeypatch.setattr(networks.Viewing, "forward", forward)
    assert torch.float32 == check("Viewing", dtype="auto").dtype
    with pytest.raises(UsageError, match=r"^--dtype 'bfloat16': .*no such kernel.* must be float32 or auto$"):
        check("Viewing", dtype="bfloat16")
