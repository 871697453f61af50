"""Samples that another tool made, judged like our own: measured again, not believed."""

import sqlite3
from contextlib import closing

import numpy as np
import pytest

import jsdelta_db
from jsdelta_db.compute import data
from jsdelta_db.compute.models.inference import predict_images
from jsdelta_db.config.evaluation import EvaluationConfig
from jsdelta_db.errors import DataError, JsdeltaError, NothingToDoError, UsageError
from jsdelta_db.maintenance.check import find_problems
from jsdelta_db.maintenance.repair import repair
from jsdelta_db.pipeline.evaluation import foreign
from jsdelta_db.pipeline.evaluation.finished import Extras
from jsdelta_db.pipeline.evaluation.roles import RoleRequest
from jsdelta_db.pipeline.score import score_foreign, score_stored
from jsdelta_db.queries.bugs import query_bugs
from jsdelta_db.queries.selection import Selection
from jsdelta_db.samples.foreign import SampleArrays, check_samples
from jsdelta_db.store.image_keys import unpack_keys
from jsdelta_db.store.reading import reading
from jsdelta_db.store.session import reading_store
from jsdelta_db.workbench.workbench import open_workbench
from tests.reading import (
    ask,
    attack_of,
    chunks_of,
    contents,
    judges_of,
    remove_checkpoints,
    samples_of,
    scores_of,
)
from tests.workspaces import copy_of

N = 40


def score_arrays(
    workspace, arrays, *, library="tool", norm="linf", attacked="first", evaluators=(), **options
):
    """Judge arrays the way ``jsdelta score --samples`` does."""
    with open_workbench(workspace) as bench:
        judged, measured = score_foreign(
            bench,
            lambda dataset: check_samples(SampleArrays(**arrays), dataset, library=library, norm=norm),
            RoleRequest("digits", attacked, evaluators),
            **options,
        )
    return judged, measured


def row_of(workspace, evaluation):
    """Return what the store says of the samples that an evaluation judged."""
    names = (
        "split", "norm", "eps", "steps", "target_rule", "objective", "library", "library_version",
        "n_images", "n_skipped", "n_attempts",
    )  # fmt: skip
    (row,) = ask(
        workspace,
        f"SELECT {', '.join('attack.' + name for name in names)} FROM attack "
        "JOIN evaluation ON evaluation.attack_id = attack.id WHERE evaluation.uid = ?",
        evaluation,
    )
    return dict(zip(names, row, strict=True))


@pytest.fixture(scope="module")
def split(tiny):
    """The digits' attack split."""
    return data.load("digits", tiny.data_dir).splits["attack"]


@pytest.fixture(scope="module")
def ours(tiny, split):
    """The samples of our attack at 8/255 as arrays from elsewhere, and the evaluation that judged them."""
    ((evaluation,),) = ask(
        tiny, "SELECT evaluation.uid FROM evaluation JOIN attack ON attack.id = attack_id WHERE eps > 0.03"
    )
    (chunk,) = chunks_of(tiny, evaluation)
    x = split.batch(split.rows_of(chunk["sample_index"])).numpy()
    x_adv = np.clip(x + chunk["delta"].astype(np.float32), 0, 1)
    label = split.labels.numpy()[split.rows_of(chunk["sample_index"])]
    arrays = {"x": x, "x_adv": x_adv, "label": label, "target_label": chunk["requested_target"]}
    return evaluation, arrays


@pytest.fixture(scope="module")
def given(split, tiny):
    """The first images of the attack split, pushed by whole levels of 8/255 towards nothing special."""
    noise = np.random.default_rng(0).integers(0, 2, (N, 1, 8, 8)).astype(np.float32) * 2 - 1
    x = split.batch(slice(0, N)).numpy()
    label = split.labels.numpy()[:N]
    return {
        "x": x,
        "x_adv": x + noise * np.float32(8 / 255),
        "label": label,
        "target_label": (label + 1) % 10,
    }


def as_uint8(arrays):
    """Save images as bytes, the way image writers do."""
    levels = {name: np.round(arrays[name] * 255).astype(np.uint8) for name in ("x", "x_adv")}
    return {**arrays, **levels}


def check(workspace):
    """Let the store say what is wrong with it."""
    with reading_store(workspace.db_url) as connection:
        return list(find_problems(connection, workspace.root))


@pytest.fixture(scope="module")
def returned(tiny, ours, tmp_path_factory):
    """A store whose own samples came back from elsewhere, in another order; only read."""
    workspace = copy_of(tiny, tmp_path_factory.mktemp("returned") / "workspace")
    order = np.random.default_rng(1).permutation(len(ours[1]["label"]))
    judged, measured = score_arrays(workspace, {name: array[order] for name, array in ours[1].items()})
    return workspace, judged, measured


def test_copies_in_a_file_narrow_no_interval(tiny_copy, ours):
    """Ten copies of each sample in one file are ten times the rows, on the same images: no more is known."""
    for n in (1, 10):
        arrays = {name: np.concatenate([array] * n) for name, array in ours[1].items()}
        score_arrays(tiny_copy, arrays, library=f"copies-{n}")
    with reading(tiny_copy.db_url) as connection:
        rows = query_bugs(connection, [0.1], ("library",), Selection(eps=(8 / 255,))).rows
    one, ten, own = rows
    assert ten["n_success"] == 10 * one["n_success"] == 10 * own["n_success"]
    assert ten["n_images"] == one["n_images"] == own["n_images"]
    width = {row["library"]: row["bug_fraction_high"] - row["bug_fraction_low"] for row in rows}
    assert width["copies-10"] == pytest.approx(width["copies-1"], rel=0.15)
    with reading(tiny_copy.db_url) as connection:
        (pooled,) = query_bugs(connection, [0.1], ("eps",), Selection(eps=(8 / 255,))).rows
    assert pooled["n_images"] == one["n_images"]  # also beside our own attack on these images


@pytest.mark.parametrize("again", ["score", "repair"])
def test_files_of_earlier_versions_get_their_keys(again, tiny_copy, ours):
    """Samples that were stored without keys have them once they are scored again, or by doctor --repair."""
    twice = {name: np.concatenate([array] * 2) for name, array in ours[1].items()}
    judged, _ = score_arrays(tiny_copy, twice)
    stored = "SELECT image_keys FROM attack JOIN evaluation ON attack_id = attack.id WHERE evaluation.uid = ?"
    with closing(sqlite3.connect(tiny_copy.root / "jsdelta.db")) as connection, connection:
        connection.execute("UPDATE attack SET image_keys = NULL")
    if again == "score":
        score_arrays(tiny_copy, twice)
    else:
        with open_workbench(tiny_copy) as bench:
            assert [line for line in repair(bench) if "images" in line]
            assert not [line for line in repair(bench) if "images" in line]
    ((packed,),) = ask(tiny_copy, stored, judged.evaluations[0])
    n = len(ours[1]["label"])
    keys = unpack_keys(packed)
    assert keys[:n].tolist() == keys[n:].tolist()
    assert len(set(keys.tolist())) == n


def test_our_own_samples_come_back_as_they_went(returned, ours, tiny):
    """Samples that leave and return have the same success, sizes and JSΔ, image by image."""
    workspace, judged, _ = returned
    before, after = samples_of(tiny, ours[0]), samples_of(workspace, judged.evaluations[0])
    assert [row[:5] for row in before] == [row[:5] for row in after]
    np.testing.assert_allclose([row[5:] for row in before], [row[5:] for row in after], atol=1e-5)
    pairs = zip(scores_of(tiny, ours[0]), scores_of(workspace, judged.evaluations[0]), strict=True)
    for was, now in pairs:
        assert (was[:2], was[6:9], was[4] is None) == (now[:2], now[6:9], now[4] is None)
        np.testing.assert_allclose(
            [value or 0.0 for value in was[2:6]], [value or 0.0 for value in now[2:6]], atol=1e-4
        )


def test_they_are_entered_as_what_they_are(returned):
    """Split and counts are seen, what nobody said stays unknown; nothing of ours is claimed."""
    workspace, judged, measured = returned
    row = row_of(workspace, judged.evaluations[0])
    assert (row["split"], row["target_rule"], row["objective"]) == ("attack", "given", "unknown")
    assert (row["library"], row["library_version"], row["steps"]) == ("tool", "", 0)
    assert (row["n_skipped"], measured.n_skipped) == (0, 0)
    assert row["n_attempts"] == row["n_images"] == measured.n_attempts
    assert (measured.eps_claimed, measured.success_rate_claimed) == (None, None)
    assert 7.9 / 255 < measured.eps <= 8 / 255
    ((successes,),) = ask(workspace, "SELECT sum(success) FROM sample WHERE attack_id = 3")
    assert measured.success_rate == successes / measured.n_attempts
    assert check(workspace) == []


def test_scored_twice_they_are_found(returned, ours, tmp_path):
    """The same samples in the same order do no work again; the answer is the same."""
    workspace = copy_of(returned[0], tmp_path / "again")
    judged, measured = score_arrays(workspace, ours[1])
    assert judged.worked_on == 1  # in another order they are another file
    before = contents(workspace)
    again, measured_again = score_arrays(workspace, ours[1])
    assert (again.worked_on, again.evaluations, measured_again) == (0, judged.evaluations, measured)
    assert contents(workspace) == before


def test_whole_levels_are_recognised(given, tiny_copy):
    """A size of 8/255 give or take a float's rounding is stored as 8/255, to group with other attacks."""
    judged, measured = score_arrays(tiny_copy, given)
    row = row_of(tiny_copy, judged.evaluations[0])
    assert row["eps"] == 8 / 255
    assert measured.eps == pytest.approx(8 / 255, abs=1e-7)


def test_bytes_are_levels(given, tiny_copy):
    """uint8 images are taken as they were written: with sizes of exactly k/255, and x from the file."""
    arrays = as_uint8(given)
    arrays["x_adv"] = (arrays["x"].astype(int) + np.where(given["x_adv"] > given["x"], 5, -5)).astype(
        np.uint8
    )
    judged, measured = score_arrays(tiny_copy, arrays)
    row = row_of(tiny_copy, judged.evaluations[0])
    assert (row["split"], row["eps"]) == ("file", 5 / 255)  # digits are no whole levels: other images
    assert measured.eps == pytest.approx(5 / 255, abs=1e-7)
    (chunk,) = chunks_of(tiny_copy, judged.evaluations[0])
    assert chunk["x"].tolist() == (arrays["x"][chunk["sample_index"]].astype(np.float32) / 255).tolist()
    shown = chunk["x"] + chunk["delta"]
    np.testing.assert_allclose(shown, arrays["x_adv"][chunk["sample_index"]] / 255, atol=1e-7)
    assert check(tiny_copy) == []


def test_sizes_are_measured_in_the_norm_asked_for(given, tiny_copy):
    """In l2 ε is the largest length, as it is."""
    judged, measured = score_arrays(tiny_copy, given, norm="l2")
    row = row_of(tiny_copy, judged.evaluations[0])
    ((longest,),) = ask(tiny_copy, "SELECT max(l2) FROM sample WHERE attack_id = 3")
    assert (row["norm"], row["eps"]) == ("l2", longest)
    assert measured.eps == longest
    assert longest == pytest.approx(8 * 8 / 255, rel=1e-3)


def test_claims_are_shown_beside_what_was_measured(given, tiny_copy):
    """A tool's eps and success are kept apart from ours, whatever they say."""
    _, measured = score_arrays(
        tiny_copy, {**given, "eps": np.array(4 / 255), "success": np.ones(N, dtype=bool)}
    )
    assert measured.eps == pytest.approx(8 / 255, abs=1e-7)
    assert measured.eps_claimed == 4 / 255
    assert measured.success_rate_claimed == 1.0
    assert measured.success_rate < 1.0


def test_images_that_the_model_has_wrong_are_skipped(split, tiny_copy):
    """They are counted, not judged; claims of success count on the rest alone."""
    ((uri,),) = ask(
        tiny_copy,
        "SELECT uri FROM model_logits JOIN model ON model.id = model_id WHERE seed = 0 AND split = 'attack'",
    )
    wrong = np.load(tiny_copy.root / uri).argmax(1) != split.labels.numpy()
    x, label = split.batch(slice(None)).numpy(), split.labels.numpy()
    arrays = {"x": x, "x_adv": x, "label": label, "target_label": (label + 1) % 10, "success": wrong}
    judged, measured = score_arrays(tiny_copy, arrays)
    assert (measured.n_skipped, measured.n_attempts) == (wrong.sum(), (~wrong).sum())
    assert wrong.sum() > 0
    row = row_of(tiny_copy, judged.evaluations[0])
    assert (row["n_images"], row["n_skipped"]) == (600, wrong.sum())
    judged_indices = {row[0] for row in samples_of(tiny_copy, judged.evaluations[0])}
    assert judged_indices == set(split.index[~wrong].tolist())
    assert measured.success_rate_claimed == 0.0
    # An image that is not changed at all moves nobody; its ε is the stored one, which is above 0.
    assert (measured.eps, measured.success_rate) == (row["eps"], 0.0)
    assert {row[2] for row in scores_of(tiny_copy, judged.evaluations[0])} == {0.0}
    assert 0 < row["eps"] < 1e-5


def test_untargeted_samples_succeed_at_any_wrong_label(ours, tiny_copy):
    """Without targets the label reached counts; the label pair's baseline is that of y and it."""
    arrays = {name: array for name, array in ours[1].items() if name != "target_label"}
    judged, _ = score_arrays(tiny_copy, arrays)
    (chunk,) = chunks_of(tiny_copy, judged.evaluations[0])
    said = dict(zip(chunk["sample_index"].tolist(), chunk["logits"].argmax(1).tolist(), strict=True))
    rows = samples_of(tiny_copy, judged.evaluations[0])
    assert {row[1] for row in rows} == {-1}
    assert all(row[3] != row[2] for row in rows)
    assert [row[4] for row in rows] == [int(said[row[0]] != row[2]) for row in rows]
    assert all(row[3] == said[row[0]] for row in rows if row[4])
    assert sum(row[4] for row in rows) > 0
    assert check(tiny_copy) == []


def test_an_image_twice_towards_one_label_is_two_samples(ours, tiny_copy):
    """Two tries on one image are told apart by their rows; both are judged."""
    arrays = {name: np.concatenate([array, array[:2]]) for name, array in ours[1].items()}
    arrays["x_adv"][-2:] = arrays["x"][-2:]
    judged, measured = score_arrays(tiny_copy, arrays)
    row = row_of(tiny_copy, judged.evaluations[0])
    n = len(arrays["label"])
    assert (row["split"], row["n_attempts"], measured.n_attempts) == ("file", n, n)
    js = {row[0]: row[2] for row in scores_of(tiny_copy, judged.evaluations[0])}
    assert sorted(js) == list(range(n))
    assert (js[n - 2], js[n - 1]) == (0.0, 0.0)
    assert js[0] > 0


def test_library_and_version_are_kept_apart(given, tiny_copy):
    """``torchattacks==3.5.1`` is a library and its version."""
    for library in ("torchattacks==3.5.1", "torchattacks 3.5.1"):
        judged, _ = score_arrays(tiny_copy, given, library=library)
        row = row_of(tiny_copy, judged.evaluations[0])
        assert (row["library"], row["library_version"]) == ("torchattacks", "3.5.1")


@pytest.fixture(scope="module")
def from_file(four, given, tmp_path_factory):
    """The four-member store with samples on images that are nobody's, judged by seeds 1 and 2; only read."""
    workspace = copy_of(four, tmp_path_factory.mktemp("from-file") / "workspace")
    judged, _ = score_arrays(workspace, as_uint8(given), evaluators=["digits:1,2"])
    return workspace, judged.evaluations[0]


def test_images_from_elsewhere_are_judged_again_without_the_file(from_file, four, given, tmp_path):
    """The images are kept beside their samples: others judge them as if they had had the file."""
    workspace, evaluation = from_file
    again, direct = copy_of(workspace, tmp_path / "again"), copy_of(four, tmp_path / "direct")
    with open_workbench(again) as bench:
        judged = score_stored(bench, [attack_of(again, evaluation)], ["four:2,3"])
    others, _ = score_arrays(direct, as_uint8(given), evaluators=["four:2,3"])
    assert (judged.worked_on, judges_of(again, judged.evaluations[0])) == (1, [2, 3])
    assert scores_of(again, judged.evaluations[0]) == scores_of(direct, others.evaluations[0])
    assert samples_of(again, judged.evaluations[0]) == samples_of(direct, others.evaluations[0])
    assert check(again) == []


def test_images_from_elsewhere_need_no_network_again(from_file, tmp_path):
    """What the evaluators said of x and x_adv is kept: other temperatures need no checkpoint."""
    workspace = copy_of(from_file[0], tmp_path / "workspace")
    remove_checkpoints(workspace)
    with open_workbench(workspace) as bench:
        judged = score_stored(bench, [attack_of(workspace, from_file[1])], (), rules=EvaluationConfig("fit"))
    plain, warm = scores_of(workspace, from_file[1]), scores_of(workspace, judged.evaluations[0])
    assert [row[5:9] for row in plain] == [row[5:9] for row in warm]
    assert [row[2] for row in plain] != [row[2] for row in warm]


def test_stability_and_controls_of_samples_from_elsewhere(from_file, given, tmp_path):
    """What is looked at beside JSΔ works on samples without steps and on images that are nobody's."""
    workspace = copy_of(from_file[0], tmp_path / "workspace")
    judged, measured = score_arrays(
        workspace, as_uint8(given), evaluators=["digits:1,2"], extras=Extras(controls=False, stability=True)
    )
    assert judged.worked_on == 0
    ((known, successes),) = ask(
        workspace, "SELECT count(stability), sum(success) FROM sample WHERE attack_id = 4"
    )
    assert known == successes == round(measured.success_rate * measured.n_attempts)


# ---- what is refused


def refused(workspace, error, message, arrays, **options):
    """Check that nothing is written when arrays are refused."""
    before = contents(workspace)
    with pytest.raises(error, match=message) as raised:
        score_arrays(workspace, arrays, **options)
    assert "\n" not in str(raised.value)
    assert contents(workspace) == before


def test_what_is_refused_leaves_the_store_alone(given, tiny_copy):
    """Arrays, names and parts that do not fit: one line each, and no row, run or file."""
    refused(tiny_copy, DataError, "different lengths", {**given, "label": given["label"][:-1]})
    refused(tiny_copy, JsdeltaError, "aimed at the same", {**given, "target_label": given["label"]})
    refused(tiny_copy, DataError, r"must be \[0, 1\]", {**given, "x_adv": given["x_adv"] + 1})
    refused(tiny_copy, UsageError, "names 3 models; samples are made against one", given, attacked="all")
    refused(tiny_copy, UsageError, "--attacked '9' is no model", given, attacked="9")
    refused(tiny_copy, UsageError, "among the evaluators", given, evaluators=["digits"])
    refused(tiny_copy, UsageError, "--norm 'l7' is not valid", given, norm="l7")


def test_labels_that_the_model_never_says_are_refused(given, tiny_copy):
    """If every image counts as wrong, the labels are probably not the images'."""
    label = (given["label"] + 5) % 10
    refused(
        tiny_copy, NothingToDoError, "seed 0 calls none of 40 images by their label; are the labels",
        {**given, "label": label, "target_label": (label + 1) % 10},
    )  # fmt: skip


# ---- from Python


def test_judge_answers_row_by_row(ours, tiny, tiny_copy):
    """``jsdelta_db.judge`` gives row i what the store says of sample i, in the order given."""
    order = np.random.default_rng(2).permutation(len(ours[1]["label"]))
    arrays = {name: array[order] for name, array in ours[1].items()}
    verdict = jsdelta_db.judge(**arrays, workspace=tiny_copy.root, library="tool==1")
    stored = {row[0]: row for row in scores_of(tiny, ours[0])}
    success = {row[0]: bool(row[4]) for row in samples_of(tiny, ours[0])}
    (chunk,) = chunks_of(tiny, ours[0])
    index = chunk["sample_index"][order].tolist()
    assert verdict.was_right.all()
    assert verdict.success.tolist() == [success[i] for i in index]
    expected = [np.nan if stored[i][4] is None else stored[i][4] for i in index]
    np.testing.assert_allclose(verdict.js_delta, expected, atol=1e-4)
    bugs = verdict.success & (np.array(expected) < 0.1)
    assert verdict.is_bug().tolist() == bugs.tolist()
    assert verdict.bug_fraction() == bugs.sum() / (verdict.success & ~np.isnan(expected)).sum()
    assert verdict.is_bug(1e9).sum() > verdict.is_bug(1e-9).sum()
    with pytest.raises(UsageError, match="= 0 is out of range: must be a number above 0"):
        verdict.is_bug(0.0)


def test_judge_takes_arrays_of_other_layouts_without_a_word(ours, tiny_copy):
    """Channels last, float64 and one-hot labels are the same samples; who hands them over knows what they are."""
    arrays = {name: array[:20] for name, array in ours[1].items()}
    plain = jsdelta_db.judge(**arrays, workspace=tiny_copy.root, library="tool==1")
    other = jsdelta_db.judge(
        *(arrays[name].astype(np.float64).transpose(0, 2, 3, 1) for name in ("x", "x_adv")),
        *(np.eye(10)[arrays[name]] for name in ("label", "target_label")),
        workspace=tiny_copy.root, library="tool==2",
    )  # fmt: skip
    assert other.success.tolist() == plain.success.tolist()
    np.testing.assert_array_equal(other.js_delta, plain.js_delta)


def test_judge_says_what_was_skipped(split, tiny_copy):
    """An image that the model has wrong has no JSΔ and is no bug; untargeted needs no labels aimed at."""
    x, label = split.batch(slice(None)).numpy(), split.labels.numpy()
    before = x.copy()
    with pytest.warns(UserWarning, match="x_adv is x: nothing was changed"):
        verdict = jsdelta_db.judge(x, x, label, workspace=tiny_copy.root, attacked=1)
    assert verdict.measured.n_skipped == (~verdict.was_right).sum() > 0
    assert np.isnan(verdict.js_delta[~verdict.was_right]).all()
    assert not verdict.success.any()
    assert not verdict.is_bug().any()
    assert np.isnan(verdict.bug_fraction())
    np.testing.assert_array_equal(x, before)
    assert judges_of(tiny_copy, verdict.evaluation) == [0, 2]


def test_success_is_checked_on_what_is_stored(given, tiny_copy, monkeypatch):
    """The attacked model is asked about x + δ as it is kept and scored, not about a rounding away from it."""
    seen = []

    def watched(networks, images, *given):
        seen.extend(image.numpy().tobytes() for image in images)
        return predict_images(networks, images, *given)

    monkeypatch.setattr(foreign, "predict_images", watched)
    nearly_black = np.random.default_rng(3).random(given["x"].shape, dtype=np.float32) * np.float32(1e-3)
    judged, _ = score_arrays(tiny_copy, {**given, "x_adv": nearly_black})  # x + (x_adv − x) is not x_adv
    (chunk,) = chunks_of(tiny_copy, judged.evaluations[0])
    digits = data.load("digits", tiny_copy.data_dir).splits["attack"]
    x = digits.batch(digits.rows_of(chunk["sample_index"])).numpy()
    stored = np.clip(x + chunk["delta"], 0, 1)
    assert stored.dtype == np.float32
    assert [image.tobytes() in seen for image in stored] == [True] * len(stored)
