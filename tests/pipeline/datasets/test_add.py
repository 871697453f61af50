"""Data sets of the user's: added, found, resumed, trained on, attacked, moved and deleted."""

import errno
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from jsdelta_db.compute import data
from jsdelta_db.compute.sources import staging
from jsdelta_db.compute.sources.dividing import Rules
from jsdelta_db.errors import DataError, StoreError, UsageError
from jsdelta_db.pipeline.datasets.add import FOLDER, AddRequest, add_dataset, open_source
from jsdelta_db.pipeline.datasets.plan import check_free
from jsdelta_db.pipeline.train import train_ensemble
from jsdelta_db.workbench.datasets import open_dataset
from jsdelta_db.workbench.workbench import open_workbench
from tests.compute.sources.forms import some_images, write_folder
from tests.reading import ask
from tests.workspaces import Listening, tiny_recipe

IMAGES, LABELS = some_images(120)


def add(workspace, name="mine", *, progress=None, **request):
    """Add a data set; return its row, whether it is new, and the data set as it opens."""
    asked = AddRequest(name, **request)
    source = open_source(asked)
    with open_workbench(workspace, progress) as bench:
        row, is_new = add_dataset(bench, asked, source)
        return row, is_new, open_dataset(bench, name)[0]


@pytest.fixture
def npz(tmp_path) -> Path:
    """The images as arrays."""
    np.savez(tmp_path / "a.npz", x=IMAGES, y=LABELS)
    return tmp_path / "a.npz"


def test_added_set_opens_by_name(workspace, npz):
    """Its row says what it is; the file lies in the workspace, and no part is left."""
    row, is_new, dataset = add(workspace, npz=npz)
    assert is_new
    assert ("external", "finished", row.fingerprint[:16]) == (row.kind, row.status, row.uid)
    assert f"{FOLDER}/mine-{row.uid}.npz" == row.uri
    assert {k: len(v) for k, v in dataset.splits.items()} == {"train": 72, "baseline": 24, "attack": 24}
    if sys.platform == "linux":  # its images are mapped, not read
        assert Path(row.uri).name in Path("/proc/self/maps").read_text()
    left = sorted(path.name for path in (workspace.root / FOLDER).iterdir())
    assert [Path(row.uri).name, f"{Path(row.uri).name}.stamp"] == left


def test_same_set_is_found_and_another_has_no_claim_to_the_name(workspace, npz, tmp_path):
    """Found without reading an image; a name that is taken, and a set that has a name, are refused."""
    row, _, _ = add(workspace, npz=npz)
    again, is_new, _ = add(workspace, npz=npz)
    assert (row.uid, False) == (again.uid, is_new)
    with pytest.raises(UsageError, match=f"was added as 'mine' \\({row.uid}\\)"):
        add(workspace, "other", npz=npz)
    np.savez(tmp_path / "b.npz", x=255 - IMAGES, y=LABELS)
    with pytest.raises(UsageError, match=f"'mine' is taken \\({row.uid}, external\\)"):
        add(workspace, npz=tmp_path / "b.npz")
    write_folder(tmp_path / "f", {"": (IMAGES, LABELS)})
    in_another_form, is_new, _ = add(workspace, folder=tmp_path / "f")
    assert (in_another_form.uid, is_new) == (row.uid, False)
    np.savez(tmp_path / "c.npz", x=IMAGES[:90], y=LABELS[:90])
    with pytest.raises(UsageError, match="is taken"):
        add(workspace, npz=tmp_path / "c.npz")
    assert ask(workspace, "SELECT count(*) FROM dataset") == [(1,)]


def test_construction_cannot_take_its_name(workspace, npz):
    """It is told what kind of data set has the name."""
    add(workspace, npz=npz)
    said = pytest.raises(UsageError, match="'mine' is that of a data set that was added")
    with open_workbench(workspace) as bench, bench.store.read_session() as session, said:
        check_free(session, "mine")


@pytest.mark.parametrize("name", ["digits", "cifar10", "any", "12345678", ""])
def test_name_that_means_something_else_is_refused(npz, name):
    """Before anything is looked at."""
    with pytest.raises(UsageError):
        open_source(AddRequest(name, npz=npz))


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({}, "0 sources"),
        ({"npz": Path("a.npz"), "folder": Path()}, "2 sources"),
        ({"npz": Path("a.npz"), "size": 8}, "--size 8"),
        ({"factory": "no_such_module:f"}, "cannot be imported"),
    ],
)
def test_not_one_source_is_refused(request_, said):
    """One line."""
    with pytest.raises(UsageError, match=said):
        open_source(AddRequest("mine", **request_))


def test_factory_that_raises_gives_its_own_message(tmp_path, monkeypatch):
    """No traceback, also for what would end the program."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "theirs.py").write_text(
        "import sys\ndef broken():\n    raise RuntimeError('disk of scans is not mounted')\n"
        "def leaving():\n    sys.exit(0)\n"
    )
    with pytest.raises(DataError, match=r"theirs:broken failed: disk of scans is not mounted"):
        open_source(AddRequest("mine", factory="theirs:broken"))
    with pytest.raises(DataError, match="SystemExit"):
        open_source(AddRequest("mine", factory="theirs:leaving"))


def test_factory_in_a_file_is_named_by_its_content(tmp_path):
    """``path/to/file.py:callable`` works as it does for networks; an edited file is another source."""
    path = tmp_path / "theirs.py"
    code = (
        "import numpy as np\n\nclass Set:\n    def __len__(self):\n        return 3\n\n"
        "    def __getitem__(self, item):\n        return np.zeros((8, 8), np.uint8), 0\n\nmake = Set\n"
    )
    path.write_text(code)
    source = open_source(AddRequest("mine", factory=f"{path}:make"))
    assert source.parts == {"all": 3}
    assert open_source(AddRequest("mine", factory=f"{path}:make")).identity == source.identity
    path.write_text(code + "# edited\n")
    assert open_source(AddRequest("mine", factory=f"{path}:make")).identity != source.identity
    with pytest.raises(UsageError, match=r"--factory .*theirs.py:gone' cannot be imported"):
        open_source(AddRequest("mine", factory=f"{path}:gone"))


def test_disk_that_fills_leaves_no_row_and_what_was_read(workspace, npz, monkeypatch):
    """The error is one line; the same command goes on once there is room."""
    monkeypatch.setattr(staging, "MOST_ROWS", 10)
    real, writes = staging._write_at, []

    def filling(path, place, values):
        writes.append(path)
        if len(writes) > 20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        real(path, place, values)

    monkeypatch.setattr(staging, "_write_at", filling)
    with pytest.raises(StoreError, match=r"No space left on device; free some space"):
        add(workspace, npz=npz)
    assert ask(workspace, "SELECT count(*) FROM dataset") == [(0,)]
    monkeypatch.setattr(staging, "_write_at", lambda *args: (writes.append(args[0]), real(*args)))
    writes.clear()
    add(workspace, npz=npz)
    assert len(writes) == 6 * 3  # of twelve blocks six were there


def test_broken_images_are_left_out_and_counted(workspace, tmp_path):
    """With skip_broken; the row and a line say how many."""
    write_folder(tmp_path / "f", {"": (IMAGES, LABELS)})
    (tmp_path / "f" / "0" / "00000.png").write_bytes(b"")
    heard = Listening()
    with pytest.raises(DataError, match="--skip-broken"):
        add(workspace, folder=tmp_path / "f")
    row, _, dataset = add(workspace, folder=tmp_path / "f", skip_broken=True, progress=heard)
    assert (row.construction["n_broken"], sum(map(len, dataset.splits.values()))) == (1, 119)
    assert "1 images cannot be read and are left out" in heard.lines


def test_set_to_attack_only_cannot_be_trained_on(workspace, npz):
    """It has no train split, and train says what it is for."""
    _, _, dataset = add(workspace, npz=npz, rules=Rules(test_only=True))
    assert {"baseline", "attack"} == set(dataset.splits)
    with open_workbench(workspace) as bench, pytest.raises(UsageError, match="--test-only"):
        train_ensemble(bench, tiny_recipe(dataset="mine", members=1, epochs=1))


def test_three_ways_in_give_the_same_cifar10(workspace, tmp_path, cifar10_dir, monkeypatch):
    """Real images as arrays, as pictures and by code: equal bytes, one fingerprint."""
    real = data.load("cifar10", cifar10_dir)
    parts = {}
    for part, split, count in (("train", "train", 400), ("test", "attack", 100)):
        images, labels = real.splits[split].images[:count].numpy(), real.splits[split].labels[:count].numpy()
        parts[part] = images, labels
    arrays = {f"{key}_{part}": both[i] for part, both in parts.items() for i, key in enumerate("xy")}
    np.savez(tmp_path / "cifar.npz", **arrays)
    write_folder(tmp_path / "cifar", parts, real.classes)
    (tmp_path / "names.py").write_text(
        "import numpy as np\nfrom PIL import Image\n"
        "class Pictures:\n"
        f"    classes = {list(real.classes)!r}\n"
        "    def __init__(self, images, labels):\n        self.images, self.labels = images, labels\n"
        "    def __len__(self):\n        return len(self.labels)\n"
        "    def __getitem__(self, i):\n"
        "        return Image.fromarray(self.images[i].transpose(1, 2, 0)), int(self.labels[i])\n"
        "def make():\n"
        f"    a = np.load({str(tmp_path / 'cifar.npz')!r})\n"
        "    return Pictures(a['x_train'], a['y_train']), Pictures(a['x_test'], a['y_test'])\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    found = []
    for request in (
        {"npz": tmp_path / "cifar.npz", "classes": real.classes}, {"folder": tmp_path / "cifar"},
        {"factory": "names:make"},
    ):  # fmt: skip
        place = workspace.__class__(
            tmp_path / f"ws{len(found)}", f"sqlite:///{tmp_path}/ws{len(found)}.db", None, tmp_path
        )
        place.root.mkdir()
        (place.root / "mlflow.db").write_bytes((workspace.root / "mlflow.db").read_bytes())
        row, _, dataset = add(place, **request)
        splits = {name: split.images.numpy().tobytes() for name, split in dataset.splits.items()}
        found.append((row.fingerprint, dataset.classes, dataset.mean, splits))
    sys.modules.pop("names")
    assert found[0] == found[1] == found[2]
    assert (real.classes, 3 * 32 * 32 * 100) == (found[0][1], len(found[0][3]["attack"]))
