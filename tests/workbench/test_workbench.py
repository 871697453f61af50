"""Workbench: the devices that an open workspace computes on, and what is said once."""

import pytest
import torch

from jsdelta_db.errors import UsageError
from jsdelta_db.workbench.workbench import open_workbench
from tests.cards import NO_KERNELS, pretend_cards
from tests.workspaces import Listening


def test_each_worker_has_a_card_of_its_own(tiny_copy, monkeypatch):
    """Its number says which, and a card that is asked for by number is taken by all."""
    pretend_cards(monkeypatch, "one", "two")
    for worker, index in ((0, 0), (1, 1), (2, 0)):
        with open_workbench(tiny_copy, worker=worker) as bench:
            assert bench.device("auto") == bench.device("cuda") == torch.device("cuda", index)
            assert bench.device("cuda:1") == torch.device("cuda", 1)


def test_that_no_card_can_be_used_is_said_once(tiny_copy, monkeypatch):
    """However often a run asks for its device."""
    pretend_cards(monkeypatch, "Tesla K80", faults={0: RuntimeError(NO_KERNELS)})
    heard = Listening()
    with open_workbench(tiny_copy, heard) as bench:
        assert [bench.device("auto").type for _ in range(3)] == ["cpu"] * 3
    assert heard.lines == [f"no card can be used (cuda:0 Tesla K80: {NO_KERNELS}): the processor computes"]


@pytest.mark.parametrize(
    "requested", ["tpu", "cuda:", "cuda:x", "cuda:N", "cuda:-1", "", "mps", "cpu:0", None]
)
def test_what_is_no_device_is_refused(requested, tiny_copy):
    """Also where no configuration has checked it."""
    with (
        open_workbench(tiny_copy) as bench,
        pytest.raises(UsageError, match=r"device .* is not valid: must be auto, cpu, cuda or cuda:N"),
    ):
        bench.device(requested)
