"""A workspace that lost its ``mlruns``: every command that needs the files says so."""

import shutil

import pytest

from tests.cli.calls import call, refused
from tests.reading import ask


@pytest.fixture
def lost(tiny_copy):
    """The tiny workspace without the files that its rows name."""
    shutil.rmtree(tiny_copy.runs_dir)
    return tiny_copy


def test_doctor_names_what_is_missing(lost, capsys):
    """Doctor counts the files that finished rows name and names one that is gone; its exit code is 1."""
    ((uri,),) = ask(lost, "SELECT checkpoint_uri FROM model WHERE seed = 0")
    code, out, err = call(capsys, lost, "doctor", "--format", "csv")
    assert (code, err) == (1, "jsdelta: broken: files; the table says how\n")
    assert f"{uri} is missing and 6 more, of 7; restore mlruns from a backup" in out


def test_a_finished_member_without_its_weights_is_not_found(lost, capsys):
    """Training the same again does not say that it is there: the line names the file and what to do."""
    ((uri, uid),) = ask(lost, "SELECT checkpoint_uri, uid FROM model WHERE seed = 0")
    train = ("train", "--seed", "0", "--members", "3", "--epochs", "3")
    line = refused(capsys, lost, 1, f"{lost.root / uri} is missing or altered", *train)
    assert f"jsdelta db delete {uid} --cascade, then train member seed 0 again" in line


def test_what_the_line_says_works(lost, capsys):
    """Deleted as the line says, the member is trained again."""
    for (uid,) in ask(lost, "SELECT uid FROM model"):
        assert call(capsys, lost, "db", "delete", uid, "--cascade", "--yes")[0] == 0
    code, _, err = call(capsys, lost, "train", "--seed", "0", "--members", "1", "--epochs", "1")
    assert (code, "found" in err) == (0, False)
