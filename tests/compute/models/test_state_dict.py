"""State dicts as training scripts save them: found in a file, and fitted to a network's own names."""

import pytest
import torch
from torch import nn

from jsdelta_db.compute.models.state_dict import describe_misfit, find_states, fit_state, show_names


def make():
    """A network with a layer of every kind of entry: weights, statistics and counters."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))


class Wrapped(nn.Module):
    """A network whose only child is called as DataParallel calls it."""

    def __init__(self):
        super().__init__()
        self.module = nn.Linear(6, 3)


STATE = make().state_dict()


def under(*prefixes):
    """Return the state under prefixes, the first one outermost."""
    return {"".join(prefixes) + name: value for name, value in STATE.items()}


def inside(prefix, layer):
    """Return the state with a wrapper around one layer."""
    return {name.replace(f"{layer}.", f"{layer}.{prefix}", 1): value for name, value in STATE.items()}


def found(content, network):
    """Return the first state of a file that fits, as ``jsdelta models add`` does."""
    return next(
        (fitted for fitted in (fit_state(each.state, network) for each in find_states(content)) if fitted),
        None,
    )


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        under("module."),
        under("_orig_mod."),
        under("_orig_mod.", "module."),
        under("module.", "_orig_mod."),
        under("module.", "module.", "model."),
        under("model.", "_orig_mod."),
        under("net."),
        inside("module.", "0"),
        inside("_orig_mod.", "2"),
        {"n_averaged": torch.tensor(3), **under("module.")},
        {"state_dict": under("model."), "epoch": 3},
        {"epoch": torch.tensor(3), "model": STATE},
        *({name: STATE, "epoch": 1} for name in ("model_state", "ema", "params", "net", "my own key")),
        {"checkpoint": {"model": under("module.")}},
        {"model": {"other": torch.zeros(2)}, "ema": STATE},
        {"model": {**STATE, "0.weight": torch.zeros(9, 9)}, "ema": STATE},
        {"optimizer": {"state": {0: {"exp_avg": torch.zeros(4)}}}, "weights": STATE},
    ],
)
def test_weights_are_found_whatever_they_are_wrapped_in(content):
    """The same tensors come out under the network's own names."""
    state = found(content, make())
    assert list(state) == list(STATE)
    assert all(torch.equal(state[name], STATE[name]) for name in STATE)


@pytest.mark.parametrize("network", [Wrapped(), nn.DataParallel(make())], ids=["child", "DataParallel"])
def test_a_networks_own_names_come_first(network):
    """What looks like a wrapper's prefix may be the network's own name."""
    own = network.state_dict()
    assert list(found(own, network)) == list(own)
    bare = {name.removeprefix("module."): value for name, value in own.items()}
    assert list(found(bare, network)) == list(own)


def test_counters_that_old_files_lack_are_the_networks_own():
    """Batch norm counted no batches once; nothing else may be missing."""
    old = {name: value for name, value in STATE.items() if "num_batches" not in name}
    assert found(old, make())["1.num_batches_tracked"] == 0
    del old["1.running_mean"]
    assert found(old, make()) is None


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"other": torch.zeros(1)}, "it lacks 0.weight, 0.bias, 1.weight and 6 more, and it holds other"),
        ({**STATE, "head.weight": torch.zeros(1)}, "the network has no head.weight"),
        ({**STATE, "0.bias": torch.zeros(7)}, "0.bias is (7,), the network's is (4,)"),
        ({**under("model."), "x": torch.zeros(1)}, "it lacks 0.weight, 0.bias, 1.weight and 6 more, and it "
         "holds model.0.weight, model.0.bias, model.1.weight and 7 more"),
    ],
    ids=["others", "one more", "shape", "prefix of most"],
)  # fmt: skip
def test_what_does_not_fit_is_named(state, message):
    """The line names what is missing and what the file holds, or the shapes; never half a name."""
    assert fit_state(state, make()) is None
    assert describe_misfit(state, make()) == message


def test_names_are_never_cut():
    """A name that is too long for a line is counted, not shown."""
    assert show_names(["a", "b" * 90, "c"]) == "a, c and 1 more"
    assert show_names(["b" * 90]) == "1 of more than 80 characters"
