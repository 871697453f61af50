"""``jsdelta plot histogram`` and the histogram drawn in text."""

import struct
from xml.etree import ElementTree

import numpy as np
import pytest

from jsdelta_db.plots.histogram import text_histogram
from jsdelta_db.store.migrate import upgrade
from tests.cli.test_query import call


def test_png_is_an_image(tiny, tmp_path, capsys):
    """A .png is a PNG of readable size, one panel per ε, and its path is what stdout says."""
    sizes = {}
    for name, arguments in {"one.png": ["--eps", "3"], "two.png": []}.items():
        figure = tmp_path / name
        code, out, _ = call(capsys, tiny, "plot", "histogram", "-o", str(figure), *arguments)
        content = figure.read_bytes()
        assert (code, out) == (0, f"{figure}\n")
        assert content.startswith(b"\x89PNG\r\n\x1a\n")
        sizes[name] = struct.unpack(">II", content[16:24])
    assert sizes["two.png"][0] == sizes["one.png"][0] >= 800
    assert sizes["two.png"][1] > sizes["one.png"][1] >= 300


def test_svg_is_xml_with_the_thresholds(tiny, tmp_path, capsys):
    """A .svg is an image with a line for each --beta asked for."""
    figure = tmp_path / "figure.SVG"
    code, _, _ = call(
        capsys, tiny, "plot", "histogram", "-o", str(figure), "--eps", "8", "--beta", "0.2", "--beta", "0.3"
    )
    assert code == 0
    assert ElementTree.fromstring(figure.read_text()).tag.endswith("}svg")
    comments = figure.read_text()
    assert "below β = 0.2" in comments
    assert "below β = 0.3" in comments
    assert "β = 0.01" not in comments
    assert "ε = 8/255" in comments


def test_the_default_file_is_in_the_current_folder(tiny, tmp_path, monkeypatch, capsys):
    """Without -o the figure is jsdelta-histogram.png where the command was called."""
    monkeypatch.chdir(tmp_path)
    code, out, _ = call(capsys, tiny, "plot", "histogram")
    assert (code, out) == (0, "jsdelta-histogram.png\n")
    assert [path.name for path in tmp_path.iterdir()] == ["jsdelta-histogram.png"]


@pytest.mark.parametrize(
    ("name", "fragment"),
    [
        ("figure.pdf", "ends in '.pdf'; valid is .png or .svg"),
        ("figure", "ends in nothing; valid is .png or .svg"),
        ("missing/figure.png", "does not exist; make it first"),
    ],
)
def test_file_that_can_not_be_drawn_to(name, fragment, tiny, tmp_path, capsys):
    """Another ending or a missing folder is a usage error; nothing is made."""
    code, out, err = call(capsys, tiny, "plot", "histogram", "-o", str(tmp_path / name))
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert fragment in err
    assert list(tmp_path.iterdir()) == []


def test_file_that_is_a_folder(tiny, tmp_path, capsys):
    """A figure can not be written over a folder: one line, no defect."""
    (tmp_path / "figure.png").mkdir()
    code, out, err = call(capsys, tiny, "plot", "histogram", "-o", str(tmp_path / "figure.png"))
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "figure.png" in err
    assert "a defect" not in err


def test_nothing_to_draw_fails(workspace, tmp_path, capsys):
    """A figure of nothing is a failure, and the message says what makes rows."""
    upgrade(workspace.db_url)
    code, out, err = call(capsys, workspace, "plot", "histogram", "-o", str(tmp_path / "figure.png"))
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert "jsdelta attack" in err
    assert not (tmp_path / "figure.png").exists()


def test_text_histogram_has_a_row_per_range_and_a_column_per_eps():
    """Shares are of each ε's own samples; a full bar is as wide as its column allows."""
    js_delta = {
        ("linf", 1 / 255): np.array([0.0, 0.005, 0.02, 0.07]),
        ("linf", 8 / 255): np.array([1.0, 1.7]),
    }
    lines = text_histogram(js_delta)
    shares = {line.split()[0]: [cell for cell in line.split() if cell.endswith("%")] for line in lines[1:]}
    assert lines[0].split() == ["JSΔ", "ε", "=", "1/255", "ε", "=", "8/255"]
    assert list(shares.values()) == [
        ["50%", "0%"], ["25%", "0%"], ["25%", "0%"], *[["0%", "0%"]] * 5, ["0%", "100%"],
    ]  # fmt: skip
    assert list(shares)[:3] == ["0.00–0.01", "0.01–0.05", "0.05–0.10"]
    assert lines[-1].split()[:2] == ["over", "1.00"]
    assert "█" * 19 in lines[-1]
    assert max(map(len, lines)) <= 80


def test_text_histogram_of_an_eps_without_successes():
    """An ε at which nothing succeeded has an empty column."""
    lines = text_histogram({("linf", 1 / 255): np.array([])})
    assert all(line.split()[-1] == "0%" for line in lines[1:])
