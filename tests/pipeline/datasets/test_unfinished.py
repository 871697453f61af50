"""Unfinished additions of data sets: named, and removed unless a process is at work on them."""

from jsdelta_db.maintenance.doctor import diagnose
from jsdelta_db.pipeline.datasets.unfinished import folder_for, list_unfinished, remove_unfinished
from jsdelta_db.runtime.files import locked


def test_doctor_names_what_was_begun(workspace):
    """With the two ways on."""
    folder_for(workspace.root, "mine").mkdir(parents=True)
    (row,) = [row for row in diagnose(workspace) if row["check"] == "dataset mine"]
    assert row["state"] == "missing"
    assert "the same jsdelta dataset add goes on" in row["found"]


def test_what_a_process_works_on_stays(tmp_path):
    """What nobody works on goes, files and all; other files in the folder are nobody's business."""
    for name in ("mine", "theirs"):
        folder_for(tmp_path, name).mkdir(parents=True)
        (folder_for(tmp_path, name) / "images").write_bytes(b"some")
    other = tmp_path / "datasets" / ".mine-00.npz.host.1.part"
    other.write_bytes(b"a file that is being written")
    with locked(folder_for(tmp_path, "theirs"), wait=False):
        assert list_unfinished(tmp_path) == ["mine"]
        assert remove_unfinished(tmp_path) == ["mine"]
    assert list_unfinished(tmp_path) == ["theirs"]
    assert other.exists()


def test_a_workspace_without_data_sets_has_none(tmp_path):
    """Nothing is made by looking."""
    assert remove_unfinished(tmp_path) == []
    assert list(tmp_path.iterdir()) == []
