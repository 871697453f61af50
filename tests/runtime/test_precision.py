"""Precision: float32 stays float32, whatever a user's code switches on."""

import pytest
import torch
from torch import backends

from jsdelta_db.runtime.precision import keep_float32


def switches() -> dict[str, object]:
    """Return what torch says of its switches, the old ones and the new."""
    return {
        "cuda.matmul": backends.cuda.matmul.allow_tf32,
        "cudnn": backends.cudnn.allow_tf32,
        "matmul precision": torch.get_float32_matmul_precision(),
        "benchmark": backends.cudnn.benchmark,
        "deterministic": backends.cudnn.deterministic,
        **{
            f"{backend.__name__}.{operation}": getattr(backend, operation).fp32_precision
            for backend, operations in (
                (backends.cudnn, ("conv", "rnn")), (backends.mkldnn, ("matmul", "conv", "rnn")),
            )
            for operation in operations
            if hasattr(backend, operation)
        },
    }  # fmt: skip


def turn(owner: str, value: object):
    """Return what turns one switch, named by its path below torch."""
    path, _, name = owner.rpartition(".")

    def do() -> None:
        place = torch
        for part in filter(None, path.split(".")):
            place = getattr(place, part)
        if not hasattr(type(place), name) and not hasattr(place, name):
            pytest.skip(f"this torch has no {owner}")
        setattr(place, name, value)

    return do


TURNS = {
    "high": lambda: torch.set_float32_matmul_precision("high"),
    "medium": lambda: torch.set_float32_matmul_precision("medium"),
    "old matmul": turn("backends.cuda.matmul.allow_tf32", True),
    "old cudnn": turn("backends.cudnn.allow_tf32", True),
    "benchmark": turn("backends.cudnn.benchmark", True),
    "all": turn("backends.fp32_precision", "tf32"),
    "cudnn": turn("backends.cudnn.fp32_precision", "tf32"),
    "conv": turn("backends.cudnn.conv.fp32_precision", "tf32"),
    "matmul": turn("backends.cuda.matmul.fp32_precision", "tf32"),
    "processor": turn("backends.mkldnn.fp32_precision", "bf16"),
    "processor's matmul": turn("backends.mkldnn.matmul.fp32_precision", "bf16"),
}


@pytest.fixture(autouse=True)
def _turned_back():
    yield
    keep_float32()


@pytest.mark.parametrize("name", TURNS)
def test_every_switch_is_turned_back(name):
    """One after the other, by the old names and by the new, and torch still answers to both."""
    keep_float32()
    kept = switches()
    TURNS[name]()
    keep_float32()
    assert switches() == kept
    assert {value for key, value in kept.items() if key not in ("benchmark", "deterministic")} <= {
        False, "highest", "ieee",
    }  # fmt: skip
    assert (kept["deterministic"], kept["benchmark"]) == (True, False)


def test_a_mixture_of_all_is_turned_back():
    """Where old and new contradict each other, reading raises; not afterwards."""
    keep_float32()
    kept = switches()
    for each in ("all", "medium", "old cudnn", "conv", "processor's matmul"):
        TURNS[each]()
    keep_float32()
    assert switches() == kept
