"""``jsdelta attack export``: arrays that can be scored again, and pictures."""

import csv
import io

import numpy as np
import pytest
from matplotlib.image import imread

from jsdelta_db.pipeline.attack import attack_and_score
from jsdelta_db.samples.export import as_png, file_labels
from jsdelta_db.workbench.workbench import open_workbench
from tests.cli.calls import call, refused
from tests.reading import ask, tell
from tests.workspaces import tiny_attacks

EXPORT = ["attack", "export"]
SCORES = """
SELECT sample.sample_index, sample.requested_target, sample.success, score.js_delta
FROM sample LEFT JOIN score ON score.sample_index = sample.sample_index
    AND score.requested_target = sample.requested_target
    AND score.evaluation_id = (SELECT min(id) FROM evaluation WHERE evaluation.attack_id = sample.attack_id)
WHERE sample.attack_id = ? ORDER BY sample.sample_index, sample.requested_target
"""


def attack_uid(workspace, which=-1):
    """The uid of an attack, by its age."""
    return ask(workspace, "SELECT uid FROM attack ORDER BY id")[which][0]


def export(capsys, workspace, *arguments):
    code, out, err = call(capsys, workspace, *EXPORT, *map(str, arguments))
    assert code == 0, err
    return out


def levels_of(picture):
    """The 8-bit levels of a PNG, ``(3, h, w)``."""
    return np.rint(np.moveaxis(imread(picture, format="png"), -1, 0)[:3] * 255.0)


def test_arrays(tiny, tmp_path, capsys):
    """The file holds what the store has of each successful sample, within ε and in [0, 1]."""
    path = tmp_path / "samples.npz"
    assert export(capsys, tiny, attack_uid(tiny), "-o", path) == f"{path}\n"
    stored = [row for row in ask(tiny, SCORES, 2) if row[2]]
    with np.load(path) as arrays:
        columns = [arrays[name].tolist() for name in ("sample_index", "target_label", "success", "js_delta")]
        assert list(zip(*columns, strict=True)) == stored
        assert arrays["x"].dtype == arrays["x_adv"].dtype == np.float32
        assert arrays["x"].shape == arrays["x_adv"].shape == (len(stored), 1, 8, 8)
        assert np.abs(arrays["x_adv"] - arrays["x"]).max() <= 8 / 255 + 1e-6
        assert 0.0 <= arrays["x_adv"].min() <= arrays["x_adv"].max() <= 1.0
        assert arrays["adversarial_label"].tolist() == arrays["target_label"].tolist()
        assert (arrays["eps"].item(), arrays["norm"].item()) == (8 / 255, "linf")
        assert arrays["classes"].tolist() == list("0123456789")


def test_no_file_is_replaced_unasked(tiny, tmp_path, capsys):
    """A file that is there is as it was, unless --force says that it may go."""
    path = tmp_path / "samples.npz"
    path.write_text("mine")
    refused(capsys, tiny, 2, "is there already: add --force to replace it", *EXPORT, "-o", path)
    assert path.read_text() == "mine"
    export(capsys, tiny, "-o", path, "--force")
    with np.load(path) as arrays:
        assert len(arrays["x"])


def test_scored_again_the_samples_are_the_same(tiny_copy, tmp_path, capsys):
    """score --samples reads an export back: the same successes, and JSΔ within 1e-6."""
    path = tmp_path / "all.npz"
    export(capsys, tiny_copy, "--all", "-o", path)
    code, _, err = call(capsys, tiny_copy, "score", "--samples", str(path), "--attacked", "0")
    assert code == 0, err
    before, after = (np.array(ask(tiny_copy, SCORES, attack), dtype=np.float64) for attack in (2, 3))
    assert 0 < before[:, 2].sum() < len(before)
    assert before[:, :3].tolist() == after[:, :3].tolist()
    np.testing.assert_allclose(after[:, 3], before[:, 3], rtol=0, atol=1e-6)
    assert ask(tiny_copy, "SELECT split, eps FROM attack WHERE id = 3") == [("attack", 8 / 255)]


def test_images_of_no_split_come_back(tiny_copy, tmp_path, capsys):
    """Samples of images that the data set does not have are exported and drawn from their own file."""
    first, moved, again = (tmp_path / name for name in ("first.npz", "moved.npz", "again.npz"))
    export(capsys, tiny_copy, "-o", first)
    with np.load(first) as arrays:
        given = {name: arrays[name] for name in ("x", "x_adv", "label", "target_label")}
    for name in ("x", "x_adv"):
        given[name] = given[name] + np.float32(0.001)
    np.savez(moved, **given)
    code, _, err = call(capsys, tiny_copy, "score", "--samples", str(moved), "--attacked", "0")
    assert code == 0, err
    export(capsys, tiny_copy, attack_uid(tiny_copy), "--all", "-o", again)
    with np.load(again) as arrays:
        rows = arrays["sample_index"]
        assert len(rows) > 0
        np.testing.assert_array_equal(arrays["x"], given["x"][rows])
        np.testing.assert_allclose(arrays["x_adv"], given["x_adv"][rows], rtol=0, atol=1e-7)
    figure = tmp_path / "figure.svg"
    code, _, err = call(capsys, tiny_copy, "plot", "samples", "--limit", "2", "-o", str(figure))
    assert code == 0, err
    assert "row " in figure.read_text()


def test_untargeted_samples_name_the_label_they_reached(tiny_copy, tmp_path, capsys):
    """target_label is −1 where none was aimed at; adversarial_label is what the attacked model says."""
    with open_workbench(tiny_copy) as bench:
        attack_and_score(bench, tiny_attacks(8, targets="untargeted", images=12, steps=3))
    path = tmp_path / "samples.npz"
    export(capsys, tiny_copy, attack_uid(tiny_copy), "--all", "-o", path)
    with np.load(path) as arrays:
        assert set(arrays["target_label"].tolist()) == {-1}
        assert ((arrays["adversarial_label"] != arrays["label"]) == arrays["success"]).all()


def test_bugs_alone(tiny, tmp_path, capsys):
    """--bugs keeps successful samples strictly below the threshold."""
    of_success = sorted(row[3] for row in ask(tiny, SCORES, 2) if row[2] and row[3] is not None)
    beta = of_success[len(of_success) // 2]
    path = tmp_path / "bugs.npz"
    export(capsys, tiny, attack_uid(tiny), "--bugs", repr(beta), "-o", path)
    with np.load(path) as arrays:
        assert sorted(arrays["js_delta"].tolist()) == [value for value in of_success if value < beta]


def test_js_delta_is_nan_where_nobody_judged(tiny_copy, tmp_path, capsys):
    """An attack whose evaluation is not finished is exported without JSΔ, and has no bugs."""
    tell(tiny_copy, "UPDATE evaluation SET status = 'pending' WHERE attack_id = 2")
    path = tmp_path / "samples.npz"
    export(capsys, tiny_copy, attack_uid(tiny_copy), "-o", path)
    with np.load(path) as arrays:
        assert np.isnan(arrays["js_delta"]).all()
        assert arrays["evaluation"].item() == ""
    arguments = [attack_uid(tiny_copy), "--bugs", "0.1", "-o", tmp_path / "b.npz"]
    refused(capsys, tiny_copy, 1, "was not judged", *EXPORT, *arguments)


def test_pictures(tiny, tmp_path, capsys):
    """A folder holds a clean and an adversarial picture per sample, and an index that names them."""
    folder, file = tmp_path / "pictures", tmp_path / "samples.npz"
    assert export(capsys, tiny, "-o", folder) == f"{folder}\n"
    export(capsys, tiny, "-o", file)
    with (folder / "index.csv").open(newline="") as index, np.load(file) as arrays:
        rows = list(csv.DictReader(index))
        assert [int(row["sample_index"]) for row in rows] == arrays["sample_index"].tolist()
        for row, x_adv in zip(rows, arrays["x_adv"], strict=True):
            levels = levels_of(folder / row["adversarial"])
            assert np.abs(levels - x_adv * 255.0).max() <= 0.5 + 1e-4
        first = rows[0]
    stem = f"sample_{first['sample_index']}_{first['label_name']}_to_{first['target_label_name']}"
    assert (first["clean"], first["adversarial"]) == (f"{stem}_clean.png", f"{stem}_adv.png")
    assert {path.name for path in folder.iterdir()} == {
        "index.csv", *(row[name] for row in rows for name in ("clean", "adversarial")),
    }  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pictures", "samples.npz"]


def test_a_folder_is_replaced_only_by_force(tiny, tmp_path, capsys):
    """A folder with files is left alone; --force replaces an earlier export, and nothing else."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    export(capsys, tiny, attack_uid(tiny, 0), "-o", folder)  # an empty one is filled
    before = sorted(path.name for path in folder.iterdir())
    refused(capsys, tiny, 2, "--force", *EXPORT, attack_uid(tiny), "-o", folder)
    assert sorted(path.name for path in folder.iterdir()) == before
    export(capsys, tiny, attack_uid(tiny), "-o", folder, "--force")
    assert sorted(path.name for path in folder.iterdir()) != before
    (folder / "notes.txt").write_text("mine")
    refused(capsys, tiny, 2, "notes.txt", *EXPORT, attack_uid(tiny), "-o", folder, "--force")
    assert (folder / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("target", ["samples.npz", "pictures"])
def test_whole_or_not_at_all(target, tiny, tmp_path, monkeypatch, capsys):
    """A disk that fills up leaves nothing behind, and what was there before stays."""
    folder = tmp_path / "pictures"
    export(capsys, tiny, attack_uid(tiny, 0), "-o", folder)
    before = sorted(path.name for path in folder.iterdir())

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("jsdelta_db.samples.export.as_png", fail)
    monkeypatch.setattr("jsdelta_db.runtime.files.os.fsync", fail)
    refused(capsys, tiny, 2, "No space left on device", *EXPORT, "-o", tmp_path / target, "--force")
    assert [path.name for path in tmp_path.iterdir()] == ["pictures"]
    assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "code", "fragment"),
    [
        (["-o", "samples.zip"], 2, "ends in '.zip': must be .npz, or a folder"),
        (["-o", "samples.npz", "--format", "png"], 2, "give a folder"),
        (["-o", "samples", "--format", "npz"], 2, "give a file that ends in .npz"),
        (["-o", "samples", "--format", "jpg"], 2, "must be npz or png"),
        (["-o", "missing/samples.npz"], 2, "does not exist; make it first"),
        (["-o", "folder.npz"], 2, "is a folder"),
        (["-o", "file"], 2, "is a file; give a folder"),
        (["ffffffff", "-o", "samples.npz"], 2, "unknown attack 'ffffffff'"),
        (["-o", "samples.npz", "--evaluation", "ffff"], 2, "names 0 evaluations"),
        (["-o", "samples.npz", "--evaluation", ""], 2, "names 0 evaluations"),
        (["-o", "samples.npz", "--bugs", "0"], 2, "out of range"),
        (["-o", "samples.npz", "--bugs", "0.1", "--all"], 2, "give one of them"),
        (["-o", "samples.npz", "--bugs", "1e-12"], 1, "has no bug at β = 1e-12"),
        ([], 2, "output"),
    ],
)
def test_bad_input(arguments, code, fragment, tiny, tmp_path, monkeypatch, capsys):
    """Each bad value gets one line that says what is valid; nothing is written."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "file").touch()
    refused(capsys, tiny, code, fragment, *EXPORT, *arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.npz"]


@pytest.mark.parametrize(
    ("change", "code", "fragment"),
    [
        ("UPDATE attack SET finished_at = NULL", 2, "is not finished"),
        ("UPDATE attack SET keeps_samples = 0", 2, "--no-save-samples"),
        ("UPDATE attack_chunk SET uri = 'gone.npz'", 1, "missing or altered"),
        ("UPDATE dataset SET fingerprint = 'other'", 2, "is not the one that was attacked"),
        ("UPDATE sample SET success = 0", 1, "has no successful sample; add --all"),
    ],
)
@pytest.mark.parametrize("command", ["export", "plot"])
def test_attack_that_can_not_be_looked_at(command, change, code, fragment, tiny_copy, tmp_path, capsys):
    """An attack without usable samples is one line that says why; plots say the same."""
    uid = attack_uid(tiny_copy)
    tell(tiny_copy, change)
    output = tmp_path / "out.png"
    if command == "export":
        arguments = [*EXPORT, uid, "-o", output.with_suffix(".npz")]
    else:
        arguments = ["plot", "samples", "--attack", uid, "-o", output]
        fragment = fragment.replace("successful sample; add --all", "such samples")
    refused(capsys, tiny_copy, code, fragment, *arguments)
    assert not list(tmp_path.glob("out*"))


def test_no_attack_at_all(workspace, tmp_path, capsys):
    """Without a store the line says how to make one."""
    refused(capsys, workspace, 3, "jsdelta quickstart", *EXPORT, "-o", tmp_path / "samples.npz")


def test_png_rounds_to_nearest():
    """Levels are rounded, never floored: 8 bits give a whole level back as it was."""
    pixels = np.float32([[[0.0, 0.49, 0.51, 1.4999, 254.51, 255.0]]]) / np.float32(255.0)
    every = np.arange(768, dtype=np.float32).reshape(3, 2, 128) % 256 / np.float32(255.0)
    assert levels_of(io.BytesIO(as_png(pixels)))[0].tolist() == [[0, 0, 1, 1, 255, 255]]
    np.testing.assert_array_equal(levels_of(io.BytesIO(as_png(every))), np.rint(every * 255.0))


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        (["cat", "dog"], ["cat", "dog"]),
        (["great white/shark", "größe"], ["great-white-shark", "größe"]),
        (["a b", "a/b"], ["0", "1"]),
        (["Cat", "cat"], ["0", "1"]),  # one file on a disk that knows no case
        (["../..", "x"], ["0", "1"]),
    ],
)
def test_labels_in_file_names(classes, names):
    """A label's name is used where it is a safe part of a file name and tells labels apart."""
    assert file_labels(classes) == names
