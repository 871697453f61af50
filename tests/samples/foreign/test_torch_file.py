""".pt files: torchattacks' own and dictionaries of tensors; nothing in them is run."""

import numpy as np
import pytest
import torch

from jsdelta_db.errors import DataError
from jsdelta_db.samples.foreign import read_samples
from tests.elsewhere import Touch
from tests.samples.foreign.cases import check

TORCHATTACKS = {"x": "clean_inputs", "x_adv": "adv_inputs", "label": "labels", "target_label": "target_label"}


def tensors(arrays, names=TORCHATTACKS):
    """Return arrays as tensors, under a file's names."""
    return {name: torch.from_numpy(np.copy(arrays[ours])) for ours, name in names.items()}


def put_in(folder, held):
    """Save with torch and return where."""
    torch.save(held, folder / "samples.pt")
    return folder / "samples.pt"


def as_attack_save(arrays, **more):
    """Return what torchattacks' ``Attack.save`` puts into a file, with clean inputs."""
    held = tensors(arrays)
    del held["target_label"]
    return {**held, "save_type": "float", **more}


def test_the_file_of_torchattacks_is_read(given, digits, tmp_path):
    """Its names are ours by another word; predictions are its claim of success."""
    preds = torch.from_numpy(given["label"].copy())
    preds[1] += 1
    samples = read_samples(put_in(tmp_path, as_attack_save(given, preds=preds)))
    assert samples.x.tolist() == given["x"].tolist()
    assert samples.x_adv.tolist() == given["x_adv"].tolist()
    assert samples.target_label is None
    assert (
        samples.remarks[0]
        == "a file of torchattacks: clean_inputs as x, adv_inputs as x_adv, labels as label"
    )
    assert check(samples, digits).success_claimed.tolist() == [False, True, False, False]


def test_clean_inputs_may_be_missing(given, digits, tmp_path):
    """Without save_clean_inputs the file is read all the same: the images are looked for in the data set."""
    held = as_attack_save(given)
    del held["clean_inputs"]
    samples = read_samples(put_in(tmp_path, held))
    assert samples.x is None
    assert samples.remarks == ("a file of torchattacks: adv_inputs as x_adv, labels as label",)
    assert check(samples, digits).x.tolist() == given["x"].tolist()


def test_predictions_are_held_against_a_target_where_there_is_one(given, digits, tmp_path):
    """With targets added to it, a claimed success is a target that was reached."""
    preds = torch.from_numpy(given["target_label"].copy())
    preds[2] = (preds[2] + 1) % 10
    held = {**tensors(given), "preds": preds}
    assert check(read_samples(put_in(tmp_path, held)), digits).success_claimed.tolist() == [1, 1, 0, 1]


def test_our_own_names_are_read(given, digits, tmp_path):
    """A dictionary under the names of an .npz file, claims included."""
    held = {**tensors(given, {name: name for name in given}), "eps": 1 / 255, "success": torch.ones(4) > 0}
    samples = check(read_samples(put_in(tmp_path, held)), digits)
    assert samples.fingerprint == check(given, digits).fingerprint
    assert (samples.eps_claimed, samples.success_claimed.tolist()) == (1 / 255, [True] * 4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_narrow_and_wide_tensors_are_told(dtype, levels, digits, tmp_path):
    """float16 of whole levels is these levels, as in every other form."""
    held = tensors({**levels, "x": levels["x"] / 255, "x_adv": levels["x_adv"] / 255})
    held |= {name: held[name].to(dtype) for name in ("clean_inputs", "adv_inputs")}
    samples = check(read_samples(put_in(tmp_path, held)), digits)
    name = str(dtype).removeprefix("torch.")
    assert f"x and x_adv: {name}, read as float32" in samples.conversions
    assert (samples.x_adv.numpy() * 255).round().tolist() == levels["x_adv"].tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda held: {**held, "labels": Touch("ran")}, "does not hold plain tensors alone"),
        (lambda held: Touch("ran"), "does not hold plain tensors alone"),
        (lambda held: held["adv_inputs"], "holds a Tensor: must be a dictionary of tensors; save them with"),
        (lambda held: (held["adv_inputs"], held["labels"]), "holds a tuple: must be a dictionary"),
        (lambda held: {**held, "x_adv": held["adv_inputs"]}, "holds both adv_inputs and x_adv"),
        (lambda held: {"adv_inputs": held["adv_inputs"]},
         r"lacks label \(it holds adv_inputs\); save them with .*save_clean_inputs=True"),
        (lambda held: {"x_adv": held["adv_inputs"], "label": held["labels"]}, r"lacks x \(it holds x_adv, la"),
        (lambda held: {}, r"lacks x, x_adv, label \(it holds nothing\)"),
        (lambda held: {**held, "labels": "3, 1"}, r"different lengths or none \(x 4, x_adv 4, label 0"),
        (lambda held: {**held, "clean_inputs": [None]}, "clean_inputs holds Python objects"),
        (lambda held: {**held, "clean_inputs": held["clean_inputs"].to_sparse()}, "clean_inputs cannot be read|does not hold plain tensors alone"),
    ],
    ids=["object", "pickle", "tensor", "tuple", "both names", "no labels", "no x", "nothing", "text", "None",
         "sparse"],
)  # fmt: skip
def test_what_is_no_file_of_samples_is_refused(change, message, given, digits, tmp_path, monkeypatch):
    """One line that says what is held and how to save it; nothing runs."""
    monkeypatch.chdir(tmp_path)
    path = put_in(tmp_path, change(as_attack_save(given)))
    with pytest.raises(DataError, match=message) as raised:
        check(read_samples(path), digits)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"x,x_adv\n", b"PK\x03\x04"], ids=["empty", "text", "zip"])
def test_a_damaged_file_is_refused(content, tmp_path):
    """What torch cannot read is one line."""
    (tmp_path / "samples.pt").write_bytes(content)
    with pytest.raises(DataError, match="does not hold plain tensors alone, or is damaged; save") as raised:
        read_samples(tmp_path / "samples.pt")
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there(tmp_path):
    """A path that cannot be read says why."""
    with pytest.raises(DataError, match=r"none.pt cannot be read \(No such file or directory\)"):
        read_samples(tmp_path / "none.pt")
