"""``jsdelta plot``: histogram and samples, and the histogram drawn in text."""

import re
import struct
from xml.etree import ElementTree

import numpy as np
import pytest

from jsdelta_db.plots.text_histogram import text_histogram
from jsdelta_db.store.migrate import upgrade
from tests.cli.calls import call, refused


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
        ("figure.pdf", "ends in '.pdf': must be .png or .svg"),
        ("figure", "ends in nothing: must be .png or .svg"),
        ("missing/figure.png", "does not exist; make it first"),
    ],
)
def test_file_that_can_not_be_drawn_to(name, fragment, tiny, tmp_path, capsys):
    """Another ending or a missing folder is a usage error; nothing is made."""
    refused(capsys, tiny, 2, fragment, "plot", "histogram", "-o", tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_file_that_is_a_folder(tiny, tmp_path, capsys):
    """A figure cannot be written over a folder: one line, no defect."""
    (tmp_path / "figure.png").mkdir()
    refused(capsys, tiny, 2, "figure.png", "plot", "histogram", "-o", tmp_path / "figure.png")


def test_nothing_to_draw_fails(workspace, tmp_path, capsys):
    """A figure of nothing is a failure, and the message says what makes rows."""
    upgrade(workspace.db_url)
    refused(capsys, workspace, 1, "jsdelta attack", "plot", "histogram", "-o", tmp_path / "figure.png")
    assert not (tmp_path / "figure.png").exists()


def test_text_histogram_has_a_row_per_range_and_a_column_per_eps():
    """Shares are of each ε's own samples; a full bar is as wide as its column allows."""
    js_delta = {
        ("linf", 1 / 255, "attack"): np.array([0.0, 0.005, 0.02, 0.07]),
        ("linf", 8 / 255, "attack"): np.array([1.0, 1.7]),
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
    lines = text_histogram({("linf", 1 / 255, "attack"): np.array([])})
    assert all(line.split()[-1] == "0%" for line in lines[1:])


def test_samples_figure(tiny, tmp_path, capsys):
    """A figure of samples has their labels, a verdict each and every evaluator; more samples, more rows."""
    sizes = {}
    for limit in ("1", "3"):
        figure = tmp_path / f"{limit}.png"
        code, out, err = call(capsys, tiny, "plot", "samples", "--limit", limit, "-o", str(figure))
        assert (code, out, err) == (0, f"{figure}\n", "")
        sizes[limit] = struct.unpack(">II", figure.read_bytes()[16:24])
    assert sizes["1"][0] == sizes["3"][0] >= 1000
    assert sizes["3"][1] > sizes["1"][1] + 300
    figure = tmp_path / "figure.svg"
    assert call(capsys, tiny, "plot", "samples", "--limit", "2", "-o", str(figure))[0] == 0
    words = re.findall(r"<!-- (.+?) -->", figure.read_text())
    assert words.count("seed 1") == words.count("seed 2") == 2
    assert "seed 0" not in words  # the attacked one
    assert len([word for word in words if word.endswith("at β = 0.10")]) == 2
    assert any(word.startswith("digits, linf ε = 8/255") for word in words)
    assert any(word.startswith("contrast × ") for word in words)


def shown_js_delta(figure):
    return [float(number) for number in re.findall(r"<!-- JSΔ = (.+?) -->", figure.read_text())]


def test_samples_are_spread_and_filtered(tiny, tmp_path, capsys):
    """Rows go from the lowest JSΔ to the highest; --bugs and --features divide them at their threshold."""
    figure = tmp_path / "figure.svg"
    everything = []
    for option in ([], ["--bugs", "0.5"], ["--features", "0.5"]):
        code, _, err = call(capsys, tiny, "plot", "samples", "--limit", "5", "-o", str(figure), *option)
        assert code == 0, err
        everything.append(shown_js_delta(figure))
    spread, bugs, features = everything
    assert [sorted(values) for values in everything] == everything
    assert spread[0] == bugs[0] < bugs[-1] < 0.5 <= features[0] < features[-1] == spread[-1]


def test_samples_of_one_label(tiny, tmp_path, capsys):
    """--source and --target keep samples of these labels."""
    figure = tmp_path / "figure.svg"
    for option in ("--source", "--target"):
        code, _, err = call(capsys, tiny, "plot", "samples", option, "3", "--limit", "4", "-o", str(figure))
        assert code == 0, err
        pairs = re.findall(
            r"<!-- (\d) -->.*?<!-- image \d+ -->.*?<!-- (\d) -->", figure.read_text(), re.DOTALL
        )
        assert len(pairs) == 4
        assert {labels[option == "--target"] for labels in pairs} == {"3"}


def test_samples_need_neither_model_nor_mlflow(tiny_copy, tmp_path, capsys):
    """All that a figure shows was kept: no checkpoint and no MLflow store is touched."""
    checkpoints = list(tiny_copy.root.rglob("*.pt"))
    assert checkpoints
    for path in (*checkpoints, tiny_copy.root / "mlflow.db"):
        path.unlink()
    figure = tmp_path / "figure.png"
    code, _, err = call(capsys, tiny_copy, "plot", "samples", "-o", str(figure))
    assert (code, err) == (0, "")
    assert figure.is_file()
    assert not (tiny_copy.root / "mlflow.db").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "fragment"),
    [
        (["--bugs", "0.1", "--features", "0.1"], 2, "give one of them"),
        (["--bugs", "many"], 2, "is not a number"),
        (["--features", "-1"], 2, "out of range"),
        (["--source", "cat"], 2, "unknown --source 'cat'; there is: 0, 1"),
        (["--target", "10"], 2, "unknown --target '10'"),
        (["--limit", "0"], 2, "must be a whole number from 1 to 40"),
        (["--attack", "ffffffff"], 2, "unknown attack 'ffffffff'"),
        (["--evaluation", "ffffffff"], 2, "names 0 evaluations"),
        (["--bugs", "1e-12"], 1, "has no such samples"),
        (["-o", "figure.jpg"], 2, "must be .png or .svg"),
    ],
)
def test_samples_bad_input(arguments, code, fragment, tiny, tmp_path, monkeypatch, capsys):
    """Each bad value gets one line that says what is valid; no figure is made."""
    monkeypatch.chdir(tmp_path)
    refused(capsys, tiny, code, fragment, "plot", "samples", *arguments)
    assert list(tmp_path.iterdir()) == []


def test_histograms_name_a_split_that_models_have_seen():
    """In the head of its column and the title of its panel; of the attack split, and of a file, nothing."""
    values = {("linf", 8 / 255, split): np.array([0.5]) for split in ("attack", "baseline", "file", "train")}
    heads = [head.strip() for head in text_histogram(values)[0].split("ε")[1:]]
    assert heads == ["= 8/255", "= 8/255, baseline split", "= 8/255", "= 8/255, train split"]
    titles = [panel.get_title("left") for panel in draw_histogram(values).axes]
    marked = "linf, ε = 8/255, {} split: 1 successful".format
    plain = "linf, ε = 8/255: 1 successful"
    assert titles == [plain, marked("baseline"), plain, marked("train")]
