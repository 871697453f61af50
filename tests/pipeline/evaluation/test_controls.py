"""Controls: pairs with a known answer, judged by the same code, and what a planted defect does to them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from jsdelta_db.errors import UsageError
from jsdelta_db.pipeline.attack import attack_and_score
from jsdelta_db.pipeline.evaluation import controls
from jsdelta_db.pipeline.evaluation.finished import Extras
from jsdelta_db.pipeline.evaluation.roles import RoleRequest
from jsdelta_db.pipeline.score import score_stored
from jsdelta_db.workbench.workbench import open_workbench
from tests.reading import ask, attack_of, contents, last_evaluation, tell
from tests.workspaces import copy_of, tiny_attacks

# every evaluation has these
AGREEMENT = {"agreement_label", "agreement_js", "accuracy_spread", "evaluator_accuracy"}
FOLLOWS = "follows_attacked"  # where enough attempts succeed
ASKED_FOR = {
    "identity", "noise_js_delta", "noise_success", "clean_pairs", "attacked_among_evaluators",
    "attacked_among_evaluators_bugs", "joint_attack", "joint_attack_success", "bug_seeking",
    "invariance_flip", "invariance_shift", "invariance_noise",
}  # fmt: skip
SHOWN_ONLY = {"joint_attack_success", "bug_seeking", "agreement_js"}
CONTROLLED = Extras(controls=True)


def outcomes(workspace, evaluation=None):
    """Return the stored outcomes of an evaluation: name → (value, low, high, passed)."""
    rows = ask(
        workspace,
        "SELECT name, value, low, high, passed FROM control_result JOIN evaluation "
        "ON evaluation.id = evaluation_id WHERE evaluation.uid = ?",
        evaluation or last_evaluation(workspace),
    )
    return {name: facts for name, *facts in rows}


def control(workspace):
    """Run the controls of the store's newest evaluation."""
    with open_workbench(workspace) as bench:
        return score_stored(bench, [attack_of(workspace, last_evaluation(workspace))], (), extras=CONTROLLED)


@pytest.fixture(scope="module")
def controlled(four, tmp_path_factory):
    """The four-member store, its newest evaluation with controls; only read."""
    workspace = copy_of(four, tmp_path_factory.mktemp("controlled") / "workspace")
    assert control(workspace).worked_on == 0
    return workspace


def test_every_control_has_an_outcome(controlled, four):
    """Agreement comes with every evaluation; the others where they are asked for."""
    assert set(outcomes(four)) == AGREEMENT | {FOLLOWS}
    assert set(outcomes(controlled)) == AGREEMENT | ASKED_FOR | {FOLLOWS}


def test_known_answers_come_out(controlled):
    """On a sound store: no JSΔ for identity, about 1 for clean pairs, little for noise, the bound holds."""
    found = {name: value for name, (value, *_) in outcomes(controlled).items()}
    assert found["identity"] == 0.0
    assert found["clean_pairs"] == pytest.approx(1.0, abs=0.25)  # 40 pairs of a small ensemble
    assert 0 < found["noise_js_delta"] < 0.2
    assert found["noise_success"] <= 0.1
    assert found["attacked_among_evaluators"] >= -1e-6
    assert found["attacked_among_evaluators_bugs"] == 0.0
    assert 0 <= found["joint_attack_success"] <= 1
    assert found["invariance_flip"] > 0.1  # a mirrored digit is another picture, and nothing taught otherwise
    assert 0 <= found["invariance_noise"] < found["invariance_flip"]
    assert 0.5 < found["agreement_label"] <= 1
    assert 0 < found["agreement_js"] < 0.5


def test_verdicts_follow_the_bounds(controlled):
    """A value within its bounds passes; without a value or a verdict nothing is said."""
    for name, (value, low, high, passed) in outcomes(controlled).items():
        if name in SHOWN_ONLY or value is None:
            assert passed is None, name
        else:
            assert (low, high) != (None, None), name
            within = (low is None or value >= low) and (high is None or value <= high)
            assert passed == within, name


def test_bounds_are_those_of_the_design(controlled):
    """The tolerances that metric.md states."""
    found = {name: (low, high) for name, (_, low, high, _) in outcomes(controlled).items()}
    ((successes, attempts),) = ask(
        controlled, "SELECT sum(success), count(*) FROM sample WHERE attack_id = 3"
    )
    assert found["identity"] == (0.0, 0.0)
    assert found["noise_js_delta"] == (None, 0.01)
    assert found["noise_success"] == (None, pytest.approx(0.1 * successes / attempts))
    assert found["clean_pairs"] == found["joint_attack"] == (0.9, 1.1)
    assert found["attacked_among_evaluators_bugs"] == (None, 0.0)


def test_controls_leave_no_rows_but_their_outcomes(controlled, four):
    """They run in memory: no attack, sample, evaluation or score comes of them."""
    for table in ("attack", "attack_chunk", "sample", "evaluation", "evaluation_chunk", "score"):
        assert ask(controlled, f"SELECT * FROM {table}") == ask(four, f"SELECT * FROM {table}"), table


def test_controls_are_run_once(controlled, tmp_path, monkeypatch):
    """What is stored is not run again; what is missing alone is."""
    workspace = copy_of(controlled, tmp_path / "again")
    before, ran = contents(workspace), []

    def watch(name, real):
        return lambda subject: ran.append(name) or real(subject)

    for name, real in list(controls.CONTROLS.items()):
        monkeypatch.setitem(controls.CONTROLS, name, watch(name, real))
    control(workspace)
    assert (ran, contents(workspace)) == ([], before)
    tell(workspace, "DELETE FROM control_result WHERE name = 'identity'")
    control(workspace)
    rows, files = contents(workspace)
    assert (ran, sorted(rows), files) == (["identity"], sorted(before[0]), before[1])


def test_controls_say_the_same_again(controlled, four, tmp_path):
    """Run in another copy of the store they give the same numbers, to the last bit."""
    workspace = copy_of(four, tmp_path / "second")
    control(workspace)
    assert outcomes(workspace) == outcomes(controlled)


def planted(workspace, monkeypatch, name, change):
    """Run the controls with a defect in the code that judges."""
    monkeypatch.setattr(controls, name, change(getattr(controls, name)))
    control(workspace)
    return outcomes(workspace)


def test_half_a_divergence_is_caught(four_copy, controlled, monkeypatch):
    """JSΔ that comes out half as large: clean pairs are no longer about 1."""

    def halve(real):
        def score(*given, **named):
            found = real(*given, **named)
            return replace(found, js=found.js / 2, js_delta=found.js_delta / 2, member_js=found.member_js / 2)

        return score

    found = planted(four_copy, monkeypatch, "score", halve)
    assert found["clean_pairs"][3] == 0
    assert found["clean_pairs"][0] == pytest.approx(outcomes(controlled)["clean_pairs"][0] / 2)


def test_an_evaluator_that_answers_differently_each_time_is_caught(four_copy, monkeypatch):
    """Noise in the evaluators' outputs: an image beside itself is no longer the same."""
    generator = torch.Generator().manual_seed(0)

    def shake(real):
        return lambda networks, images, *given: (
            real(networks, images, *given) + 1e-3 * torch.randn(len(images), 10, generator=generator).numpy()
        ).astype(np.float32)

    found = planted(four_copy, monkeypatch, "predict_images", shake)
    assert found["identity"][0] > 0
    assert found["identity"][3] == 0


def test_an_evaluator_that_is_not_counted_is_caught(four_copy, monkeypatch):
    """If JSΔ is not the mean over all evaluators, the attacked model's part of it is missing."""

    def leave_out_the_last(real):
        def score(*given, **named):
            found = real(*given, **named)
            js = found.member_js[:, :-1].astype(np.float64).mean(1)
            rho = np.divide(found.js, found.js_delta, out=np.ones_like(js), where=found.js_delta > 0)
            return replace(found, js=js, js_delta=np.where(np.isnan(found.js_delta), np.nan, js / rho))

        return score

    found = planted(four_copy, monkeypatch, "score", leave_out_the_last)
    assert found["attacked_among_evaluators"][0] < -1e-3
    assert found["attacked_among_evaluators"][3] == 0


def test_a_js_delta_that_is_far_too_small_is_caught(four_copy, monkeypatch):
    """The bound rests on ρ itself, not on what JSΔ was divided by: a wrong divisor does not hide."""

    def shrink(real):
        return lambda *given, **named: (lambda found: replace(found, js_delta=found.js_delta / 100))(
            real(*given, **named)
        )

    found = planted(four_copy, monkeypatch, "score", shrink)
    assert found["attacked_among_evaluators"][3] == 0
    assert found["attacked_among_evaluators_bugs"][0] > 0


def test_controls_of_an_attack_whose_samples_were_not_kept(tiny_copy):
    """The attack makes its chunks again for the controls; judged again without an attack they are refused."""
    with open_workbench(tiny_copy) as bench:
        configs = tiny_attacks(8, images=20, steps=3)
        attack_and_score(bench, configs, extras=CONTROLLED, keeps_samples=False)
    assert set(outcomes(tiny_copy)) == AGREEMENT | ASKED_FOR
    tell(tiny_copy, "DELETE FROM control_result WHERE name = 'identity'")
    with pytest.raises(UsageError, match="no-save-samples"):
        control(tiny_copy)


def test_one_evaluator_can_not_hide_from_itself(tiny_copy):
    """With a single evaluator the bug-seeking control has nobody to judge: no value, no verdict."""
    from jsdelta_db.pipeline.train import train_ensemble
    from tests.workspaces import tiny_recipe

    with open_workbench(tiny_copy) as bench:
        train_ensemble(bench, tiny_recipe(members=2), name="pair")
        attack_and_score(
            bench, tiny_attacks(8, images=20, steps=3), RoleRequest(ensemble="pair"), extras=CONTROLLED
        )
    assert outcomes(tiny_copy)["bug_seeking"] == [None, None, None, None]
