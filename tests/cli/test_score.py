"""``jsdelta score``: stored samples and samples from elsewhere, in process."""

import numpy as np
import pytest
import torch

from jsdelta_db.compute import data
from tests.cli.calls import call, parse_table, refused
from tests.reading import ask, contents, judges_of, last_evaluation, scores_of
from tests.samples.foreign.pngs import write_folder


def attack_uid(workspace, level=8):
    """Return the uid of an attack of the tiny store."""
    ((uid,),) = ask(
        workspace, "SELECT uid FROM attack WHERE abs(eps - ?) < 1e-9 AND images = 60", level / 255
    )
    return uid


@pytest.fixture
def samples(tiny, tmp_path):
    """A file of samples: 30 images of the attack split, 4 levels away, with what the tool claims."""
    split = data.load("digits", tiny.data_dir).splits["attack"]
    x, label = split.batch(slice(0, 30)).numpy(), split.labels.numpy()[:30]
    path = tmp_path / "samples.npz"
    noise = np.random.default_rng(0).integers(0, 2, x.shape).astype(np.float32) * 2 - 1
    np.savez(
        path, x=x, x_adv=x + noise * np.float32(4 / 255), label=label, target_label=(label + 1) % 10,
        eps=3 / 255, success=np.ones(30, dtype=bool),
    )  # fmt: skip
    return path


def test_stored_samples_are_judged_by_others(tiny_copy, capsys):
    """--attack UID --evaluators SET prints the bug table of the new judgement; a second call finds it."""
    command = ["score", "--attack", attack_uid(tiny_copy)[:8], "--evaluators", "digits:2,1"]
    code, out, err = call(capsys, tiny_copy, *command)
    assert code == 0, err
    assert [row["eps"] for row in parse_table(out)] == ["8/255"] * 3
    assert "nothing was done again" not in err
    assert judges_of(tiny_copy, last_evaluation(tiny_copy)) == [2, 1]
    code, again, err = call(capsys, tiny_copy, *command)
    assert (code, again) == (0, out)
    assert "these evaluations were finished before; nothing was done again" in err


def test_attack_is_repeatable_and_temperature_is_a_rule(tiny_copy, capsys):
    """Two attacks in one call, by fitted temperatures: one new judgement each."""
    uids = [attack_uid(tiny_copy, level) for level in (3, 8)]
    code, _, err = call(
        capsys, tiny_copy, "score", "--attack", uids[0], "--attack", uids[1], "--temperature", "fit"
    )
    assert code == 0, err
    assert ask(tiny_copy, "SELECT temperature_rule FROM evaluation ORDER BY id") == [
        ("1",), ("1",), ("fit",), ("fit",),
    ]  # fmt: skip


def test_samples_from_elsewhere_are_judged(tiny_copy, samples, capsys):
    """What was measured is said beside what the file claims; the samples are in the bug table."""
    code, out, err = call(
        capsys, tiny_copy, "score", "--samples", str(samples), "--ensemble", "digits", "--attacked", "1",
        "--library", "toolbox==2.0",
    )  # fmt: skip
    assert code == 0, err
    assert [row["eps"] for row in parse_table(out)] == ["4/255"] * 3
    ((skipped, attempts),) = ask(tiny_copy, "SELECT n_skipped, n_attempts FROM attack WHERE id = 3")
    assert "eps: 4/255 measured, 3/255 claimed" in err
    assert f"measured, 100.0% claimed; {skipped} images skipped that the model already misclassifies" in err
    assert skipped + attempts == 30
    assert ask(tiny_copy, "SELECT library, library_version FROM attack WHERE id = 3") == [("toolbox", "2.0")]
    assert judges_of(tiny_copy, last_evaluation(tiny_copy)) == [0, 2]


def test_nothing_claimed_is_said_so(tiny_copy, samples, capsys):
    """A file without claims is measured all the same; in l2 too."""
    with np.load(samples) as arrays:
        np.savez(samples, **{name: arrays[name] for name in ("x", "x_adv", "label")})
    code, _, err = call(capsys, tiny_copy, "score", "--samples", str(samples), "--norm", "l2")
    assert code == 0, err
    assert err.count("not claimed") == 2
    ((eps, targets),) = ask(
        tiny_copy,
        "SELECT eps, requested_target FROM attack JOIN sample ON attack_id = attack.id WHERE attack.id = 3 LIMIT 1",
    )
    assert f"eps: {eps:g} measured" in err
    assert targets == -1


@pytest.fixture
def levels(samples):
    """The samples as image writers leave them: whole pixel levels."""
    with np.load(samples) as arrays:
        given = {name: arrays[name] for name in ("x", "x_adv", "label", "target_label")}
    return {**given, **{name: np.round(given[name] * 255).astype(np.uint8) for name in ("x", "x_adv")}}


def test_one_set_of_images_has_one_set_of_scores_in_every_form(tiny_copy, levels, tmp_path, capsys):
    """.npz, torchattacks' .pt, a folder of PNGs and normalized floats of the same pixels are judged alike."""
    mean, std = np.float32(0.4757), np.float32(0.0470)  # of the digits
    normalized = {name: (levels[name] / np.float32(255) - mean) / std for name in ("x", "x_adv")}
    np.savez(tmp_path / "bytes.npz", **levels)
    np.savez(tmp_path / "normalized.npz", **{**levels, **normalized})
    torch.save(
        {
            "clean_inputs": torch.from_numpy(levels["x"]), "adv_inputs": torch.from_numpy(levels["x_adv"]),
            "labels": torch.from_numpy(levels["label"]), "save_type": "int",
            "target_label": torch.from_numpy(levels["target_label"]),
        },
        tmp_path / "attack.pt",
    )  # fmt: skip
    write_folder(tmp_path / "folder", levels)
    found = []
    for form, options, told in (
        ("bytes.npz", [], ""),
        ("attack.pt", [], "clean_inputs as x, adv_inputs as x_adv, labels as label"),
        ("folder", [], "30 pairs of PNGs in clean/ and adv/"),
        ("normalized.npz", ["--mean", "dataset", "--std", "0.047"], "x and x_adv: the normalization undone"),
    ):
        code, _, err = call(
            capsys, tiny_copy, "score", "--samples", str(tmp_path / form), "--library", form, *options
        )
        assert code == 0, err
        assert "nothing was done again" not in err
        assert sum(told in line for line in err.splitlines()) == (1 if told else len(err.splitlines()))
        found.append(scores_of(tiny_copy, last_evaluation(tiny_copy)))
    assert len(found[0]) > 20
    assert found[1:] == found[:1] * 3


BAD_FILES = {
    "lengths": ({"label": lambda label: label[:-1]}, 1, "different lengths"),
    "normalized": ({"x": lambda x: x * 20 - 10}, 1, "they look normalized: give the --mean and --std"),
    "its own label": ({"target_label": lambda target: (target - 1) % 10}, 1, "is aimed at the same"),
    "range": ({"x_adv": lambda x: x + 1}, 1, "must be [0, 1]"),
    "bytes and floats": ({"x": lambda x: (x * 255).astype(np.uint8)}, 1, "x is uint8 and x_adv is float32"),
    "NaN": ({"x": lambda x: x * np.nan}, 1, "x of sample 0 holds values that are not finite"),
    "pickle": ({"label": lambda label: np.array([object()] * len(label))}, 1, "holds pickled objects"),
    "all wrong": (
        {"label": lambda label: (label + 5) % 10, "target_label": lambda target: (target + 6) % 10}, 1,
        "calls none of 30 images by their label",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "code", "fragment"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_is_one_line_and_nothing_is_written(change, code, fragment, tiny_copy, samples, capsys):
    """Each slip in a file is one line on stderr, exit 1, and leaves store and folders alone."""
    with np.load(samples) as arrays:
        np.savez(samples, **{name: change.get(name, np.asarray)(arrays[name]) for name in arrays.files})
    before = contents(tiny_copy)
    refused(capsys, tiny_copy, code, fragment, "score", "--samples", samples)
    assert contents(tiny_copy) == before


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        (["--norm", "l1"], "--norm 'l1' is not valid: must be linf or l2"),
        (["--mean", "half"], "--mean 'half' is not valid: must be numbers such as 0.5"),
        (["--std", "0.1,0.2"], "--std has 2 values: must be 1"),
        (["--attacked", "all"], "--attacked 'all' names 3 models; samples are made against one"),
        (["--attacked", "9"], "--attacked '9' is no model or ensemble"),
        (["--ensemble", "nope"], "unknown ensemble 'nope'; there is: digits"),
        (["--evaluators", "digits"], "is among the evaluators; a fooled model must not judge itself"),
    ],
)
def test_bad_options_for_a_file(options, fragment, tiny_copy, samples, capsys):
    """A name or norm that is not must be one line, exit 2, and nothing is written."""
    before = contents(tiny_copy)
    refused(capsys, tiny_copy, 2, fragment, "score", "--samples", samples, *options)
    assert contents(tiny_copy) == before


@pytest.mark.parametrize(
    "option",
    [
        ["--ensemble", "digits"],
        ["--attacked", "1"],
        ["--library", "toolbox"],
        ["--norm", "l2"],
        ["--mean", "0.5"],
        ["--std", "dataset"],
    ],
    ids=" ".join,
)
def test_options_for_a_file_are_refused_with_stored_samples(option, tiny_copy, capsys):
    """An option that would be passed over is refused: --ensemble is not --evaluators."""
    before = contents(tiny_copy)
    refused(capsys, tiny_copy, 2, option[0], "score", "--attack", attack_uid(tiny_copy), *option)
    assert contents(tiny_copy) == before


def test_without_a_store_nothing_is_made(tmp_path, samples, capsys):
    """Samples need an ensemble to judge them: exit 3, and no folder."""
    for given in (["--samples", str(samples)], ["--attack", "abcd"]):
        refused(capsys, tmp_path / "none", 3, "jsdelta train", "score", *given)
    assert not (tmp_path / "none").exists()


def test_stability_is_measured_where_asked(tiny_copy, capsys):
    """--stability fills the column of stored samples' successes."""
    code, _, err = call(capsys, tiny_copy, "score", "--attack", attack_uid(tiny_copy), "--stability")
    assert code == 0, err
    assert ask(
        tiny_copy,
        "SELECT count(*) FROM sample WHERE (stability IS NOT NULL) <> (success = 1 AND attack_id = 2)",
    ) == [(0,)]
