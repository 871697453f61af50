""".npz files: read without running code; one line for what is none."""

import io
import pickle
import zipfile

import numpy as np
import pytest

from jsdelta_db.errors import DataError, JsdeltaError
from jsdelta_db.samples.foreign.npz_file import read_npz
from tests.elsewhere import Touch
from tests.samples.foreign.cases import N, save


def test_the_file_gives_back_its_arrays(given, tmp_path):
    """The four arrays and the tool's claims are read; what else is in the file is left alone."""
    path = save(tmp_path / "samples.npz", **given, eps=0.1, success=np.ones(N, bool), epoch=3)
    arrays = read_npz(path)
    assert (float(arrays.eps), arrays.success.tolist(), arrays.remarks) == (0.1, [True] * N, ())
    for name, array in given.items():
        np.testing.assert_array_equal(getattr(arrays, name), array)


def test_compressed_files_are_read(given, tmp_path):
    """numpy.savez_compressed is as good."""
    np.savez_compressed(tmp_path / "samples.npz", **given)
    assert read_npz(tmp_path / "samples.npz").x.tolist() == given["x"].tolist()


def test_pickled_objects_are_refused_and_not_run(given, tmp_path):
    """An array of Python objects could run code: it is refused, and nothing of it runs."""
    objects = np.array([Touch(tmp_path / "ran")] * N, dtype=object)
    path = save(tmp_path / "samples.npz", **{**given, "label": objects})
    with pytest.raises(DataError, match=r"holds pickled objects, which could run code; save plain arrays"):
        read_npz(path)
    assert not (tmp_path / "ran").exists()


def test_a_pickle_is_refused_and_not_run(tmp_path):
    """A file that is a pickle altogether is no .npz either."""
    path = tmp_path / "samples.npz"
    path.write_bytes(pickle.dumps(Touch(tmp_path / "ran")))
    with pytest.raises(DataError, match="pickled objects"):
        read_npz(path)
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
        read_npz(path)
    assert "\n" not in str(raised.value)


def test_a_single_array_is_refused(given, tmp_path):
    """An .npy file holds one array, and four are needed."""
    np.save(tmp_path / "samples.npy", given["x"])
    with pytest.raises(DataError, match=r"holds a single array; save it with numpy.savez\(file, x=…, x_adv="):
        read_npz(tmp_path / "samples.npy")


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
        read_npz(path)


def test_a_file_that_is_not_there(tmp_path):
    """A path that cannot be read says why, and what could be given."""
    with pytest.raises(
        DataError,
        match=r"cannot be read \(No such file or directory\); give an .npz file, a .pt file or a folder",
    ):
        read_npz(tmp_path / "none.npz")


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
        read_npz(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"--samples {path}")
    assert "\n" not in str(caught.value)
