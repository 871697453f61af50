"""PNG folders: pairs by name with their labels, pixel for pixel; one line for what is none."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from jsdelta_db.errors import DataError
from jsdelta_db.samples.foreign import read_samples
from tests.samples.foreign.cases import N, check, save
from tests.samples.foreign.pngs import write_folder, write_png


@pytest.fixture
def folder(levels, tmp_path):
    """A folder that is as it should be."""
    return write_folder(tmp_path / "samples", levels)


def rewrite(path, change):
    """Change a text file."""
    path.write_text(change(path.read_text()))


def test_one_set_of_bytes_is_one_set_of_samples_in_every_form(levels, digits, tmp_path):
    """.npz, .pt and PNGs of the same pixels and labels are the same samples, to the bit."""
    torch.save(
        {name: torch.from_numpy(array) for name, array in levels.items()}, tmp_path / "samples.pt"
    )  # fmt: skip
    forms = [
        save(tmp_path / "samples.npz", **levels),
        tmp_path / "samples.pt",
        write_folder(tmp_path / "one", levels),
        write_folder(
            tmp_path / "two", levels, clean="images", adv="adv_images", header="filename,label,targeted_label"
        ),
    ]
    prints = {check(read_samples(form), digits).fingerprint for form in forms}
    assert prints == {check(levels, digits).fingerprint}


def test_what_was_read_is_told(folder):
    """The folders, the number of pairs and the columns are one line."""
    assert read_samples(folder).remarks == (
        "4 pairs of PNGs in clean/ and adv/; of labels.csv: name, label, target",
    )


def test_names_may_lack_their_ending_and_targets_may_be_missing(levels, digits, tmp_path):
    """A table with spaces, a mark of its encoding and gaps is read; without targets samples are untargeted."""
    folder = write_folder(tmp_path / "samples", levels)
    rows = "".join(f"{N - i:03}, {levels['label'][i]}.0\r\n" for i in range(N))
    (folder / "labels.csv").write_text("\ufeffName, label\r\n" + rows + "\r\n", encoding="utf-8", newline="")
    samples = check(read_samples(folder), digits)
    assert samples.attempts.source_label.tolist() == levels["label"].tolist()
    assert samples.attempts.requested_target.tolist() == [-1] * N


def test_names_without_an_adversarial_image_are_left_out_and_counted(folder, levels):
    """A subset was attacked: its pairs are taken, the rest is a number."""
    (folder / "adv" / "004.png").unlink()  # the first row
    rewrite(folder / "labels.csv", lambda text: text + "999.png,1,2\n")
    samples = read_samples(folder)
    assert samples.label.tolist() == levels["label"][1:].tolist()
    assert samples.remarks[1:] == ("2 names have no image in adv/ and are left out",)


@pytest.mark.parametrize("mode", ["RGB", "P", "LA", "RGBA"])
def test_pngs_of_other_kinds_hold_the_same_pixels(mode, folder, levels, digits):
    """A grey image saved in colour, with a palette or opaque alpha is the grey image."""
    for path in folder.glob("adv/*.png"):
        Image.open(path).convert(mode).save(path)
    samples = check(read_samples(folder), digits)
    assert samples.fingerprint == check(levels, digits).fingerprint


def test_colour_is_read_plane_by_plane(tmp_path):
    """Red, green and blue of images that are not square."""
    planes = np.random.default_rng(0).integers(0, 256, (2, 3, 5, 7), dtype=np.uint8)
    folder = write_folder(
        tmp_path, {"x": planes, "x_adv": 255 - planes, "label": [0, 1], "target_label": [1, 0]}
    )
    samples = read_samples(folder)
    assert samples.x.tolist() == planes.tolist()
    assert samples.x_adv.tolist() == (255 - planes).tolist()


def _remove(*names):
    def change(folder):
        for name in names:
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def _put_png(name, planes):
    return lambda folder: write_png(folder / name, planes)


def _put_image(name, image):
    return lambda folder: image.save(folder / name)


def _table(change):
    return lambda folder: rewrite(folder / "labels.csv", change)


BAD = [
    ("nothing", _remove("clean", "adv", "labels.csv"),
     r"has neither clean nor images \(it holds nothing\); must have clean/NAME\.png, adv/"),
    ("no clean images", _remove("clean"), r"has neither clean nor images \(it holds adv, labels\.csv\)"),
    ("no adversarial ones", _remove("adv"), "has neither adv nor adv_images"),
    ("two folders", lambda folder: (folder / "images").mkdir(), "has both clean and images"),
    ("no table", _remove("labels.csv"), r"labels\.csv cannot be read \(No such file"),
    ("an empty folder", _remove(*(f"adv/{i:03}.png" for i in range(1, N + 1))), "adv is empty: must be PNGs"),
    ("a JPEG", _put_image("adv/001.jpg", Image.new("L", (8, 8))), "001.jpg is no .png file: must be PNGs alone"),
    ("no pair", _remove("clean/002.png"), "adv/002.png has no counterpart: must have an image of the same name"),
    ("no pairs", _remove("clean/002.png", "clean/003.png"), r"has no counterpart \(nor have 1 more\)"),
    ("no row", _table(lambda text: text.replace("002.png", "2.png")),
     r"adv/002.png has no counterpart: must have a row in .*labels\.csv"),
    ("another size", _put_png("adv/003.png", np.zeros((1, 9, 8), np.uint8)),
     "003.png is 8×9 and .*clean.* is 8×8: must be images of one size"),
    ("16 bits", _put_image("adv/003.png", Image.new("I;16", (8, 8))),
     "003.png has pixels of kind I;16: must be 8 bits a channel"),
    ("transparent", _put_image("adv/003.png", Image.new("RGBA", (8, 8), (9, 9, 9, 128))),
     "003.png is transparent in places"),
    ("cut short", lambda folder: (folder / "adv/003.png").write_bytes((folder / "adv/003.png").read_bytes()[:60]),
     "003.png cannot be read as a PNG"),
    ("a JPEG by another name", lambda folder: Image.new("L", (8, 8)).save(folder / "adv/003.png", "JPEG"),
     "003.png cannot be read as a PNG"),
    ("no PNG", lambda folder: (folder / "adv/003.png").write_bytes(b"hello"), "003.png cannot be read as a PNG"),
    ("an empty table", _table(lambda text: ""), r"has no column name \(nothing\); the first line must be name,"),
    ("no header", _table(lambda text: text.split("\n", 1)[1]), r"has no column name \(004\.png, \d, \d\)"),
    ("no labels", _table(lambda text: text.replace("label", "class")), r"has no column label \(name, class, tar"),
    ("two names", _table(lambda text: text.replace("name,label", "name,filename")), "several columns for the name"),
    ("a name twice", _table(lambda text: text.replace("003.png", "004.png")),
     "line 3 has '004' for the second time"),
    ("a class's name", _table(lambda text: text.replace("\n003.png,", "\n003.png,cat ")),
     r"line 3: label 'cat \d' is not valid: must be a whole number"),
    ("half a label", _table(lambda text: text.replace("\n003.png,", "\n003.png,0.")), "line 3: label '0\\..' is not"),
    ("infinite", _table(lambda text: text.replace("\n003.png,", "\n003.png,inf,3\n9,")), "label 'inf' is not"),
    ("short", _table(lambda text: text.replace("\n003.png,", "\n003.png\n9,")), "line 3 has 1 values: must be 3"),
    ("another encoding", lambda folder: (folder / "labels.csv").write_bytes(b"name,label\n\xff,1\n"),
     "is not a table of UTF-8 text"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_a_folder_that_is_none_is_one_line(change, message, folder):
    """What was seen, in which file and line, and what must be there."""
    change(folder)
    with pytest.raises(DataError, match=message) as raised:
        read_samples(folder)
    assert str(raised.value).startswith("--samples")
    assert "\n" not in str(raised.value)
