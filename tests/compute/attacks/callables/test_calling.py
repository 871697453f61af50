"""Calls of somebody's attack: seeds, passes, what is stored of what comes back."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from jsdelta_db.compute.attacks import apply_delta, prepare
from jsdelta_db.compute.attacks.callables import CalledAttack, Passes, wrap_function
from jsdelta_db.compute.attacks.callables.calling import _stored_change
from jsdelta_db.compute.attacks.callables.counting import CountedModel
from jsdelta_db.compute.attacks.callables.seeding import seeded
from jsdelta_db.compute.models.inference import forward
from jsdelta_db.config.attack import AttackConfig
from jsdelta_db.config.eps import farthest
from jsdelta_db.errors import AttackError, OutOfMemoryError
from jsdelta_db.records import PLAIN, Attempts
from tests import somebodys

CPU = torch.device("cpu")
N = 10


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).eval()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(N, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def called(fn, images, eps=0.1, **arguments):
    model = network()
    by = wrap_function(fn, {"version": 1, **arguments} if "<" in fn.__qualname__ else arguments)
    attack = CalledAttack(
        prepare(model, images, prepared_as=PLAIN), by, AttackConfig(eps=eps, attack_by=by), N
    )
    logits = forward(model, images)
    label = logits.argmax(1)
    attempts = Attempts(np.arange(N), label, (label + 1) % 5)
    return attack, (attempts, images, logits)


def test_equal_chunks_give_equal_bytes(images):
    """Whatever ran before: random numbers depend on the seed and the chunk alone."""
    attack, chunk = called(somebodys.steps, images)
    first, passes = attack.perturb(3, *chunk)
    torch.manual_seed(99)
    again, _ = attack.perturb(3, *chunk)
    other, _ = attack.perturb(4, *chunk)
    assert np.array_equal(first.delta, again.delta)
    assert not np.array_equal(first.delta, other.delta)
    assert (passes.forward, passes.backward) == (3 * N, 3 * N)


def test_success_is_measured_on_what_is_stored(images):
    """The logits are those of x + the stored δ, on the model itself."""
    attack, chunk = called(somebodys.fgsm, images)
    found, _ = attack.perturb(0, *chunk)
    stored = apply_delta(images, torch.from_numpy(found.delta))
    assert np.array_equal(found.logits, forward(network(), stored))
    assert found.delta.dtype == np.float16
    assert found.describe().linf.max() <= farthest(0.1)


def test_where_memory_ends_there_are_fewer_at_a_time(images):
    """A call that runs out of memory is made again on half of the images."""
    sizes = []

    def hungry(model, x, *rest):
        sizes.append(len(x))
        if len(x) > 3:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return x.clone()

    attack, chunk = called(hungry, images)
    found, _ = attack.perturb(0, *chunk)
    assert sizes == [10, 5, 2, 2, 2, 2, 2]
    assert (found.sub_batch, len(found.delta)) == (2, N)


def test_memory_that_never_suffices_is_said(images):
    """Not even one image at a time."""

    def starving(model, x, *rest):
        raise MemoryError

    attack, chunk = called(starving, images)
    with pytest.raises(OutOfMemoryError, match="one image at a time"):
        attack.perturb(0, *chunk)


@pytest.mark.parametrize(("name", "says"), somebodys.BAD.items())
def test_what_is_no_attack_is_refused(name, says, images):
    """On a trial as in a chunk."""
    attack, chunk = called(getattr(somebodys, name), images)
    with pytest.raises(AttackError, match=says):
        attack.try_out(*chunk)
    with pytest.raises(AttackError, match=says):
        attack.perturb(0, *chunk)


def test_what_it_prints_is_no_data(images, capsys):
    """Stdout is for data: prints go to stderr."""

    def loud(model, x, *rest):
        print("hello")  # noqa: T201
        return x.clone()

    attack, chunk = called(loud, images)
    attack.perturb(0, *chunk)
    assert capsys.readouterr() == ("", "hello\n")


def test_a_numpy_array_will_do(images):
    """Images may come back as NumPy's, in any floating type."""

    def in_numpy(model, x, *rest):
        return x.numpy().astype(np.float64)

    attack, chunk = called(in_numpy, images)
    assert not attack.perturb(0, *chunk)[0].delta.any()


def test_global_generators_go_on_where_they_were():
    """Nobody else's random numbers change by an attack."""

    def draw():
        return torch.rand(1).item(), np.random.rand(), random.random()

    def seed():
        torch.manual_seed(1)
        np.random.seed(1)
        random.seed(1)

    seed()
    expected = draw()
    seed()
    with seeded(CPU, "a", 1):
        inside = draw()
    assert draw() == expected
    with seeded(CPU, "a", 1):
        assert draw() == inside
    with seeded(CPU, "a", 2):
        assert draw() != inside


def test_passes_of_batches_of_any_size_add_up(images):
    """Forwards count without a gradient; a backward counts for each time that it is asked for."""
    model = CountedModel(network(), 5)
    with torch.no_grad():
        model(images)
    probe = images[:4].clone().requires_grad_()
    logits = model(probe)
    torch.autograd.grad(logits[:, 0].sum(), probe, retain_graph=True)
    torch.autograd.grad(logits[:, 1].sum(), probe)
    assert model.passes == Passes(N + 4, 8)


@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.floats(0, 1, width=32)), min_size=1, max_size=20))
def test_stored_changes_are_never_larger_than_what_came_back(pairs):
    """Rounded towards 0, to the next number of the stored precision: nothing is pushed out of its ball."""
    x, x_adv = torch.tensor(pairs, dtype=torch.float32).T
    stored = _stored_change(x, x_adv)
    change = x_adv - x
    assert stored.dtype is torch.float16
    assert (stored.float().abs() <= change.abs()).all()
    assert (stored.float() * change >= 0).all()
    assert ((stored.float() - change).abs() <= change.abs() * 2**-10 + 2**-24).all()
