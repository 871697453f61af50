"""The attack's options through the store, and attacks whose perturbations are not kept."""

from contextlib import contextmanager

import numpy as np
import pytest

from jsdelta_db.compute import data
from jsdelta_db.errors import UsageError
from jsdelta_db.maintenance.check import find_problems
from jsdelta_db.pipeline.attack import attack_and_score
from jsdelta_db.pipeline.evaluation import work
from jsdelta_db.pipeline.evaluation.finished import Extras
from jsdelta_db.pipeline.evaluation.roles import RoleRequest
from jsdelta_db.pipeline.score import score_stored
from jsdelta_db.queries.bugs import query_bugs
from jsdelta_db.store.session import reading_store
from jsdelta_db.workbench.workbench import open_workbench
from tests.reading import (
    ask,
    attack_of,
    chunks_of,
    contents,
    judges_of,
    last_evaluation,
    samples_of,
    scores_of,
)
from tests.workspaces import DRAWING, copy_of, tiny_attacks

NO_EXTRAS = Extras()


def attack(workspace, keeps_samples=True, extras=NO_EXTRAS, ensemble="four", parts=None, **settings):
    """Attack 20 images in chunks of 8; return the evaluation's uid."""
    configs = tiny_attacks(8, **{"images": 20, "steps": 3, **settings})
    with pytest.MonkeyPatch.context() as patch, open_workbench(workspace, chunk_size=8) as bench:
        patch.setattr(work, "draw_bytes", lambda figure: DRAWING)
        request = RoleRequest(ensemble, **(parts or {}))
        return attack_and_score(
            bench, configs, request, extras=extras, keeps_samples=keeps_samples
        ).evaluations[0]


def check(workspace):
    """Let the store say what is wrong with it."""
    with reading_store(workspace.db_url) as connection:
        return list(find_problems(connection, workspace.root))


def surrogates_of(workspace, evaluation):
    """Return the seeds of an attack's surrogates, in order."""
    rows = ask(
        workspace,
        "SELECT seed FROM attack_surrogate JOIN model ON model.id = model_id "
        "JOIN evaluation ON evaluation.attack_id = attack_surrogate.attack_id "
        "WHERE evaluation.uid = ? ORDER BY position",
        evaluation,
    )
    return [seed for (seed,) in rows]


@pytest.mark.parametrize(
    "settings",
    [
        {"norm": "l2", "restarts": 2},
        {"objective": "margin", "targets": "least-likely"},
        {"targets": "untargeted", "random_start": False},
        {"stop": "first-hit", "relative_step_size": 1.0},
        {"targets": "all", "images": 4},
    ],
    ids=str,
)
def test_the_configuration_is_recorded(settings, four_copy):
    """Every option of an attack is on its row, and the samples are in their ball."""
    uid = attack(four_copy, **settings)
    names = {"targets": "target_rule", "relative_step_size": "step_size"}
    columns = [names.get(name, name) for name in settings]
    ((*values, eps),) = ask(
        four_copy,
        f"SELECT {', '.join(columns)}, eps FROM attack ORDER BY id DESC LIMIT 1",
    )
    expected = [
        value * (8 / 255) / 3 if name == "relative_step_size" else value for name, value in settings.items()
    ]
    assert values == expected
    size = 7 if settings.get("norm") == "l2" else 6
    sizes = [row[size] for row in samples_of(four_copy, uid)]
    assert 0 < max(sizes) <= eps
    assert check(four_copy) == []


def test_more_restarts_keep_what_fewer_reached(four_copy):
    """Each image that one start took is taken by three: starts are keyed by their number."""
    one, three = (samples_of(four_copy, attack(four_copy, restarts=restarts)) for restarts in (1, 3))
    assert all(many[4] >= single[4] for single, many in zip(one, three, strict=True))
    assert sum(row[4] for row in one) > 0


def test_other_options_make_other_attacks(four_copy):
    """Each option is part of what an attack is recognised by, and queries keep them apart."""
    variants = [
        {},
        {"restarts": 2},
        {"norm": "l2"},
        {"stop": "first-hit"},
        {"objective": "margin"},
        {"seed": 1},
    ]
    uids = [attack_of(four_copy, attack(four_copy, **settings)) for settings in variants]
    assert len(set(uids)) == len(variants)
    with reading_store(four_copy.db_url) as connection:
        rows = [row for row in query_bugs(connection, [0.1]).rows if row["images"] == 20]
    assert len(rows) == len(variants)


@pytest.mark.parametrize(
    ("objective", "parts", "held", "judges"),
    [
        ("bug", {}, [3], [1, 2]),
        ("feature", {"surrogates": ["2"]}, [2], [1, 3]),
        ("bug", {"surrogates": ["3"], "evaluators": ["1,2"]}, [3], [1, 2]),
        ("target", {}, [], [1, 2, 3]),
    ],
)
def test_surrogates_are_rows_and_never_judge(objective, parts, held, judges, four_copy):
    """Who the attack looked at is on record, in order, and is not among the evaluators."""
    uid = attack(four_copy, objective=objective, parts=parts)
    assert (surrogates_of(four_copy, uid), judges_of(four_copy, uid)) == (held, judges)
    again = attack(four_copy, objective=objective, parts=parts)
    assert again == uid
    assert check(four_copy) == []


def test_surrogates_do_not_judge_later_either(four_copy):
    """Judging the samples again, a surrogate is refused before anything is written."""
    uid = attack(four_copy, objective="bug")
    before = contents(four_copy)
    with (
        pytest.raises(UsageError, match=r"seed 3, \w+ would judge and be a surrogate"),
        open_workbench(four_copy) as bench,
    ):
        score_stored(bench, [attack_of(four_copy, uid)], ["four:2,3"])
    assert contents(four_copy) == before


def test_other_surrogates_make_another_attack(four_copy):
    """The samples depend on who was looked at: so does the attack's identity."""
    uids = [
        attack(four_copy, objective="feature", parts={"surrogates": [one], "evaluators": [others]})
        for one, others in (("3", "1,2"), ("1", "2,3"))
    ]
    assert len({attack_of(four_copy, uid) for uid in uids}) == 2
    first, second = (np.concatenate([chunk["delta"] for chunk in chunks_of(four_copy, uid)]) for uid in uids)
    assert (first != second).any()


def test_a_label_by_name_or_number_is_one_attack(four_copy):
    """A target label's number is what is recorded, however it was typed."""
    uid = attack(four_copy, targets="7")
    ((rule,),) = ask(four_copy, "SELECT target_rule FROM attack ORDER BY id DESC LIMIT 1")
    assert rule == "7"
    assert {row[1] for row in samples_of(four_copy, uid)} == {7}


# ---- without kept samples


@pytest.fixture(scope="module")
def kept_and_not(four, tmp_path_factory):
    """The same attack in two copies of the store, with and without its perturbations; only read."""
    folder = tmp_path_factory.mktemp("kept")
    kept, bare = copy_of(four, folder / "kept"), copy_of(four, folder / "bare")
    return kept, attack(kept), bare, attack(bare, keeps_samples=False)


def test_files_lack_the_perturbations(kept_and_not):
    """The files hold the rows' columns and the attacked model's logits; rows and scores are the same."""
    kept, with_samples, bare, without = kept_and_not
    assert {name for chunk in chunks_of(bare, without) for name in chunk} == {
        "sample_index", "requested_target", "source_label", "target_label", "success", "confidence", "linf", "l2",
        "logits",
    }  # fmt: skip
    assert all("delta" in chunk for chunk in chunks_of(kept, with_samples))
    assert samples_of(kept, with_samples) == samples_of(bare, without)
    assert scores_of(kept, with_samples) == scores_of(bare, without)
    assert ask(bare, "SELECT keeps_samples FROM attack ORDER BY id") == [(1,), (1,), (1,), (0,)]
    assert check(bare) == []


@contextmanager
def stopped_at(module, name, call):
    """Press Ctrl-C just before one call of a function."""
    real, calls = getattr(module, name), []

    def counted(*given, **named):
        calls.append(name)
        if len(calls) == call + 1:
            raise KeyboardInterrupt
        return real(*given, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, name, counted)
        with pytest.raises(KeyboardInterrupt):
            yield


@pytest.mark.parametrize(("name", "call"), [("judge", 1), ("save_scores", 0), ("save_samples", 2)])
def test_stopped_between_samples_and_scores_it_goes_on_to_the_same_rows(name, call, four_copy, kept_and_not):
    """Samples that were not kept come out the same when they are made again to be judged."""
    _, _, bare, without = kept_and_not
    with stopped_at(work, name, call):
        attack(four_copy, keeps_samples=False)
    uid = attack(four_copy, keeps_samples=False)
    assert samples_of(four_copy, uid) == samples_of(bare, without)
    assert scores_of(four_copy, uid) == scores_of(bare, without)
    for mine, theirs in zip(chunks_of(four_copy, uid), chunks_of(bare, without), strict=True):
        assert mine["logits"].tobytes() == theirs["logits"].tobytes()
    assert check(four_copy) == []


def test_a_resume_keeps_to_what_the_attack_was_begun_with(four_copy):
    """Begun without keeping samples, an attack goes on so, whatever the second call says."""
    with stopped_at(work, "judge", 1):
        attack(four_copy, keeps_samples=False)
    uid = attack(four_copy, keeps_samples=True)
    assert all("delta" not in chunk for chunk in chunks_of(four_copy, uid))


def test_stability_needs_the_samples(four_copy):
    """Asked for together, nothing is attacked; asked for later, the line says why it cannot be."""
    before = contents(four_copy)
    with pytest.raises(
        UsageError, match="--stability looks at the samples again; leave --no-save-samples out"
    ):
        attack(four_copy, keeps_samples=False, extras=Extras(stability=True))
    assert contents(four_copy) == before
    attack(four_copy, keeps_samples=False)
    with pytest.raises(UsageError, match="was made with --no-save-samples"):
        attack(four_copy, extras=Extras(stability=True))


def test_other_judges_need_the_samples_or_the_attack(kept_and_not, tmp_path):
    """The same attack called with other evaluators makes its samples again for them, the same."""
    kept, _, bare, _ = kept_and_not
    first, second = copy_of(kept, tmp_path / "kept"), copy_of(bare, tmp_path / "bare")
    parts = {"evaluators": ["four:2,3"]}
    uids = [attack(workspace, parts=parts) for workspace in (first, second)]
    assert scores_of(first, uids[0]) == scores_of(second, uids[1])
    assert judges_of(second, uids[1]) == [2, 3]
    assert ask(second, "SELECT count(*) FROM attack") == [(4,)]


def test_images_are_read_from_the_split_that_was_attacked(four_copy):
    """An attack on the baseline split has that split's images and indices."""
    uid = attack(four_copy, split="baseline")
    digits = data.load("digits", four_copy.data_dir)
    indices = {row[0] for row in samples_of(four_copy, uid)}
    assert indices <= set(digits.splits["baseline"].index.tolist())
    assert last_evaluation(four_copy) == uid
