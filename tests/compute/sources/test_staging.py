"""Staging and finish: a stop loses what was at work, and one file holds what was read."""

import numpy as np
import pytest

from jsdelta_db.compute.data.stored import open_stored
from jsdelta_db.compute.sources import staging as staging_module
from jsdelta_db.compute.sources.arrays import NpzSource
from jsdelta_db.compute.sources.dividing import Rules
from jsdelta_db.compute.sources.factory import FactorySource
from jsdelta_db.compute.sources.finishing import Settled, divide_all, name_classes, write_dataset
from jsdelta_db.compute.sources.folder import FolderSource
from jsdelta_db.compute.sources.staging import Staging, check_broken, decode_all
from jsdelta_db.errors import DataError
from jsdelta_db.runtime import stamps
from jsdelta_db.runtime.pool import process_pool
from tests.compute.sources.forms import Pictures, some_images, write_folder

IMAGES, LABELS = some_images(90)


@pytest.fixture
def blocks_of_ten(monkeypatch):
    """Blocks of ten images, so that ninety make nine."""
    monkeypatch.setattr(staging_module, "MOST_ROWS", 10)


def staged(folder, source, pool=None):
    """Decode a source; return its staging and how many images were read."""
    staging, done = Staging.open(folder, source), []
    decode_all(staging, source, done.append, pool, workers=2)
    return staging, sum(done)


def finished(folder, source, rules=Rules()):  # noqa: B008 frozen
    """Store a source; return its data set, what was written, and the division."""
    staging, _ = staged(folder / "staging", source)
    settled = Settled.of(staging)
    kept = check_broken(staging, source, skips=True)
    classes = name_classes(source, staging.labels[kept], None)
    division = divide_all(settled, kept, source, classes, rules)
    written = write_dataset(folder / "set.npz", settled, division, lambda n: None)
    facts = {
        "name": "set", "classes": classes, "fingerprint": division.fingerprint, "sha256": written.sha256,
        "mean": written.mean, "std": written.std,
    }  # fmt: skip
    return open_stored(folder / "set.npz", facts), facts


def npz(path, **arrays):
    np.savez(path, **arrays)
    return NpzSource(path)


@pytest.mark.usefixtures("blocks_of_ten")
def test_stopped_decoding_goes_on_where_it_was(tmp_path):
    """After a stop in the fifth block only the other five are read, and the images are those of one go."""
    reads = []

    class Stopping(Pictures):
        def __getitem__(self, row):
            reads.append(row)
            if len(reads) == 45:
                raise KeyboardInterrupt
            return super().__getitem__(row)

    source = FactorySource(Stopping(IMAGES, LABELS), "m:f")
    with pytest.raises(KeyboardInterrupt):
        staged(tmp_path / "s", source)
    staging, n_read = staged(tmp_path / "s", source)
    assert n_read == 50
    np.testing.assert_array_equal(IMAGES, staging.images)
    np.testing.assert_array_equal(LABELS, staging.labels)
    assert staged(tmp_path / "s", source)[1] == 0


@pytest.mark.usefixtures("blocks_of_ten")
def test_another_source_begins_anew(tmp_path):
    """What is staged of a source that has changed is not mixed with it."""
    staged(tmp_path / "s", npz(tmp_path / "a.npz", x=IMAGES, y=LABELS))
    staging, n_read = staged(tmp_path / "s", npz(tmp_path / "b.npz", x=255 - IMAGES[:60], y=LABELS[:60]))
    assert n_read == 60
    np.testing.assert_array_equal(255 - IMAGES[:60], staging.images)


@pytest.mark.usefixtures("blocks_of_ten")
def test_processes_decode_the_same(tmp_path):
    """Two workers' blocks stand where they would alone."""
    source = FolderSource(write_folder(tmp_path / "f", {"": (IMAGES, LABELS)}))
    with process_pool(2) as pool:
        together = staged(tmp_path / "two", source, pool)[0]
    alone = staged(tmp_path / "one", source)[0]
    np.testing.assert_array_equal(alone.images, together.images)
    np.testing.assert_array_equal(alone.labels, together.labels)


@pytest.mark.usefixtures("blocks_of_ten")
def test_pictures_of_another_size_stop_the_processes(tmp_path):
    """A worker's error is the command's."""
    write_folder(tmp_path / "f", {"": (IMAGES, LABELS)})
    write_folder(tmp_path / "f", {"": (IMAGES[:3, :, :5], LABELS[:3] * 0 + 2)}, names={2: "zzz"})
    with process_pool(2) as pool, pytest.raises(DataError, match="must be of one size"):
        staged(tmp_path / "s", FolderSource(tmp_path / "f"), pool)


def test_broken_images_are_refused_or_left_out(tmp_path):
    """The message names the first and counts the others; left out, the rest is what is kept."""
    write_folder(tmp_path / "f", {"": (IMAGES, LABELS)})
    for file in sorted((tmp_path / "f" / "1").iterdir())[:3]:
        file.write_bytes(b"")
    source = FolderSource(tmp_path / "f")
    staging, _ = staged(tmp_path / "s", source)
    with pytest.raises(DataError, match=r"1/00001.png and 2 others cannot be read.*--skip-broken"):
        check_broken(staging, source, skips=False)
    assert len(IMAGES) - 3 == len(check_broken(staging, source, skips=True))
    again = Staging.open(tmp_path / "s", source)
    assert again.broken() == staging.broken()


@pytest.mark.usefixtures("blocks_of_ten")
@pytest.mark.parametrize("form", ["uint8", "floats", "grey"])
def test_finished_set_holds_every_image_once(tmp_path, form):
    """With its label and, in ``position``, its place in the source; mean and deviation are train's."""
    images = IMAGES[:, :1] if form == "grey" else IMAGES
    if form == "grey":
        source = FolderSource(write_folder(tmp_path / "f", {"": (images, LABELS)}))
        order = np.argsort(LABELS, kind="stable")  # of a folder: by class
    else:
        values = images if form == "uint8" else images / np.float32(255) * np.float32(0.99)
        source, order = npz(tmp_path / "a.npz", x=values, y=LABELS), np.arange(90)
    dataset, facts = finished(tmp_path, source)
    wanted = images / 255 * (0.99 if form == "floats" else 1)
    with np.load(tmp_path / "set.npz") as arrays:
        position = order[arrays["position"]]
    seen = []
    for split in dataset.splits.values():
        rows = position[split.index]
        np.testing.assert_allclose(wanted[rows], split.batch(slice(None)).numpy(), atol=1e-6)
        np.testing.assert_array_equal(LABELS[rows], split.labels)
        seen += rows.tolist()
    assert list(range(90)) == sorted(seen)
    train = wanted[position[dataset.splits["train"].index]]
    np.testing.assert_allclose(facts["mean"], train.mean((0, 2, 3)), atol=1e-6)
    np.testing.assert_allclose(facts["std"], train.std((0, 2, 3)), atol=1e-6)


def test_forms_and_blocks_leave_no_trace(tmp_path, monkeypatch):
    """Floats on pixel levels and pictures give the arrays' fingerprint, mean and deviation to the bit."""
    found = []
    for number, make in enumerate((
        lambda place: npz(place / "a.npz", x=IMAGES, y=LABELS),
        lambda place: npz(place / "a.npz", x=IMAGES.transpose(0, 2, 3, 1) / np.float32(255), y=LABELS),
        lambda place: FolderSource(write_folder(place / "f", {"": (IMAGES, LABELS)})),
    )):  # fmt: skip
        monkeypatch.setattr(staging_module, "MOST_ROWS", 7 + 10 * number)
        place = tmp_path / str(number)
        place.mkdir()
        dataset, facts = finished(place, make(place))
        facts.pop("sha256")
        found.append(
            (facts, dataset.splits["attack"].images.tolist(), str(dataset.splits["attack"].images.dtype))
        )
    assert found[0] == found[1] == found[2]


def test_channel_without_deviation_is_divided_by_one(tmp_path):
    """A constant channel does not divide by zero."""
    images = IMAGES.copy()
    images[:, 1] = 51
    facts = finished(tmp_path, npz(tmp_path / "a.npz", x=images, y=LABELS))[1]
    assert (pytest.approx(0.2), 1.0) == (facts["mean"][1], facts["std"][1])


@pytest.mark.parametrize(
    ("labels", "given", "said"),
    [
        (LABELS - 1, None, "labels of -1 to 1"),
        (LABELS + 1, None, "labels of 1 to 3"),
        (LABELS * 0, None, "one class only"),
        (LABELS, ("a", "b"), "labels up to 2 and 2 class names"),
        (LABELS, ("a", "a", "b"), "'a' is there twice"),
        (LABELS, ("a", "b\x1b", "c"), "printable"),
    ],
)
def test_labels_and_names_that_are_not_valid_are_refused(tmp_path, labels, given, said):
    """One line says which."""
    with pytest.raises(DataError, match=said):
        name_classes(npz(tmp_path / "a.npz", x=IMAGES, y=LABELS), labels, given)


def test_file_is_hashed_once_and_again_where_it_was_touched(tmp_path, monkeypatch):
    """A known size and time is enough; a new time asks for the content, which may be the same, or not."""
    _, facts = finished(tmp_path, npz(tmp_path / "a.npz", x=IMAGES, y=LABELS))
    hashed = []
    monkeypatch.setattr(
        stamps, "sha256_of_file", lambda path, real=stamps.sha256_of_file: hashed.append(path) or real(path)
    )
    path = tmp_path / "set.npz"
    open_stored(path, facts)
    assert hashed == []
    path.touch()
    open_stored(path, facts)
    open_stored(path, facts)
    assert [path] == hashed
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"'set': its file .* was changed; restore it"):
        open_stored(path, facts)
    path.unlink()
    with pytest.raises(DataError, match="is missing"):
        open_stored(path, facts)


def test_facts_of_an_import_that_are_none_are_one_line(tmp_path):
    """A row may have come from anywhere."""
    _, facts = finished(tmp_path, npz(tmp_path / "a.npz", x=IMAGES, y=LABELS))
    for broken in ({**facts, "mean": ["x"]}, {key: value for key, value in facts.items() if key != "std"}):
        with pytest.raises(DataError, match="cannot be read"):
            open_stored(tmp_path / "set.npz", broken)
