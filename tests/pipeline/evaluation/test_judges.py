"""Who may judge: copies are refused by what they answer, and verdicts tell of evaluators that are no judges."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from jsdelta_db.errors import UsageError
from jsdelta_db.pipeline.attack import attack_and_score
from jsdelta_db.pipeline.evaluation import followers
from jsdelta_db.pipeline.evaluation.roles import RoleRequest
from jsdelta_db.pipeline.external_models import ExternalRequest, add_model
from jsdelta_db.pipeline.score import score_stored
from jsdelta_db.workbench.workbench import open_workbench
from tests.reading import ask, attack_of, contents, last_evaluation
from tests.workspaces import Listening, copy_of, tiny_attacks

LAST = "classifier"  # the layer whose outputs are the logits


def add_changed(workspace, name, seed, factor=1.0, roll=0, **options):
    """Add a member's network under other key names, its logits times a factor, its labels moved on."""
    ((uri,),) = ask(workspace, "SELECT checkpoint_uri FROM model WHERE seed = ? ORDER BY id", seed)[:1]
    saved = torch.load(workspace.root / uri, weights_only=True)
    state = {key.replace("network", "inner", 1): value for key, value in saved.items() if "network" in key}
    for key in state:
        if LAST in key:
            state[key] = (state[key] * factor).roll(roll, 0)
    path = Path(workspace.root) / f"{name}.pt"
    torch.save(state, path)
    with open_workbench(workspace, is_tracked=False) as bench:
        request = ExternalRequest(
            name, "tests.elsewhere:renamed", path, "digits", "dataset", "dataset", **options
        )
        return add_model(bench, request)[0]


@pytest.fixture(scope="module")
def copied(four, tmp_path_factory):
    """The four-member store with networks made of its first member; only read."""
    workspace = copy_of(four, tmp_path_factory.mktemp("copied") / "workspace")
    add_changed(workspace, "copy", 0)
    add_changed(workspace, "copy-of-1", 1)
    add_changed(workspace, "half", 0, factor=0.5)
    add_changed(workspace, "soft", 1, factor=0.1)
    add_changed(workspace, "lost", 1, roll=1, force=True)
    return workspace


@pytest.fixture
def copied_copy(copied, tmp_path):
    """A copy of it that a test may change."""
    return copy_of(copied, tmp_path / "copied")


def attack(workspace, eps=(8,), images=20, steps=3, **references):
    """Attack a few images; return the lines that were reported."""
    progress = Listening()
    with open_workbench(workspace, progress, is_tracked=False) as bench:
        request = RoleRequest(**{"ensemble": "four", "attacked": "0", **references})
        attack_and_score(bench, tiny_attacks(*eps, images=images, steps=steps), request)
    return progress.lines


@pytest.mark.parametrize(
    ("roles", "one", "other"),
    [
        ({"evaluators": ["copy", "1,2,3"]}, "copy", "seed 0"),
        ({"evaluators": ["1,2,3", "copy"]}, "copy", "seed 0"),
        ({"evaluators": ["copy", "1"]}, "copy", "seed 0"),
        ({"attacked": "copy", "evaluators": ["0", "1,2"]}, "seed 0", "copy"),
        ({"attacked": "copy", "evaluators": ["0", "copy-of-1"]}, "seed 0", "copy"),
        ({"evaluators": ["1,2,3", "copy-of-1"]}, "copy-of-1", "seed 1"),
    ],
    ids=["first", "last", "of two", "attacked", "without an ensemble", "of another evaluator"],
)
def test_a_copy_is_refused_by_its_outputs(roles, one, other, copied_copy):
    """Other key names do not hide whose weights they are: one line names both, and nothing is made."""
    before = ask(copied_copy, "SELECT * FROM attack"), ask(copied_copy, "SELECT * FROM evaluation")
    with pytest.raises(
        UsageError, match=rf"evaluator {one}\b.* answers as {other}\b.*must not judge"
    ) as raised:
        attack(copied_copy, **roles)
    assert "\n" not in str(raised.value)
    assert (ask(copied_copy, "SELECT * FROM attack"), ask(copied_copy, "SELECT * FROM evaluation")) == before


def test_a_copy_of_a_surrogate_is_refused(copied_copy):
    """What the attack looked at must not judge, under no name."""
    with open_workbench(copied_copy, is_tracked=False) as bench:
        request = RoleRequest("four", "0", ["2,3", "copy-of-1"], ["1"])
        with pytest.raises(UsageError, match="evaluator copy-of-1 answers as seed 1"):
            attack_and_score(bench, tiny_attacks(8, images=20, steps=2, objective="bug"), request)


def test_a_copy_is_refused_for_stored_samples(copied_copy):
    """Samples that are stored are not judged by a copy, either."""
    uid = attack_of(copied_copy, last_evaluation(copied_copy))
    before = ask(copied_copy, "SELECT * FROM evaluation")
    with (
        open_workbench(copied_copy, is_tracked=False) as bench,
        pytest.raises(UsageError, match="evaluator copy answers as seed 0"),
    ):
        score_stored(bench, [uid], ["copy", "four:1,2"])
    assert ask(copied_copy, "SELECT * FROM evaluation") == before


def test_copies_do_not_make_each_other_honest(copied_copy):
    """A set of copies has no honest pair to be measured by: the attacked model's own ensemble decides."""
    for place, name in enumerate(("second", "third", "fourth")):
        add_changed(copied_copy, name, 1, factor=1 + place * 1e-6)  # other weights, to the last digits
    with pytest.raises(UsageError, match="evaluator third answers as second"):
        attack(copied_copy, evaluators=["second", "third", "fourth"])


def test_members_of_an_ensemble_may_judge(copied_copy):
    """Honest members of one recipe pass, and nothing is said of them."""
    assert [line for line in attack(copied_copy) if "evaluator" in line] == []


def test_doubts_are_told_once(copied_copy):
    """A line each for a network at chance and for a temperature that is unusual, whatever the number of ε."""
    lines = attack(copied_copy, eps=(3, 8), evaluators=["soft", "lost", "2,3"])
    chance, spread, *warm = [line for line in lines if line.startswith("evaluator")]
    assert re.match(r"evaluator lost is right on \d\.\d% of clean images, which is chance for 10", chance)
    assert re.match(r"evaluator lost is right on .* more than 20 points apart", spread)
    assert [re.match(r"evaluator (\w+) has a fitted temperature of", line).group(1) for line in warm] == [
        "soft",
        "lost",
    ]
    outcomes = ask(
        copied_copy, "SELECT DISTINCT name FROM control_result WHERE passed = 0 AND evaluation_id > 3"
    )
    assert {name for (name,) in outcomes} == {"accuracy_spread", "evaluator_accuracy"}


def test_an_attacked_model_at_chance_is_told(copied_copy):
    """What was added by force may be attacked; a line says what that is worth."""
    (line,) = [line for line in attack(copied_copy, images=None, attacked="lost") if "lost" in line]
    assert line.startswith("attacked model lost is right on ")
    assert line.endswith("which is chance for 10 classes: what comes of it says nothing")


# ---- who follows the attacked model


def stored(workspace):
    """Return the outcomes by four members and more: ε in levels, value and verdict."""
    rows = ask(
        workspace,
        "SELECT round(255 * eps), value, passed FROM control_result "
        "JOIN evaluation ON evaluation.id = evaluation_id JOIN attack ON attack.id = attack_id "
        "WHERE name = 'follows_attacked' AND evaluation_id >= 3 ORDER BY evaluation_id",
    )
    return [(int(eps), value, passed) for eps, value, passed in rows]


def test_a_copy_with_other_logits_follows(copied_copy):
    """A softer copy passes for another network on clean images; on weak samples it moves with the attacked one."""
    lines = attack(copied_copy, eps=(5, 8), images=60, steps=10, evaluators=["half", "1,2,3"])
    (line,) = [line for line in lines if "follows" in line]
    assert line.startswith("evaluator half follows the attacked model (seed 0")
    found = stored(copied_copy)[-1]
    assert (found[0], found[1] > 0.5, found[2]) == (5, True, 0)


def test_the_smallest_eps_alone_decides(copied_copy):
    """A verdict at a larger ε is taken back when a smaller one has successes enough; again nothing is new."""
    assert [eps for eps, *_ in stored(copied_copy)] == [8]
    attack(copied_copy, eps=(5,), images=60, steps=10)
    assert [(eps, passed) for eps, _, passed in stored(copied_copy)] == [(5, 1)]
    before = contents(copied_copy)
    attack(copied_copy, eps=(8,), images=40, steps=10)
    assert contents(copied_copy) == before


@pytest.mark.parametrize(
    ("shares", "value", "passed"),
    [
        ((0.1, 0.2, 0.05, 0.21), 0.21, True),
        ((0.1, 0.9, 0.05, 0.21), 0.9, False),
        ((0.8, 0.9, 0.05, 0.21), 0.9, False),
        ((0.1, 0.9, 0.31, 0.2), 0.9, None),
        ((0.6, 0.7, 0.8), 0.8, None),
        ((0.4, 0.45, 0.4), 0.45, True),
        ((0.1, 0.9), None, None),
        ((0.9,), None, None),
    ],
)
def test_who_stands_out_follows(shares, value, passed):
    """Above one half while the others are below 0.3; where all move, or of two, nobody can tell."""
    outcome, _ = followers._find_followers(np.array(shares))
    assert (outcome.value, outcome.passed) == (value, passed)
