"""Cards: whether one computes, and how rows name it."""

import pytest
import torch

from jsdelta_db.runtime import cards
from jsdelta_db.runtime.cards import (
    card_of,
    compute_little,
    describe_card,
    find_fault,
    is_same_model,
    list_cards,
)
from tests.cards import NO_KERNELS, pretend_cards


def test_the_probe_passes_where_arithmetic_is_right():
    """A matrix product and a convolution, here on the processor."""
    compute_little(torch.device("cpu"))


@pytest.mark.parametrize("name", ["conv2d", "matmul"])
def test_the_probe_finds_wrong_numbers(name, monkeypatch):
    """A card that computes without an error, but not what was asked for, has a fault."""
    if name == "conv2d":
        monkeypatch.setattr(cards.F, "conv2d", lambda *given: torch.zeros(1))
    else:
        monkeypatch.setattr(torch.Tensor, "__matmul__", lambda one, other: one)
    with pytest.raises(RuntimeError, match="wrong numbers"):
        compute_little(torch.device("cpu"))


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (RuntimeError(f"{NO_KERNELS}\nCUDA kernel errors might be asynchronously reported"), NO_KERNELS),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."), "its memory is full"),
        (AssertionError("Torch not compiled with CUDA enabled"), "Torch not compiled with CUDA enabled"),
    ],
)
def test_a_fault_is_one_line(error, fault, monkeypatch):
    """No kernels, no room and no driver are told apart; a card without a fault has none."""
    pretend_cards(monkeypatch, "one", "two", faults={1: error})
    assert (find_fault(0), find_fault(1)) == (None, fault)


def test_a_card_is_named_by_its_place_and_model(monkeypatch):
    """Rows hold both, of a processor nothing."""
    pretend_cards(monkeypatch, "NVIDIA H200", "NVIDIA A100")
    assert card_of(torch.device("cuda", 1)) == "cuda:1 NVIDIA A100"
    assert card_of(torch.device("cpu")) is None
    assert list(list_cards()) == [0, 1]


def test_a_card_whose_driver_does_not_answer_has_a_place(monkeypatch):
    """Its fault can be told all the same."""

    def fail(index: int) -> str:
        raise RuntimeError("CUDA driver initialization failed")

    monkeypatch.setattr(torch.cuda, "get_device_name", fail)
    assert describe_card(2) == "cuda:2"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("cuda:0 NVIDIA H200", "cuda:3 NVIDIA H200", True),
        ("cuda:0 NVIDIA H200", "cuda:0 NVIDIA A100", False),
        ("cuda:0 NVIDIA H200", None, False),
        (None, None, False),  # processors are not told apart
    ],
)
def test_cards_of_one_model_are_alike(one, other, same):
    """Whatever their places."""
    assert is_same_model(one, other) is same
