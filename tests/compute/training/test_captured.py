"""Captured functions: counted with a stand-in for CUDA graphs; whatever happens, the result is the function's."""

import dataclasses
from pathlib import Path

import pytest
import torch

from jsdelta_db.compute import data
from jsdelta_db.compute.attacks import capture
from jsdelta_db.compute.attacks.capture import Capture
from jsdelta_db.compute.data import Split
from jsdelta_db.compute.models import build_model
from jsdelta_db.compute.training import Training, captured, train
from jsdelta_db.compute.training.captured import CapturedFunction
from jsdelta_db.config.training import TrainConfig
from tests.compute.attacks.test_capture import CountingGraphs

CPU = torch.device("cpu")


@pytest.fixture
def graphs(monkeypatch):
    """Return a function that puts counting graphs in place of CUDA's."""

    def install(refuses=None):
        made = CountingGraphs(refuses)
        for module in (capture, captured):
            monkeypatch.setattr(module, "find_graphs", lambda device: made)
        return made

    return install


class Scaled:
    """A function of two tensors and a weight that changes in place, as in a training."""

    def __init__(self):
        self.weight = torch.ones(())
        self.said = []
        self.captured = CapturedFunction(lambda x, y: x * self.weight + y, Capture(tell=self.said.append))

    def is_right_on(self, n):
        """Call it on n new numbers, with a new weight; return whether the result is the function's."""
        self.weight += 1.0
        x, y = torch.randn(n), torch.randn(n)
        return torch.equal(x * self.weight + y, self.captured(x, y))


def test_a_function_is_captured_once_for_each_shape(graphs):
    """The fourth call of a shape is captured, and it and all later ones are replays on what is given then."""
    counting, function = graphs(), Scaled()
    assert all(function.is_right_on(n) for n in [5, 5, 3, 5, 5, 3, 5, 3, 3, 5])
    assert (counting.captures, counting.replays, function.said) == (2, 3 + 1, [])


@pytest.mark.parametrize("refuses", ["waits", "capture", "memory"])
def test_a_function_that_cannot_be_captured_is_called_as_it_is(refuses, graphs):
    """One line says so, nothing is tried again, and no result is lost."""
    counting, function = graphs(refuses), Scaled()
    assert all(function.is_right_on(n) for n in [5, 5, 5, 5, 5, 3, 3, 3, 3])
    assert (counting.captures, counting.replays) == (0 if refuses == "waits" else 1, 0)
    (line,) = function.said
    assert ("the memory does not suffice" in line) == (refuses == "memory")


def test_a_graph_does_not_take_the_memory_that_the_training_needs(graphs, monkeypatch):
    """Where less is free than what was in use at most, nothing is captured, and one line says why."""
    counting, function = graphs(), Scaled()
    monkeypatch.setattr(captured, "has_room", lambda device: False)
    assert all(function.is_right_on(5) for _ in range(6))
    assert (counting.captures, len(function.said)) == (0, 1)
    assert "the memory does not suffice" in function.said[0]


@pytest.mark.parametrize(("free", "expected"), [(700, True), (699, False)])
def test_room_for_a_graph_is_what_was_in_use_at_most(free, expected, monkeypatch):
    """Of a card's memory as much must be free as was in use beyond what is in use now."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10_000))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 1000)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 300)
    assert captured.has_room(torch.device("cuda")) is expected


def test_errors_of_the_function_stay_what_they_are(graphs):
    """Only a capture is given up silently: the function's own error is raised."""
    graphs()
    function = CapturedFunction(lambda x: x[10], Capture())
    with pytest.raises(IndexError, match="out of bounds"):
        function(torch.zeros(3))


@pytest.mark.parametrize("refuses", [None, "capture", "memory"])
def test_adversarial_training_is_the_same_with_graphs(refuses, graphs, monkeypatch):
    """Weights change between replays, batches in size: the same weights bit for bit as without any graph."""
    monkeypatch.setattr("jsdelta_db.compute.training.loop._measure_robustness", lambda *given: None)
    digits = data.load("digits", Path("unused"))
    few = Split(*(part[:80] for part in dataclasses.astuple(digits.splits["train"])))
    digits = dataclasses.replace(digits, splits={**digits.splits, "train": few, "baseline": few})
    config = TrainConfig(
        "digits", "cnn-small", epochs=4, width=4, batch_size=32, crop_padding=1, flip=True, method="adversarial",
        train_norm="linf", train_eps=4 / 255, train_steps=2, train_step_size=3 / 255,
    )  # fmt: skip
    said, weights = [], []
    for counting in (None, graphs(refuses)):
        with pytest.MonkeyPatch.context() as patch:
            if counting is None:
                patch.setattr(captured, "find_graphs", lambda device: None)
            model = build_model("cnn-small", digits, width=4)
            train(model, Training(digits, config, 0, CPU, torch.float32), tell=said.append)
        weights.append(torch.cat([value.flatten().double() for value in model.state_dict().values()]))
    assert torch.equal(*weights)
    assert len(said) == (refuses is not None)
    if refuses is None:  # three batches an epoch, the last of 16 images
        assert (counting.captures, counting.replays) == (2, 8 - 3 + 4 - 3)
