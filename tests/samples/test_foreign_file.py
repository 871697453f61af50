"""Samples from elsewhere at the border: what is taken, and one line for everything that is not."""

import io
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from jsdelta_db.compute import data
from jsdelta_db.errors import DataError, JsdeltaError, UsageError
from jsdelta_db.samples.foreign_file import check_samples, read_file
from jsdelta_db.store.image_keys import split_keys

N = 4


@pytest.fixture(scope="module")
def digits():
    """The data set that the samples are said to be from."""
    return data.load("digits", Path("unused"))


@pytest.fixture(scope="module")
def given(digits):
    """Good arrays: the first images of the attack split, a little brighter, aimed at the next label."""
    split = digits.splits["attack"]
    x, label = split.batch(slice(0, N)).numpy(), split.labels.numpy()[:N]
    return {"x": x, "x_adv": x + np.float32(1 / 255), "label": label, "target_label": (label + 1) % 10}


def check(arrays, digits, **options):
    """Look at arrays the way ``jsdelta score`` does."""
    return check_samples(arrays, digits, **{"library": "tool", **options})


def changed(given, **changes):
    """Replace arrays; None leaves one out, a function changes it."""
    arrays = {name: np.copy(array) for name, array in given.items()}
    for name, change in changes.items():
        if change is None:
            del arrays[name]
        else:
            arrays[name] = change(arrays[name]) if callable(change) else change
    return arrays


def put(place, value):
    """Return a function that sets one element."""

    def change(array):
        array[place] = value
        return array

    return change


# ---- what is taken


def test_the_data_sets_own_images_are_recognised(given, digits):
    """Images of a split keep their stable index and the split's name, in whatever order they come."""
    order = [2, 0, 3, 1]
    samples = check({name: array[order] for name, array in given.items()}, digits)
    assert samples.split == "attack"
    assert samples.attempts.sample_index.tolist() == digits.splits["attack"].index[order].tolist()
    assert samples.attempts.source_label.tolist() == given["label"][order].tolist()
    assert samples.attempts.requested_target.tolist() == given["target_label"][order].tolist()
    assert samples.x.dtype == samples.x_adv.dtype == torch.float32
    assert samples.x_adv.numpy().tolist() == given["x_adv"][order].tolist()


@pytest.mark.parametrize("split", ["train", "baseline", "attack"])
def test_images_of_every_split_are_recognised(split, digits):
    """Attacks on training or baseline images pair up, too."""
    images = digits.splits[split]
    arrays = {"x": images.batch(slice(5, 9)).numpy(), "label": images.labels.numpy()[5:9]}
    samples = check({**arrays, "x_adv": arrays["x"]}, digits)
    assert (samples.split, samples.attempts.sample_index.tolist()) == (split, images.index[5:9].tolist())


@pytest.mark.parametrize(
    "change",
    [
        {"x": lambda x: x[..., ::-1]},
        {"x": put((1, 0, 3, 3), 0.123)},
        {"label": lambda label: (label + 5) % 10},
        {"x": lambda x: x[[0, 0, 2, 3]], "target_label": put(1, 3), "label": lambda y: y[[0, 0, 2, 3]]},
    ],
    ids=["other images", "one other image", "other labels", "twice towards one label"],
)
def test_images_that_are_not_the_data_sets_are_numbered_by_row(change, given, digits):
    """If one image is not the data set's, or comes twice towards one label, rows stand for indices."""
    arrays = changed(given, **change)
    if "label" in change and len(set(arrays["label"])) < N:
        arrays["target_label"][1] = arrays["target_label"][0]
    samples = check(arrays, digits)
    assert (samples.split, samples.attempts.sample_index.tolist()) == ("file", [0, 1, 2, 3])


def test_copies_of_an_image_have_one_key(given, digits):
    """Images are told apart by content: copies share a key, and the data set's have that of split and index."""
    own, twice = digits.splits["attack"].index[:2], [0, 0, 1, 1]
    arrays = changed(given, x=lambda x: x[twice], label=lambda y: y[twice], target_label=lambda t: t[twice])
    samples = check(arrays, digits)
    assert samples.split == "file"
    assert samples.image_keys.tolist() == split_keys("attack", own[[0, 0, 1, 1]]).tolist()


def test_images_of_several_splits_and_of_none_have_keys(given, digits):
    """Each image is looked up by itself; one of no split has a key of its content, the same in every file."""
    train, attack = digits.splits["train"], digits.splits["attack"]
    other = attack.batch(slice(9, 10)).numpy()[..., ::-1]
    arrays = changed(
        given, x=lambda x: np.concatenate([x[:1], train.batch(slice(5, 6)).numpy(), other, other])
    )
    keys = check(arrays, digits).image_keys
    assert keys[0] == split_keys("attack", attack.index[:1])[0]
    assert keys[1] == split_keys("train", train.index[5:6])[0]
    assert keys[2] == keys[3] < 0
    again = check(changed(given, x=np.repeat(other, N, axis=0)), digits).image_keys
    assert set(again.tolist()) == {keys[2]}


def test_one_image_towards_two_labels_is_still_recognised(given, digits):
    """An image may come several times, as long as each time aims at another label."""
    arrays = changed(given, x=lambda x: x[[0, 0, 2, 3]], label=lambda label: label[[0, 0, 2, 3]])
    arrays["target_label"][:2] = (arrays["label"][0] + [1, 2]) % 10
    assert check(arrays, digits).split == "attack"


def test_an_image_is_recognised_up_to_rounding(given, digits):
    """Another library's float arithmetic around the pixels does not hide whose image it is."""
    samples = check(changed(given, x=lambda x: x.astype(np.float64) * 3 / 3 + 1e-7), digits)
    assert samples.split == "attack"


def test_uint8_is_read_in_units_of_1_255(given, digits):
    """Bytes are pixel levels: 0 is 0.0 and 255 is 1.0, exactly."""
    levels = np.arange(N * 64, dtype=np.uint8).reshape(N, 1, 8, 8)
    samples = check(changed(given, x=levels, x_adv=255 - levels), digits)
    assert samples.x.numpy().tolist() == (levels.astype(np.float32) / 255).tolist()
    assert samples.x_adv.numpy().max() == 1.0
    assert samples.split == "file"


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_float_becomes_float32(dtype, given, digits):
    """Floating arrays of any width are taken; tools differ."""
    samples = check(
        changed(given, x=lambda x: x.astype(dtype), x_adv=lambda x_adv: x_adv.astype(dtype)), digits
    )
    expected = given["x_adv"].astype(dtype).astype(np.float32)
    assert samples.x_adv.numpy().tolist() == expected.tolist()


def test_float_rounding_around_the_range_is_taken_and_clipped(given, digits):
    """A black pixel of −3e-8 is black, one of 1 + 1e-7 is white."""
    samples = check(
        changed(given, x_adv=lambda x: put((1, 0, 0, 0), 1 + 1e-7)(put((0, 0, 0, 0), -3e-8)(x))), digits
    )
    assert (float(samples.x_adv.min()), float(samples.x_adv.max())) == (0.0, 1.0)


def test_samples_without_targets_are_untargeted(given, digits):
    """No target_label, or −1 throughout, says that any wrong label was fine."""
    for target in (None, np.full(N, -1)):
        samples = check(changed(given, target_label=target), digits)
        assert samples.attempts.requested_target.tolist() == [-1] * N


def test_the_fingerprint_tells_samples_apart(given, digits):
    """Equal arrays have one fingerprint, whatever they are saved as; any other value has another."""
    prints = [
        check(changed(given, **change), digits).fingerprint
        for change in (
            {},
            {"x": lambda x: x.astype(np.float64), "label": lambda label: label.astype(np.int32)},
            {"x_adv": put((3, 0, 7, 7), 0.5)},
            {"target_label": lambda target: (target + 1) % 10},
            {"target_label": None},
        )
    ]
    assert prints[0] == prints[1]
    assert len(set(prints[1:])) == 4


def test_the_arrays_given_are_left_alone(given, digits):
    """Clipping and reading happen on copies."""
    arrays = changed(given, x_adv=put((0, 0, 0, 0), -1e-7))
    before = {name: array.copy() for name, array in arrays.items()}
    check(arrays, digits)
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize(
    ("eps", "claimed", "remark"),
    [
        (0.1, 0.1, None),
        (np.array([0.1, 0.3]), 0.3, None),
        (0, 0.0, None),
        ("8/255", None, "it is '8/255', no size from 0 to 1000"),
        (np.nan, None, "it is nan, no size"),
        (np.array([0.1, np.inf]), None, r"it is float64 of shape \(2,\), no size"),
        (None, None, r"it is object of shape \(\), no size"),
        (-1.0, None, "it is -1.0, no size"),
        (1e308, None, "no size"),
        (np.array([]), None, "no size"),
        (1j, None, "no size"),
        (True, 1.0, None),
    ],
)
def test_a_claimed_eps_that_is_none_is_passed_over(eps, claimed, remark, given, digits, tmp_path):
    """The tool's own eps is beside the point: what is no size is told in one line that names it."""
    samples = check(read_file(save(tmp_path / "samples.npz", **given, eps=eps)), digits)
    assert samples.eps_claimed == claimed
    if remark is None:
        assert samples.remarks == ()
    else:
        (line,) = samples.remarks
        assert re.match(rf"eps of the samples is passed over: .*{remark}", line)


@pytest.mark.parametrize(
    "success", ["yes", None, np.nan, np.full(N, np.nan), np.ones(N + 1, bool), np.full(N, "1")], ids=str
)
def test_a_claimed_success_that_is_none_is_passed_over(success, given, digits, tmp_path):
    """So is its success, unless it is a yes or no a sample."""
    samples = check(read_file(save(tmp_path / "samples.npz", **given, success=success)), digits)
    (line,) = samples.remarks
    assert (samples.success_claimed, line[:38]) == (None, "success of the samples is passed over:")


# ---- what is not

BAD = [
    ("a target that is the label", {"target_label": lambda t: put(2, t[2] - 1)(t)}, DataError,
     r"image \d+ has label \d and is aimed at the same: must be another label, or -1"),
    ("fewer targets", {"target_label": lambda t: t[:-1]}, DataError,
     "different lengths or none .*label 4, target_label 3.*one row a sample"),
    ("fewer images", {"x_adv": lambda x: x[:2]}, DataError, "different lengths .*x 4, x_adv 2"),
    ("nothing", {name: (lambda array: array[:0]) for name in ("x", "x_adv", "label", "target_label")},
     DataError, "different lengths or none .x 0"),
    ("a number for labels", {"label": np.int64(3), "target_label": None}, DataError, "lengths"),
    ("another size", {"x": np.zeros((N, 1, 4, 4)), "x_adv": np.zeros((N, 1, 4, 4))}, DataError,
     r"x has images of \(1, 4, 4\); 'digits' has \(1, 8, 8\) \(channels, height, width\)"),
    ("another size of x_adv", {"x_adv": np.zeros((N, 3, 8, 8))}, DataError, r"x_adv has images of \(3, 8, 8\)"),
    ("channels last", {"x": np.zeros((N, 8, 8, 1))}, DataError, "channels, height, width"),
    ("no channels", {"x": lambda x: x[:, 0]}, DataError, r"x has images of \(8, 8\)"),
    ("too bright", {"x": put((0, 0, 0, 0), 1.01)}, DataError, r"x are in .*1\.01\]: must be \[0, 1\]"),
    ("too dark", {"x_adv": put((0, 0, 0, 0), -0.5)}, DataError, r"x_adv are in \[-0\.5, .*must be \[0, 1\]"),
    ("levels as floats", {"x": lambda x: x * 255, "x_adv": lambda x: x * 255}, DataError, r"must be \[0, 1\]"),
    ("bytes beside floats", {"x": lambda x: (x * 255).astype(np.uint8)}, DataError,
     "x is uint8 and x_adv is float32: must be uint8 for both or floating for both"),
    ("floats beside bytes", {"x_adv": lambda x: (x * 255).astype(np.uint8)}, DataError,
     "x is float32 and x_adv is uint8"),
    ("not a number", {"x": put((2, 0, 1, 1), np.nan)}, DataError, "x of sample 2 holds values that are not fin"),
    ("infinite", {"x_adv": put((1, 0, 1, 1), np.inf)}, DataError, "x_adv of sample 1 holds values that are not"),
    ("whole numbers", {"x": np.zeros((N, 1, 8, 8), int), "x_adv": np.zeros((N, 1, 8, 8), int)}, DataError,
     r"x is int64: must be uint8 in 0..255 or floating"),
    ("complex numbers", {"x": lambda x: x.astype(complex)}, DataError, "x is complex128: must be "),
    ("text", {"x": np.full((N, 1, 8, 8), "a"), "x_adv": np.full((N, 1, 8, 8), "a")}, DataError, "x is <U1"),
    ("labels as floats", {"label": lambda label: label.astype(float)}, DataError,
     r"label is float64 of shape \(4,\): must be whole numbers"),
    ("one-hot labels", {"label": np.eye(10, dtype=int)[:N]}, DataError, r"label is int64 of shape \(4, 10\)"),
    ("a label beyond", {"label": put(3, 10)}, DataError, "label of sample 3 is 10; valid for 'digits' is 0 to 9"),
    ("a label below", {"label": put(0, -1)}, DataError, "label of sample 0 is -1; valid for 'digits' is 0 to 9"),
    ("a target beyond", {"target_label": put(1, 99)}, DataError, "target_label of sample 1 is 99; .* is -1 to 9"),
    ("a target below", {"target_label": put(1, -2)}, DataError, "target_label of sample 1 is -2"),
    ("some without a target", {"target_label": put(1, -1)}, DataError, "-1 for some samples only; give targeted"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "error", "message"), [case[1:] for case in BAD], ids=[case[0] for case in BAD]
)
def test_arrays_that_can_not_be_judged_are_refused(change, error, message, given, digits):
    """Each slip is one line that says what was seen and what is valid."""
    with pytest.raises(error, match=message) as raised:
        check(changed(given, **change), digits)
    assert "\n" not in str(raised.value)


def test_a_norm_that_nothing_is_measured_in_is_refused(given, digits):
    """Sizes are measured in linf or l2."""
    with pytest.raises(UsageError, match="--norm 'l1' is not valid: must be linf or l2"):
        check(given, digits, norm="l1")


# ---- the file


def save(path, **arrays):
    """Save arrays as .npz and return where."""
    np.savez(path, **arrays)
    return path


def test_the_file_gives_back_its_arrays(given, tmp_path):
    """The four arrays and the tool's claims are read; what else is in the file is left alone."""
    path = save(tmp_path / "samples.npz", **given, eps=0.1, success=np.ones(N, bool), epoch=3)
    arrays = read_file(path)
    assert sorted(arrays) == ["eps", "label", "success", "target_label", "x", "x_adv"]
    for name, array in given.items():
        np.testing.assert_array_equal(arrays[name], array)


def test_compressed_files_are_read(given, tmp_path):
    """numpy.savez_compressed is as good."""
    np.savez_compressed(tmp_path / "samples.npz", **given)
    assert set(read_file(tmp_path / "samples.npz")) == set(given)


class Touch:
    """Unpickled, it makes a file: proof that code ran."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_pickled_objects_are_refused_and_not_run(given, tmp_path):
    """An array of Python objects could run code: it is refused, and nothing of it runs."""
    objects = np.array([Touch(tmp_path / "ran")] * N, dtype=object)
    path = save(tmp_path / "samples.npz", **{**given, "label": objects})
    with pytest.raises(DataError, match=r"holds pickled objects, which could run code; save plain arrays"):
        read_file(path)
    assert not (tmp_path / "ran").exists()


def test_a_pickle_is_refused_and_not_run(tmp_path):
    """A file that is a pickle altogether is no .npz either."""
    path = tmp_path / "samples.npz"
    path.write_bytes(pickle.dumps(Touch(tmp_path / "ran")))
    with pytest.raises(DataError, match="pickled objects"):
        read_file(path)
    assert not (tmp_path / "ran").exists()


def cut(content):
    """Leave the second half out."""
    return content[: len(content) // 2]


def flip(content):
    """Turn a byte in the middle of the first array."""
    return content[:2000] + bytes([content[2000] ^ 255]) + content[2001:]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: b"", "is not a readable .npz file; save it with numpy.savez"),
        (lambda content: b"x,x_adv\n1,2\n", "pickled objects|is not a readable .npz file"),
        (cut, "is not a readable .npz file"),
        (flip, "is not a readable .npz file"),
    ],
    ids=["empty", "text", "cut short", "altered"],
)
def test_a_damaged_file_is_refused(damage, message, given, tmp_path):
    """A file that is not whole is one line with how to save another."""
    path = save(tmp_path / "samples.npz", **given)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(JsdeltaError, match=message) as raised:
        read_file(path)
    assert "\n" not in str(raised.value)


def test_a_single_array_is_refused(given, tmp_path):
    """An .npy file holds one array, and four are needed."""
    np.save(tmp_path / "samples.npy", given["x"])
    with pytest.raises(DataError, match=r"holds a single array; save it with numpy.savez\(file, x=…, x_adv="):
        read_file(tmp_path / "samples.npy")


@pytest.mark.parametrize(
    ("left", "message"),
    [
        (["x", "label"], r"lacks x_adv \(it holds x, label\); save it with"),
        (["images"], r"lacks x, x_adv, label \(it holds images\)"),
        ([], r"lacks x, x_adv, label \(it holds nothing\)"),
    ],
)
def test_a_missing_array_is_named(left, message, given, tmp_path):
    """What is missing is said beside what is there."""
    path = save(tmp_path / "samples.npz", **{name: given.get(name, given["x"]) for name in left})
    with pytest.raises(DataError, match=message):
        read_file(path)


def test_a_file_that_is_not_there_or_is_a_folder(tmp_path):
    """A path that cannot be read says why."""
    with pytest.raises(DataError, match=r"cannot be read \(No such file or directory\); give an .npz file"):
        read_file(tmp_path / "none.npz")
    with pytest.raises(DataError, match=r"cannot be read \(Is a directory\)"):
        read_file(tmp_path)


def _npy(array) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _header(shape) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.npy", _header((3_000_000_000, 1, 64, 32)), "holds an array larger than this machine's memory"),
        ("x.npy", _header((2**70,)), "is not a readable .npz file"),
        ("x.npy", b"\x93NUMPY\x01\x00\x46\x00" + b"(" * 69 + b"\n", "is not a readable .npz file"),
        ("x", b"hello", "x is no array; save it with numpy.savez"),
        ("x.npy", b"", "x is no array; save it with numpy.savez"),
        ("success", b"yes", "success is no array"),
    ],
    ids=["23 TiB", "beyond any size", "not a header", "text", "empty", "a claim"],
)
def test_a_member_that_is_no_array_is_refused(name, content, message, tmp_path):
    """What stands in an .npz file in an array's place, or claims to be huge, is one line."""
    images, labels = _npy(np.zeros((2, 1, 8, 8), np.float32)), _npy(np.zeros(2, np.int64))
    members = {"x.npy": images, "x_adv.npy": images, "label.npy": labels}
    if name == "x":
        del members["x.npy"]
    path = tmp_path / "odd.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for member, held in {**members, name: content}.items():
            archive.writestr(member, held)
    with pytest.raises(DataError) as caught:
        read_file(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"--samples {path}")
    assert "\n" not in str(caught.value)
