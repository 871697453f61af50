"""Captured steps: counted with a stand-in for CUDA graphs, and uncaptured where that fails."""

import sys
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from jsdelta_db.compute.attacks import BALLS, Steps, build_objective, capture, pgd
from jsdelta_db.compute.attacks.capture import Capture, CudaGraphs, RepeatedStep
from jsdelta_db.compute.attacks.pgd import FEWEST_CAPTURED
from jsdelta_db.config.checks import NORMS

from .attack_cases import EPS, make_cnn, make_images

CUDA = torch.device("cuda")  # only named: nothing is put there


class CountingGraphs:
    """A stand-in that runs what it captures when it is replayed, and counts.

    Args:
        refuses: what raises RuntimeError: ``waits`` (in the last warm-up), ``capture`` or ``memory``.
    """

    def __init__(self, refuses=None):
        self.refuses, self.captures, self.replays, self.blocks = refuses, 0, 0, 0
        self.is_beside = self.refuses_waits = False

    @contextmanager
    def beside(self):
        self.blocks, self.is_beside = self.blocks + 1, True
        try:
            yield
        finally:
            self.is_beside = False

    @contextmanager
    def refusing_waits(self):
        self.refuses_waits = True
        try:
            if self.refuses == "waits":
                raise RuntimeError("called a synchronizing CUDA operation")
            yield
        finally:
            self.refuses_waits = False

    def capture(self, step):
        self.captures += 1
        if self.refuses == "memory":
            raise torch.OutOfMemoryError("CUDA out of memory")
        if self.refuses == "capture":
            try:
                raise RuntimeError("operation not permitted when stream is capturing")
            finally:
                raise RuntimeError("the capture was invalidated")
        box = [None]

        def replay():
            assert self.is_beside
            self.replays += 1
            box[0] = step()

        return replay, box


@pytest.fixture
def graphs(monkeypatch):
    """Return a function that puts counting graphs in place of CUDA's."""

    def install(refuses=None):
        made = CountingGraphs(refuses)
        monkeypatch.setattr(capture, "find_graphs", lambda device: made)
        return made

    return install


@pytest.mark.parametrize(("count", "captures"), [(1, 0), (3, 0), (4, 1), (20, 1)])
def test_warm_up_capture_and_replays_are_as_many_steps_as_asked_for(graphs, count, captures):
    """The first three steps warm up, the fourth is captured, and it and the others are replays."""
    counting, taken = graphs(), []
    RepeatedStep(lambda: taken.append(counting.replays), CUDA, Capture()).run(count)
    assert len(taken) == count
    assert (counting.captures, counting.replays) == (captures, max(0, count - 3))


def test_a_captured_step_stays_captured(graphs):
    """Run again, as with the next batch in the same tensors, a step is only replayed."""
    counting, taken = graphs(), []
    repeated = RepeatedStep(lambda: taken.append(0), CUDA, Capture())
    for _ in range(5):
        repeated.run(2)
    assert (len(taken), counting.captures, counting.replays, counting.blocks) == (10, 1, 7, 5)


def test_only_the_last_warm_up_step_refuses_waits(graphs):
    """The earlier ones may wait, as libraries do at their first call."""
    counting, seen = graphs(), []
    RepeatedStep(lambda: seen.append(counting.refuses_waits), CUDA, Capture()).run(5)
    assert seen == [False, False, True, False, False]


@pytest.mark.parametrize("refuses", ["waits", "capture"])
def test_a_step_that_cannot_be_captured_is_taken_uncaptured(graphs, refuses):
    """As many steps as asked for, without a replay; one line says why, and nothing is tried again."""
    counting, taken, said = graphs(refuses), [], []
    allowed = Capture(tell=said.append)
    for _ in range(2):
        RepeatedStep(lambda: taken.append(0), CUDA, allowed).run(8)
    assert (len(taken), counting.captures, counting.replays) == (16, int(refuses == "capture"), 0)
    (line,) = said
    assert {"waits": "synchronizing", "capture": "not permitted"}[refuses] in line


def test_a_step_that_fails_by_itself_is_no_refusal(graphs):
    """The step's own error comes through, and nobody is told of graphs."""
    graphs()
    said, taken = [], []

    def step():
        taken.append(0)
        if len(taken) >= 3:
            raise RuntimeError("of the network")

    with pytest.raises(RuntimeError, match="of the network"):
        RepeatedStep(step, CUDA, Capture(tell=said.append)).run(8)
    assert said == []


def test_out_of_memory_in_a_capture_is_not_hidden(graphs):
    """It comes through, so that the batch is halved."""
    graphs("memory")
    allowed = Capture()
    with pytest.raises(torch.OutOfMemoryError):
        RepeatedStep(lambda: None, CUDA, allowed).run(8)
    assert allowed.is_allowed


@pytest.mark.parametrize(("device", "asked"), [("cuda", [10, 20]), ("cpu", list(range(1, 21)))])
def test_on_cuda_the_end_is_asked_for_every_tenth_step(graphs, device, asked):
    """An answer makes the device wait: on CUDA it is asked for rarely, on a CPU after each step."""
    graphs()
    taken, questions = [], []
    repeated = RepeatedStep(lambda: taken.append(0), torch.device(device), Capture())
    repeated.run(25, lambda result: questions.append(len(taken)) or len(taken) == 20)
    assert (questions, len(taken)) == (asked, 20)


# ---- in pgd


def walk(model, norm="linf", steps=FEWEST_CAPTURED, allowed=None, **options):
    """Attack a few images with a network."""
    x, target = make_images(3, (1, 8, 8)), torch.tensor([1, 2, 3])
    objective = build_objective("target", model.eval().requires_grad_(False), (), x, target, target)
    size = Steps(steps, EPS[norm] / 4)
    return pgd(
        objective,
        BALLS[norm](x, EPS[norm]),
        torch.zeros_like(x),
        size,
        capture=allowed or Capture(),
        **options,
    )


@pytest.mark.parametrize("refuses", [None, "waits", "capture"])
@pytest.mark.parametrize("norm", NORMS)
def test_replayed_and_refused_attacks_end_where_the_plain_one_does(graphs, norm, refuses):
    """Equal to the last bit, whether steps are replayed or not."""
    plain = walk(make_cnn(), norm)
    counting = graphs(refuses)
    assert torch.equal(plain, walk(make_cnn(), norm))
    assert counting.replays == (0 if refuses else FEWEST_CAPTURED - 3)


def test_few_steps_are_not_captured(graphs):
    """A capture costs more than a handful of replays save."""
    counting = graphs()
    walk(make_cnn(), steps=FEWEST_CAPTURED - 1)
    assert (counting.captures, counting.blocks) == (0, 0)


def test_a_network_that_may_not_be_captured_is_not(graphs):
    """A copy that was not traced asks anything in Python."""
    counting = graphs()
    walk(make_cnn(), allowed=Capture(is_allowed=False))
    assert counting.captures == 0


class Attending(nn.Module):
    """Attention over the rows of an image; notes which ways to compute it are allowed."""

    def __init__(self):
        super().__init__()
        self.allowed = set()

    def forward(self, x):
        flags = torch.backends.cuda
        self.allowed.add(
            (flags.flash_sdp_enabled(), flags.mem_efficient_sdp_enabled(), flags.math_sdp_enabled())
        )
        return nn.functional.scaled_dot_product_attention(x, x, x).flatten(1)[:, :10]


def test_attention_on_cuda_has_gradients_that_are_the_same_each_time(monkeypatch):
    """The fused backward passes add up in any order: steps on CUDA use none, and leave the setting as it was."""
    module = sys.modules[pgd.__module__]
    exact = module.exact_attention
    monkeypatch.setattr(module, "exact_attention", lambda device: exact(CUDA))
    network = Attending()
    walk(network)
    assert network.allowed == {(False, False, True)}
    assert torch.backends.cuda.flash_sdp_enabled()


# ---- CUDA's own calls


class FakeStream:
    """A stream that notes who waits for whom."""

    def __init__(self, name, log):
        self.name, self.log, self.device = name, log, 0

    def wait_stream(self, other):
        self.log.append(f"{self.name} waits for {other.name}")


@pytest.fixture
def cuda(monkeypatch):
    """torch's stream calls, noted; as in torch 2.11, a failed capture leaves its stream current."""
    log, current = [], []
    current.append(FakeStream("main", log))

    class Within:
        def __init__(self, stream):
            self.stream = stream

        def __enter__(self):
            self.before = current[0]
            current[0] = self.stream

        def __exit__(self, *error):
            current[0] = self.before

    class Recording:
        def __init__(self, graph, stream):
            self.stream = stream

        def __enter__(self):
            current[0] = self.stream

        def __exit__(self, *error):
            raise RuntimeError("the capture was invalidated")

    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: current[0])
    monkeypatch.setattr(torch.cuda, "stream", Within)
    monkeypatch.setattr(torch.cuda, "graph", Recording)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", type("Graph", (), {"replay": lambda self: None}))
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", lambda mode: log.append(f"mode {mode}"))
    return log, current


def test_after_a_failed_capture_the_callers_stream_is_current(cuda, monkeypatch):
    """Also where torch leaves the capture's own current; what follows waits for what was begun beside."""
    log, current = cuda
    made = CudaGraphs(FakeStream("side", log))
    monkeypatch.setattr(capture, "find_graphs", lambda device: made)
    said = []
    RepeatedStep(lambda: log.append(f"step on {current[0].name}"), CUDA, Capture(tell=said.append)).run(5)
    assert current[0].name == "main"
    assert log[0] == "side waits for main"
    assert log[-1] == "main waits for side"
    assert log.count("step on side") == 3 + 1 + 2  # warm-up, recorded in vain, uncaptured
    assert [line for line in log if line.startswith("mode")] == ["mode error", "mode 1"]
    assert len(said) == 1


def test_each_device_has_one_side_stream(monkeypatch):
    """torch keeps memory apart by stream: a new one for each call would keep it all."""
    made = []
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: made.append(device) or FakeStream(device, []))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    capture._graphs_of.cache_clear()
    try:
        first, again, other = (
            capture.find_graphs(torch.device(name)) for name in ("cuda", "cuda:0", "cuda:1")
        )
    finally:
        capture._graphs_of.cache_clear()
    assert first is again is not other
    assert made == [0, 1]
    assert capture.find_graphs(torch.device("cpu")) is None
