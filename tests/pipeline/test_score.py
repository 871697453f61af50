"""Samples that are stored, judged again: by other evaluators, or by other rules without a model."""

import numpy as np
import pytest

from jsdelta_db.compute import data
from jsdelta_db.compute.metrics import fit_temperature
from jsdelta_db.config.evaluation import EvaluationConfig
from jsdelta_db.errors import NothingToDoError, UsageError
from jsdelta_db.maintenance.check import find_problems
from jsdelta_db.pipeline.attack import attack_and_score
from jsdelta_db.pipeline.evaluation import sources
from jsdelta_db.pipeline.evaluation.finished import Extras
from jsdelta_db.pipeline.evaluation.roles import RoleRequest
from jsdelta_db.pipeline.score import score_stored
from jsdelta_db.store.session import reading_store
from jsdelta_db.workbench.models import LoadedModel
from jsdelta_db.workbench.workbench import open_workbench
from tests.reading import (
    ask,
    attack_of,
    contents,
    hashes_of,
    judges_of,
    last_evaluation,
    remove_checkpoints,
    samples_of,
    scores_of,
    tell,
)
from tests.workspaces import copy_of, tiny_attacks

FIT = EvaluationConfig("fit")


def rescore(workspace, evaluators=(), attack=None, **options):
    """Judge the samples of the newest evaluation again."""
    uid = attack or attack_of(workspace, last_evaluation(workspace))
    with open_workbench(workspace) as bench:
        return score_stored(bench, [uid], evaluators, **options)


def check(workspace):
    """Let the store say what is wrong with it."""
    with reading_store(workspace.db_url) as connection:
        return list(find_problems(connection, workspace.root))


@pytest.fixture(scope="module")
def rescored(four, tmp_path_factory):
    """The four-member store, its samples judged again by seeds 1 and 2; only read. With both uids."""
    workspace = copy_of(four, tmp_path_factory.mktemp("rescored") / "workspace")
    first = last_evaluation(workspace)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "find_perturbations", None)  # nothing is attacked
        judged = rescore(workspace, ["four:1,2"])
    assert judged.worked_on == 1
    return workspace, first, judged.evaluations[0]


def test_fewer_evaluators_give_what_an_attack_with_them_gives(rescored, tiny, tmp_path):
    """Scores and files of a subset are byte for byte those of an attack that had only these evaluators."""
    workspace, _, uid = rescored
    direct = copy_of(tiny, tmp_path / "direct")
    with open_workbench(direct, chunk_size=16) as bench:
        (other,) = attack_and_score(
            bench, tiny_attacks(8, images=40), RoleRequest(evaluators=["1,2"])
        ).evaluations
    assert len(hashes_of(workspace, uid)) == 3
    assert samples_of(workspace, uid) == samples_of(direct, other)
    assert scores_of(workspace, uid) == scores_of(direct, other)
    assert hashes_of(workspace, uid) == hashes_of(direct, other)


def test_each_evaluators_own_numbers_do_not_depend_on_the_others(rescored):
    """For the ablation over N: the columns of a subset are columns of the whole set."""
    workspace, first, uid = rescored
    assert (judges_of(workspace, first), judges_of(workspace, uid)) == ([1, 2, 3], [1, 2])
    whole, part = (
        np.array([np.frombuffer(row[-1], "<f4") for row in scores_of(workspace, each)])
        for each in (first, uid)
    )
    assert part.tolist() == whole[:, :2].tolist()


def test_js_delta_of_a_subset_has_the_subsets_baseline(rescored):
    """JSΔ is the members' mean divergence over the mean of the members' own ρ for the label pair."""
    workspace, _, uid = rescored
    rho = {
        (low, high): mean
        for low, high, mean in ask(
            workspace,
            "SELECT label_low, label_high, avg(rho) FROM rho_baseline JOIN model ON model.id = model_id "
            "WHERE seed IN (1, 2) AND temperature_rule = '1' GROUP BY label_low, label_high",
        )
    }
    samples = samples_of(workspace, uid)
    defined = 0
    for sample, score in zip(samples, scores_of(workspace, uid), strict=True):
        pair = tuple(sorted((sample[2], sample[3])))
        js, js_delta = score[2], score[4]
        if js_delta is not None:
            assert js_delta == pytest.approx(js / rho[pair], rel=1e-12)
            defined += 1
    assert defined > 20


def test_the_store_is_sound_and_no_sample_was_added(rescored, four):
    """Judging again makes one evaluation and its scores: no attack, no sample."""
    workspace, _, _ = rescored
    for table, added in (("attack", 0), ("sample", 0), ("evaluation", 1)):
        before, after = (ask(each, f"SELECT count(*) FROM {table}")[0][0] for each in (four, workspace))
        assert after - before == added, table
    assert check(workspace) == []


def test_judged_so_before_is_found(rescored, tmp_path):
    """The same evaluators and rules again do no work, whatever they are called by."""
    workspace, _, uid = rescored
    again = copy_of(workspace, tmp_path / "again")
    ((second,),) = ask(again, "SELECT uid FROM model WHERE seed = 2")
    before = contents(again)
    judged = rescore(again, ["four:1,2"])
    assert (judged.worked_on, judged.evaluations) == (0, [uid])
    assert contents(again) == before
    judged = rescore(again, ["four:1", second])
    assert judged.worked_on == 1  # not an ensemble's subset but a set put together: told apart
    assert scores_of(again, judged.evaluations[0]) == scores_of(again, uid)


def test_without_evaluators_the_first_ones_judge_again(four_copy):
    """The default evaluators are those of the first evaluation: by the same rules they are finished."""
    first = last_evaluation(four_copy)
    judged = rescore(four_copy)
    assert (judged.worked_on, judged.evaluations) == (0, [first])


@pytest.fixture(scope="module")
def fitted(four, tmp_path_factory):
    """The store judged again at fitted temperatures, every checkpoint gone; and the evaluation's uid."""
    workspace = copy_of(four, tmp_path_factory.mktemp("fitted") / "workspace")
    remove_checkpoints(workspace)
    return workspace, rescore(workspace, rules=FIT).evaluations[0]


def test_temperatures_are_fitted_from_kept_logits_alone(fitted, four, tmp_path):
    """Without a checkpoint, the scores are byte for byte those that the networks give."""
    workspace, uid = fitted
    other = copy_of(four, tmp_path / "with-networks")
    with open_workbench(other) as bench:
        (direct,) = attack_and_score(
            bench, tiny_attacks(8, images=40), RoleRequest(ensemble="four"), rules=FIT
        ).evaluations
    assert scores_of(workspace, uid) == scores_of(other, direct)
    assert hashes_of(workspace, uid) == hashes_of(other, direct)
    assert check(other) == []


def test_temperatures_are_the_likeliest_on_the_baseline_split(fitted, four):
    """Each evaluator's T is stored, is its own, and changes JSΔ; the attacked model's divergence stays."""
    workspace, uid = fitted
    labels = data.load("digits", workspace.data_dir).splits["baseline"].labels.numpy()
    rows = ask(
        workspace,
        "SELECT temperature, model_logits.uri FROM evaluation_member "
        "JOIN evaluation ON evaluation.id = evaluation_id "
        "JOIN model_logits ON model_logits.model_id = evaluation_member.model_id AND split = 'baseline' "
        "WHERE evaluation.uid = ? ORDER BY position",
        uid,
    )
    expected = [fit_temperature(np.load(workspace.root / uri), labels) for _, uri in rows]
    assert [temperature for temperature, _ in rows] == expected
    assert len(set(expected)) == 3
    plain, warm = scores_of(four, last_evaluation(four)), scores_of(workspace, uid)
    assert [row[5:9] for row in plain] == [row[5:9] for row in warm]
    assert all(before[2] != after[2] for before, after in zip(plain, warm, strict=True))


def test_a_subset_needs_no_network_either(four_copy):
    """Whoever has seen the samples is not asked again: a subset is scored with no checkpoint there."""
    remove_checkpoints(four_copy)
    judged = rescore(four_copy, ["four:3,2"])
    assert judges_of(four_copy, judged.evaluations[0]) == [3, 2]


def test_kept_logits_that_are_altered_are_asked_for_again(rescored, four_copy):
    """A file that is not what was recorded is not believed: the network says it again, the same."""
    workspace, _, uid = rescored
    uri = ask(four_copy, "SELECT uri FROM evaluation_chunk ORDER BY evaluation_id DESC, position LIMIT 1")[0][
        0
    ]
    path = four_copy.root / uri
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    judged = rescore(four_copy, ["four:1,2"])
    assert scores_of(four_copy, judged.evaluations[0]) == scores_of(workspace, uid)


def test_several_attacks_are_judged_in_one_call(four_copy):
    """Every attack given gets its evaluation, in that order."""
    uids = [uid for (uid,) in ask(four_copy, "SELECT uid FROM attack ORDER BY id")]
    with open_workbench(four_copy) as bench:
        judged = score_stored(bench, uids[1:], ["four:3,1"])
    assert [attack_of(four_copy, each) for each in judged.evaluations] == uids[1:]
    assert judged.worked_on == 2


def test_an_attack_given_twice_is_judged_once(four_copy):
    """The same attack by two prefixes of its uid is one piece of work, and one run."""
    uid = attack_of(four_copy, last_evaluation(four_copy))
    with open_workbench(four_copy) as bench:
        judged = score_stored(bench, [uid, uid[:8]], ["four:3,1"])
    assert (judged.worked_on, judged.evaluations) == (1, [last_evaluation(four_copy)])


@pytest.mark.parametrize(
    ("evaluators", "attack", "error", "message"),
    [
        (["four"], None, UsageError, r"attacked model \(seed 0, .*\) is among the evaluators"),
        (["four:0,1"], None, UsageError, "attacked model .* is among the evaluators"),
        (["four:1"], None, UsageError, "--evaluators names 1 model: must be 2 or more"),
        (["four:1", "digits:1"], None, UsageError, "--evaluators names 1 model"),
        (["four:9"], None, UsageError, "'9' names no members of 'four'"),
        (["nope"], None, UsageError, "'nope' is no model or ensemble"),
        ([], "nope", UsageError, "unknown attack 'nope'; there is: "),
    ],
)
def test_who_may_not_judge_is_refused_before_a_row_is_made(evaluators, attack, error, message, four_copy):
    """The attacked model, one model alone or an unknown name: one line, and nothing is written."""
    before = contents(four_copy)
    with pytest.raises(error, match=message):
        rescore(four_copy, evaluators, attack)
    assert contents(four_copy) == before


def test_an_attack_that_is_not_finished_is_not_judged(four_copy):
    """Half an attack is not judged; the line says what to do."""
    tell(four_copy, "UPDATE attack SET finished_at = NULL WHERE id = 3")
    before = contents(four_copy)
    with pytest.raises(UsageError, match=r"attack \w+ is not finished; go on with the same jsdelta attack"):
        rescore(four_copy, ["four:1,2"])
    assert contents(four_copy) == before


def test_an_attack_without_kept_samples_is_not_judged_again(four_copy):
    """Where perturbations were not kept, evaluators that did not see them are refused, and no row is made."""
    tell(four_copy, "UPDATE attack SET keeps_samples = 0 WHERE id = 3")
    before = contents(four_copy)
    with pytest.raises(UsageError, match=r"was made with --no-save-samples.*attack with another --seed"):
        rescore(four_copy, ["four:2,3"])
    assert contents(four_copy) == before


def test_stability_is_measured_once_and_of_successes_alone(four_copy, monkeypatch):
    """``stability`` is a share of eight draws, kept beside the sample; a second call measures nothing."""
    uid = last_evaluation(four_copy)
    judged = rescore(four_copy, extras=Extras(stability=True))
    assert judged.worked_on == 0
    rows = ask(four_copy, "SELECT success, stability FROM sample WHERE attack_id = 3")
    assert {success: value is not None for success, value in rows} == {0: False, 1: True}
    values = np.array([value for success, value in rows if success])
    assert ((values >= 0) & (values <= 1) & (values * 8 == np.round(values * 8))).all()
    assert ask(four_copy, "SELECT count(*) FROM sample WHERE attack_id <> 3 AND stability IS NOT NULL") == [
        (0,)
    ]
    ((sharpness,),) = ask(four_copy, "SELECT sharpness FROM model WHERE seed = 0")
    assert sharpness > 0
    assert ask(four_copy, "SELECT count(*) FROM model WHERE sharpness IS NOT NULL") == [(1,)]
    assert ask(four_copy, "SELECT value, split, norm, eps, n FROM model_metric WHERE name = 'sharpness'") == [
        (sharpness, "baseline", "l2", 0.05, 300)
    ]
    before = contents(four_copy)
    monkeypatch.setattr(LoadedModel, "network", property(lambda self: pytest.fail("it was measured again")))
    rescore(four_copy, extras=Extras(stability=True))
    assert contents(four_copy) == before
    assert last_evaluation(four_copy) == uid


def test_an_attack_that_nobody_judged_needs_names(four_copy):
    """Without a first evaluation there are no default evaluators."""
    tell(four_copy, "DELETE FROM evaluation_member WHERE evaluation_id = 3")
    for table in ("evaluation_baseline", "evaluation_chunk", "score", "control_result"):
        tell(four_copy, f"DELETE FROM {table} WHERE evaluation_id = 3")
    uid = attack_of(four_copy, last_evaluation(four_copy))
    tell(four_copy, "DELETE FROM evaluation WHERE id = 3")
    with pytest.raises(NothingToDoError, match="was never judged; name --evaluators"):
        rescore(four_copy, attack=uid)
