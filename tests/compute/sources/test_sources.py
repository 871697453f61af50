"""Sources: arrays, folders and code, told apart by what they look like or refused with what was seen."""

import numpy as np
import pytest
import torch
from PIL import Image

from jsdelta_db.compute.sources.arrays import NpzSource
from jsdelta_db.compute.sources.factory import FactorySource
from jsdelta_db.compute.sources.folder import FolderSource
from jsdelta_db.compute.sources.forms import as_images, find_layout, on_levels
from jsdelta_db.compute.sources.mapped import ArrayStream, map_array
from jsdelta_db.compute.sources.pictures import decode
from jsdelta_db.errors import DataError
from tests.compute.sources.forms import Pictures, some_images, write_folder

IMAGES, LABELS = some_images()


def read_all(source):
    """Return all images and labels of a source, in blocks of seven."""
    n = sum(source.parts.values())
    blocks = [source.block(start, min(n, start + 7))() for start in range(0, n, 7)]
    return np.concatenate([each.images for each in blocks]), np.concatenate([each.labels for each in blocks])


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((9, 3, 8, 8), "nchw"),
        ((9, 8, 8, 3), "nhwc"),
        ((9, 1, 3, 4), "nchw"),
        ((9, 8, 8), "nhw"),
        ((9, 8, 8, 1), "nhwc"),
    ],
)
def test_layout_is_told_by_shape(shape, layout):
    """One or three channels first or last, or none."""
    assert layout == find_layout(shape, "x")


@pytest.mark.parametrize("shape", [(9, 3, 8, 3), (9, 8, 8, 2), (9, 8), (9, 2, 3, 4, 5), (9,)])
def test_layout_that_could_be_two_or_none_is_refused(shape):
    """The message shows the shape."""
    with pytest.raises(DataError, match="x of shape"):
        find_layout(shape, "x")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.array([-2.0, 2.0]), "looks normalized"),
        (np.array([0.0, 200.0]), "pixel levels as floats"),
        (np.array([0.0, np.nan]), "not finite"),
        (np.array([0, 300]), "0 to 300"),
        (np.array([True]), "bool"),
        (np.array(["a"]), "<U1"),
        (np.array([1 + 2j]), "complex"),
    ],
)
def test_values_that_are_no_images_are_refused_with_a_guess(values, said):
    """What is seen is said, and what it looks like."""
    with pytest.raises(DataError, match=said):
        as_images(values, "x")


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int64", ">i4"])
def test_whole_numbers_are_pixel_levels(dtype):
    """Of any integer type, if none is outside of 0..255."""
    found = as_images(IMAGES.astype(dtype), "x")
    assert np.uint8 == found.dtype
    np.testing.assert_array_equal(IMAGES, found)


def test_floats_on_pixel_levels_are_recognized_exactly():
    """k / 255 in float32 is a level; a value beside one is not."""
    levels = (np.arange(256, dtype=np.float32) / np.float32(255)).reshape(1, 1, 16, 16)
    np.testing.assert_array_equal(np.arange(256).reshape(1, 1, 16, 16), on_levels(levels))
    beside = levels.copy()
    beside[0, 0, 3, 3] = np.nextafter(beside[0, 0, 3, 3], np.float32(1))
    assert on_levels(beside) is None


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_npz_gives_its_images_in_order(tmp_path, save, layout):
    """Compressed or not, divided into train and test, channels first or last."""
    stored = IMAGES if layout == "nchw" else IMAGES.transpose(0, 2, 3, 1).copy()
    save(
        tmp_path / "a.npz",
        x_train=stored[:40],
        y_train=LABELS[:40, None],
        x_test=stored[40:],
        y_test=LABELS[40:],
    )
    source = NpzSource(tmp_path / "a.npz")
    images, labels = read_all(source)
    assert (source.parts, source.image_shape) == ({"train": 40, "test": 20}, (3, 6, 6))
    assert layout.upper() in source.notes[0]
    np.testing.assert_array_equal(IMAGES, images)
    np.testing.assert_array_equal(LABELS, labels)
    assert source.name(42) == "x_test[2]"


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": IMAGES}, "holds x: must be x_train"),
        ({"x": IMAGES, "y": LABELS[:-1]}, "59 labels for 60 images"),
        ({"x": IMAGES, "y": LABELS * 0.5}, "float64 of shape"),
        ({"x": IMAGES, "y": np.eye(3)[LABELS]}, "one whole number an image"),
        ({"x": IMAGES.astype(object), "y": LABELS}, "cannot be read"),
        ({"x": np.asfortranarray(IMAGES), "y": LABELS}, "Fortran"),
        (
            {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES[:, :, :5], "y_test": LABELS},
            "different sizes",
        ),
        ({"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES / 255, "y_test": LABELS}, "of one kind"),
    ],
)
def test_npz_that_cannot_be_used_is_refused(tmp_path, arrays, said):
    """One line says what is wrong with which array."""
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=said):
        NpzSource(tmp_path / "a.npz")


@pytest.mark.parametrize("content", [b"", b"no zip", None])
def test_file_that_is_no_npz_is_refused(tmp_path, content):
    """Empty, of another kind, or not there."""
    if content is not None:
        (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"cannot be read as a \.npz"):
        NpzSource(tmp_path / "a.npz")


def test_single_array_is_no_npz(tmp_path):
    """A .npy under another name."""
    with (tmp_path / "a.npz").open("wb") as file:
        np.save(file, IMAGES)
    with pytest.raises(DataError, match=r"cannot be read as a \.npz"):
        NpzSource(tmp_path / "a.npz")


def test_npz_cut_short_is_an_error_where_it_is_read(tmp_path):
    """The damage lies in the images: their block says so."""
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=IMAGES, y=LABELS)
    content = bytearray(path.read_bytes())
    content[200:400] = bytes(200)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"x cannot be read"):
        read_all(NpzSource(path))


def test_array_is_mapped_not_read(tmp_path):
    """A mapped array equals the stored one; writing to it leaves the file alone; compressed ones refuse."""
    np.savez(tmp_path / "a.npz", first=LABELS, images=IMAGES.astype(np.float32))
    before = (tmp_path / "a.npz").read_bytes()
    mapped = map_array(tmp_path / "a.npz", "images")
    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(IMAGES, mapped)
    mapped[:] = 0
    assert before == (tmp_path / "a.npz").read_bytes()
    np.savez_compressed(tmp_path / "b.npz", images=IMAGES)
    with pytest.raises(ValueError, match="compressed"):
        map_array(tmp_path / "b.npz", "images")


def test_stream_reads_rows_from_wherever_they_are(tmp_path):
    """Forward and, in a compressed file, back to its front."""
    np.savez_compressed(tmp_path / "a.npz", images=IMAGES)
    stream = ArrayStream(tmp_path / "a.npz", "images")
    for start, stop in ((10, 20), (40, 60), (0, 5)):
        np.testing.assert_array_equal(IMAGES[start:stop], stream.rows(start, stop))


@pytest.mark.parametrize("held_out", ["test", "val"])
def test_folder_is_read_like_torchvisions(tmp_path, held_out):
    """Classes in the order of their names, files in the order of theirs; pixels as ImageFolder has them."""
    from torchvision.datasets import ImageFolder

    write_folder(tmp_path, {"train": (IMAGES[:40], LABELS[:40]), held_out: (IMAGES[40:], LABELS[40:])}, "cab")
    source = FolderSource(tmp_path)
    images, labels = read_all(source)
    theirs = [*ImageFolder(tmp_path / "train"), *ImageFolder(tmp_path / held_out)]
    assert (source.classes, source.parts) == (("a", "b", "c"), {"train": 40, "test": 20})
    np.testing.assert_array_equal([np.asarray(image).transpose(2, 0, 1) for image, _ in theirs], images)
    np.testing.assert_array_equal([label for _, label in theirs], labels)


@pytest.mark.parametrize("shape", [(40, 60), (60, 40), (41, 67), (8, 9), (16, 16)])
def test_size_is_torchvisions_resize_and_centre_crop(tmp_path, shape):
    """Larger and smaller pictures, upright and wide."""
    from torchvision.transforms import CenterCrop, Compose, Resize

    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    theirs = Compose([Resize(16), CenterCrop(16)])(Image.open(tmp_path / "a.png"))
    np.testing.assert_array_equal(np.asarray(theirs), decode(tmp_path / "a.png", 16)[0])


def test_picture_of_another_size_is_named_with_what_helps(tmp_path):
    """Without --size all pictures are of one size."""
    write_folder(tmp_path, {"": (IMAGES, LABELS)})
    Image.new("RGB", (9, 7)).save(tmp_path / "1" / "zzz.png")
    with pytest.raises(DataError, match=r"zzz.png is 9×7 and the first picture 6×6.*--size 6"):
        read_all(FolderSource(tmp_path))


def test_broken_pictures_are_told_with_their_place(tmp_path):
    """Truncated, empty and 16-bit ones; the others are read."""
    write_folder(tmp_path, {"": (IMAGES, LABELS)})
    files = sorted((tmp_path / "0").iterdir())
    files[1].write_bytes(files[1].read_bytes()[:60])
    files[2].write_bytes(b"")
    Image.fromarray(np.zeros((6, 6), dtype=np.uint16)).save(files[3])
    block = FolderSource(tmp_path).block(0, 5)()
    assert sorted(block.broken) == [1, 2, 3]
    assert "8 bits" in block.broken[3]
    np.testing.assert_array_equal(IMAGES[0], block.images[0])
    assert not block.images[1:4].any()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda root: None, "no sub-folders"),
        (lambda root: (root / "empty").mkdir(), "holds no pictures"),
        (lambda root: write_folder(root, {"train": (IMAGES, LABELS)}), "neither test nor val"),
        (
            lambda root: write_folder(root, {"train": (IMAGES, LABELS * 0), "test": (IMAGES, LABELS)}),
            "is a class that",
        ),
        (lambda root: root.rmdir(), "is no folder"),
    ],
)
def test_folder_that_cannot_be_used_is_refused(tmp_path, make, said):
    """One line says what is missing."""
    root = tmp_path / "f"
    root.mkdir()
    make(root)
    with pytest.raises(DataError, match=said):
        FolderSource(root)


@pytest.mark.parametrize("form", ["pictures", "tensors", "arrays"])
def test_items_of_code_are_images_in_any_form(form):
    """Pillow's pictures, float tensors channels first, and uint8 arrays channels last."""
    made = Pictures(IMAGES, LABELS)
    if form == "tensors":
        made = [
            (torch.from_numpy(image) / 255, torch.tensor(label))
            for image, label in zip(IMAGES, LABELS, strict=True)
        ]
        made = type(
            "Items", (), {"__len__": lambda self: 60, "__getitem__": lambda self, row, items=made: items[row]}
        )()
    elif form == "arrays":
        made = type("Items", (), {
            "__len__": lambda self: 60, "__getitem__": lambda self, row: (IMAGES[row].transpose(1, 2, 0), LABELS[row]),
        })()  # fmt: skip
    source = FactorySource(made, "m:f")
    images, labels = read_all(source)
    wanted = IMAGES.astype(np.float32) / np.float32(255) if form == "tensors" else IMAGES
    np.testing.assert_array_equal(wanted, images)
    np.testing.assert_array_equal(LABELS, labels)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (7, "returned int"),
        (([], [], []), "3 things"),
        (Pictures(IMAGES[:0], LABELS[:0]), "empty"),
        ({0: "no pair"}, "first item cannot be used"),
    ],
)
def test_code_that_returns_no_data_set_is_refused(made, said):
    """One line says what it returned."""
    with pytest.raises(DataError, match=said):
        FactorySource(made, "m:f")


def test_item_that_raises_is_broken_and_the_others_are_read():
    """What the user's code says is kept."""

    class Failing(Pictures):
        def __getitem__(self, row):
            if row == 2:
                raise RuntimeError("no such scan")
            return super().__getitem__(row)

    block = FactorySource(Failing(IMAGES, LABELS), "m:f").block(0, 4)()
    assert dict(block.broken) == {2: "no such scan"}
