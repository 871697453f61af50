"""``jsdelta plot``: histogram and samples, and the histogram drawn in text."""

import json
import re
import struct
from xml.etree import ElementTree

import numpy as np
import pytest

from jsdelta_db.plots.panels import divide
from jsdelta_db.plots.text_histogram import text_histogram
from jsdelta_db.queries.grouping import Table
from jsdelta_db.store.migrate import upgrade
from tests.cli.calls import call, query_json, refused, words


def test_png_is_an_image(tiny, tmp_path, capsys):
    """A .png is a PNG as wide as was asked for, and its path is what stdout says."""
    sizes = {}
    for width in ("column", "page"):
        figure = tmp_path / f"{width}.png"
        code, out, _ = call(capsys, tiny, "plot", "histogram", "-o", str(figure), "--width", width)
        content = figure.read_bytes()
        assert (code, out) == (0, f"{figure}\n")
        assert content.startswith(b"\x89PNG\r\n\x1a\n")
        sizes[width] = struct.unpack(">II", content[16:24])
    assert [size[0] for size in sizes.values()] == pytest.approx([8 / 2.54 * 300, 17 / 2.54 * 300], abs=1)
    assert min(size[1] for size in sizes.values()) >= 300


def test_svg_is_xml_with_the_thresholds(tiny, tmp_path, capsys):
    """A .svg is an image with a line for each --beta asked for, and says what was attacked."""
    figure = tmp_path / "figure.SVG"
    code, _, _ = call(
        capsys, tiny, "plot", "histogram", "-o", str(figure), "--eps", "8", "--beta", "0.2", "--beta", "0.3"
    )
    assert code == 0
    assert ElementTree.fromstring(figure.read_text()).tag.endswith("}svg")
    comments = figure.read_text()
    for part in (
        "below β = 0.2",
        "below β = 0.3",
        "ε = 8/255",
        "linf PGD, 10 steps",
        "digits · 1 cnn-small",
    ):
        assert part in comments
    assert "β = 0.01" not in comments


@pytest.mark.parametrize("kind", ["ecdf", "curve", "sweep", "pairs", "agreement"])
def test_each_figure_with_its_numbers(kind, tiny, tmp_path, capsys):
    """Each kind is drawn, with a title, and writes the numbers that it shows beside it."""
    figure, numbers = tmp_path / "figure.svg", tmp_path / "numbers.json"
    arguments = ["-o", str(figure), "--data", str(numbers), "--title", "My $own$"]
    code, out, err = call(capsys, tiny, "plot", kind, *arguments)
    assert (code, out) == (0, f"{figure}\n{numbers}\n"), err
    assert "My $own$" in figure.read_text()
    rows = json.loads(numbers.read_text())
    keys = {
        "ecdf": {"eps", "js_delta", "share_below"}, "curve": {"eps", "beta", "bug_fraction"},
        "sweep": {"eps", "beta", "bug_fraction", "bug_rate_low"}, "agreement": {"model", "other", "agreement"},
        "pairs": {"eps", "source_label", "target_label", "bug_fraction_high"},
    }  # fmt: skip
    assert keys[kind] <= set(rows[0])
    refused(capsys, tiny, 2, "exists; add --force", "plot", kind, *arguments)
    assert call(capsys, tiny, "plot", kind, *arguments, "--force")[0] == 0


def test_numbers_are_those_of_the_question(tiny, tmp_path, capsys):
    """A figure's numbers are the rows of the query it draws."""
    numbers = tmp_path / "numbers.json"
    code, _, err = call(
        capsys, tiny, "plot", "sweep", "--beta", "0.2", "-o", str(tmp_path / "s.pdf"), "--data", str(numbers)
    )
    assert code == 0, err
    rows, _ = query_json(capsys, tiny, "bugs", "--beta", "0.2", "--by", "eps,norm")
    shown = ("eps", "n_success", "n_bugs", "bug_fraction", "bug_fraction_low", "bug_fraction_high")
    found = json.loads(numbers.read_text())
    assert [[row[key] for key in shown] for row in found] == [[row[key] for key in shown] for row in rows]


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["ecdf", "--width", "huge"], "'huge' is not a width: must be column"),
        (["ecdf", "--data", "numbers.xlsx"], "must be .csv or .json"),
        (["sweep", "--over", "method"], "which is no number"),
        (["sweep", "--quantity", "share"], "share"),
        (["curve", "--by", "colour"], "colour"),
        (["pairs", "--by", "label-pair"], "leave it out"),
        (["agreement", "--ensemble", "nobodys"], "nobodys"),
    ],
    ids=words,
)
def test_figures_bad_input(arguments, fragment, tiny, tmp_path, monkeypatch, capsys):
    """Each bad value gets one line that says what is valid; no figure is made."""
    monkeypatch.chdir(tmp_path)
    refused(capsys, tiny, 2, fragment, "plot", *arguments)
    assert list(tmp_path.iterdir()) == []


def test_the_default_file_is_in_the_current_folder(tiny, tmp_path, monkeypatch, capsys):
    """Without -o the figure is jsdelta-histogram.png where the command was called."""
    monkeypatch.chdir(tmp_path)
    code, out, _ = call(capsys, tiny, "plot", "histogram")
    assert (code, out) == (0, "jsdelta-histogram.png\n")
    assert [path.name for path in tmp_path.iterdir()] == ["jsdelta-histogram.png"]


@pytest.mark.parametrize(
    ("name", "fragment"),
    [
        ("figure.jpg", "ends in '.jpg': must be .png, .svg or .pdf"),
        ("figure", "ends in nothing: must be .png, .svg or .pdf"),
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
        code, _, err = call(
            capsys, tiny, "plot", "samples", "--limit", "5", "-o", str(figure), "--force", *option
        )
        assert code == 0, err
        everything.append(shown_js_delta(figure))
    spread, bugs, features = everything
    assert [sorted(values) for values in everything] == everything
    assert spread[0] == bugs[0] < bugs[-1] < 0.5 <= features[0] < features[-1] == spread[-1]


def test_samples_of_one_label(tiny, tmp_path, capsys):
    """--source and --target keep samples of these labels."""
    figure = tmp_path / "figure.svg"
    for option in ("--source", "--target"):
        code, _, err = call(
            capsys, tiny, "plot", "samples", option, "3", "--limit", "4", "-o", str(figure), "--force"
        )
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
        (["-o", "figure.jpg"], 2, "must be .png, .svg or .pdf"),
    ],
)
def test_samples_bad_input(arguments, code, fragment, tiny, tmp_path, monkeypatch, capsys):
    """Each bad value gets one line that says what is valid; no figure is made."""
    monkeypatch.chdir(tmp_path)
    refused(capsys, tiny, code, fragment, "plot", "samples", *arguments)
    assert list(tmp_path.iterdir()) == []


def test_histograms_name_a_split_that_models_have_seen():
    """In the head of its column of text, and beside a figure's panels; of the attack split, and of a file, nothing."""
    values = {("linf", 8 / 255, split): np.array([0.5]) for split in ("attack", "baseline", "file", "train")}
    heads = [head.strip() for head in text_histogram(values)[0].split("ε")[1:]]
    assert heads == ["= 8/255", "= 8/255, baseline split", "= 8/255", "= 8/255, train split"]
    rows = [{"split": split, "norm": "linf", "eps": 8 / 255} for split in ("train", "baseline")]
    panels = divide(Table(("split", "norm", "eps"), rows, {}, "linf"))
    assert [line[0].side for line in panels] == ["baseline split", "train split"]
