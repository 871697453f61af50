"""Checkpoint files of training scripts: whatever they were saved with, from and beside."""

import argparse
import io
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from jsdelta_db.compute.models.checkpoint_file import load_weights
from jsdelta_db.errors import CheckpointError, UsageError


def make(seed=0):
    """A network with weights, statistics and a counter."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))


STATE = make().state_dict()


def load(path):
    """Load the file into another network; return the lines, if the weights are the file's."""
    network = make(seed=1)
    lines = load_weights(network, path)
    assert all(torch.equal(value, STATE[name]) for name, value in network.state_dict().items())
    return [line.removeprefix(f"--checkpoint {path}: ") for line in lines]


def under(prefix):
    """Return the state with its names prefixed."""
    return {prefix + name: value for name, value in STATE.items()}


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (STATE, []),
        ({"state_dict": STATE, "epoch": 3}, ["the weights are those under state_dict"]),
        (under("module."), ["names such as module.0.weight were read as 0.weight"]),
        (
            {"net": under("_orig_mod.module.")},
            [
                "the weights are those under net; names such as _orig_mod.module.0.weight were read as 0.weight"
            ],
        ),
        (
            {"n_averaged": torch.tensor(3), **under("module.")},
            ["names such as module.0.weight were read as 0.weight; left out: n_averaged"],
        ),
        (
            {"ema": STATE, "model": STATE},
            ["the weights are those under model; not taken, though they fit: ema"],
        ),
        ({"checkpoint": {"model": STATE}}, ["the weights are those under checkpoint/model"]),
    ],
    ids=["bare", "inside", "prefixed", "both", "averaged", "two", "deep"],
)
def test_what_was_stripped_is_said(content, lines, tmp_path):
    """A line for what is not as it was saved: the place, the prefixes, what was left; none for a bare state dict."""
    torch.save(content, tmp_path / "w.pt")
    assert load(tmp_path / "w.pt") == lines


def rewrite(path, replace):
    """Replace bytes in the pickle of a file of torch.save's."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    changed = 0
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in parts.items():
            new = replace(content) if name.endswith("/data.pkl") else content
            changed += new != content
            archive.writestr(name, new)
    assert changed == 1


def test_a_file_saved_on_a_gpu(tmp_path):
    """It is read where there is none."""
    path = tmp_path / "w.pt"
    torch.save(STATE, path)
    text = {name: b"X" + len(name).to_bytes(4, "little") + name.encode() for name in ("cpu", "cuda:0")}
    rewrite(path, lambda content: content.replace(text["cpu"], text["cuda:0"]))
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="CUDA"):
            torch.load(path, weights_only=True)
    assert load(path) == []


@pytest.mark.parametrize("core", ["core", "_core"])
def test_a_scripts_arguments_and_numbers_beside_the_weights(core, tmp_path):
    """argparse's namespace, paths and NumPy's numbers, of old and new NumPy, are no code."""
    path = tmp_path / "w.pt"
    beside = {"args": argparse.Namespace(lr=0.1, out=Path("runs")), "best": np.float64(0.9), "n": np.int64(3)}
    torch.save({"model": STATE, **beside}, path)
    here = np.float64(0).__reduce__()[0].__module__.encode()
    there = b"numpy.%s.multiarray" % core.encode()
    if here != there:
        rewrite(path, lambda content: content.replace(here, there))
    assert load(path) == ["the weights are those under model"]


def test_safetensors(tmp_path):
    """They are known by their content, whatever the file is called, and prefixed like others."""
    for name in ("w.safetensors", "w.bin"):
        save_file(under("module."), tmp_path / name)
        assert load(tmp_path / name) == ["names such as module.0.weight were read as 0.weight"]


def test_safetensors_that_are_cut_short(tmp_path):
    """One line names the file."""
    path = tmp_path / "w.safetensors"
    save_file(dict(STATE), path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(CheckpointError, match=r"w.safetensors is no whole safetensors file \(") as raised:
        load(path)
    assert "\n" not in str(raised.value)


def test_without_safetensors_the_line_says_how_to_get_it(tmp_path, monkeypatch):
    """The package is an extra of ours."""
    save_file(dict(STATE), tmp_path / "w.safetensors")
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)  # as if it was not installed
    with pytest.raises(UsageError, match=r"is not installed: pip install 'jsdelta\[safetensors\]'"):
        load(tmp_path / "w.safetensors")


def test_half_precision_is_widened(tmp_path):
    """Weights saved in half precision are what they are, in float32."""
    halved = {name: value.half() if value.is_floating_point() else value for name, value in STATE.items()}
    buffer = io.BytesIO()
    torch.save(halved, buffer)
    (tmp_path / "w.pt").write_bytes(buffer.getvalue())
    network = make(seed=1)
    load_weights(network, tmp_path / "w.pt")
    assert network[0].weight.dtype == torch.float32
    assert torch.equal(network[0].weight, STATE["0.weight"].half().float())
