"""The main job, as the README types it, in a fresh workspace."""

import csv
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

JSDELTA = Path(sys.executable).parent / "jsdelta"
EPS_255 = (1, 3, 5, 8)

pytestmark = pytest.mark.slow


def jsdelta(folder, *arguments):
    """Run the installed command in a folder."""
    return subprocess.run([JSDELTA, *arguments], cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A quickstart that has run: its folder and what it printed."""
    folder = tmp_path_factory.mktemp("quickstart")
    return folder, jsdelta(folder, "quickstart")


def test_quickstart_ends_with_table_histogram_and_figure(finished):
    """It exits with 0 and prints the table, the histogram, the figure's path and what to try next."""
    folder, done = finished
    assert done.returncode == 0, done.stderr
    for level in EPS_255:
        assert len(re.findall(rf"^ *{level}/255 .*\[0\.\d+, \d\.\d+\]", done.stdout, flags=re.MULTILINE)) == 3
        assert f"ε = {level}/255" in done.stdout
    assert "figure: jsdelta-quickstart.png" in done.stdout
    assert (folder / "jsdelta-quickstart.png").read_bytes().startswith(b"\x89PNG")
    assert "jsdelta query bugs" in done.stdout
    assert "Traceback" not in done.stderr
    assert "INFO" not in done.stderr


def test_the_bug_fraction_falls_from_weak_to_strong(finished):
    """At β = 0.10 fewer successes are bugs at ε = 8 than at ε = 1, and success rises with every ε."""
    folder, _ = finished
    done = jsdelta(folder, "query", "bugs", "--beta", "0.10", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [round(float(row["eps"]) * 255) for row in rows] == list(EPS_255)
    assert {int(row["n_attempted"]) + int(row["n_no_baseline"]) for row in rows} == {
        9 * (600 - int(rows[0]["n_skipped"]))
    }
    successes = [int(row["n_success"]) for row in rows]
    assert successes == sorted(successes)
    assert float(rows[0]["bug_fraction"]) > float(rows[-1]["bug_fraction"])
    assert float(rows[0]["bug_fraction_low"]) > float(rows[-1]["bug_fraction_high"])


def test_what_the_quickstart_stored_holds_together(finished):
    """Rows, plans and files agree, and five members are about as accurate as the recipe promises."""
    folder, done = finished
    checked = jsdelta(folder, "db", "check")
    assert (checked.returncode, checked.stdout) == (0, "ok\n")
    stats = jsdelta(folder, "db", "stats", "--format", "csv").stdout
    assert "model,finished,5,\n" in stats
    assert "evaluation,finished,4,\n" in stats
    accuracies = [float(value) for value in re.findall(r"accuracy ([\d.]+)%", done.stderr)]
    assert len(accuracies) == 5
    assert min(accuracies) > 90


def test_quickstart_again_does_no_work(finished):
    """The second time everything is found and the same table comes."""
    folder, done = finished
    again = jsdelta(folder, "quickstart")
    assert (again.returncode, again.stdout) == (0, done.stdout)
    assert "evaluation,finished,4,\n" in jsdelta(folder, "db", "stats", "--format", "csv").stdout
