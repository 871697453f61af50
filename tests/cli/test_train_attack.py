"""``jsdelta train`` and ``jsdelta attack``, in process and tiny."""

import json

import pytest

from tests.cli.calls import call, parse_table, query, refused, words
from tests.reading import ask
from tests.workspaces import TINY_STEPS

TRAIN = ["train", "--members", "2", "--epochs", "1"]
TINY_TRAIN = ["train", "--members", "3", "--epochs", "3"]  # what the tiny store holds
TINY_ATTACK = ["attack", "--steps", str(TINY_STEPS), "--images", "60"]
FEW_IMAGES = ["attack", "--steps", str(TINY_STEPS), "--images", "20"]


def test_train_prints_the_accuracy_of_each_member(workspace, capsys):
    """A first call makes the store, trains seeds SEED and SEED + 1, and prints one row a member."""
    code, out, err = call(capsys, workspace, *TRAIN, "--seed", "5")
    rows = parse_table(out)
    stored = ask(workspace, "SELECT seed, uid, clean_accuracy FROM model ORDER BY seed")
    assert code == 0, err
    assert [(int(row["seed"]), row["model"], row["state"]) for row in rows] == [
        (seed, uid, "trained") for seed, uid, _ in stored
    ]
    assert [seed for seed, _, _ in stored] == [5, 6]
    for row, (_, _, clean_accuracy) in zip(rows, stored, strict=True):
        assert float(row["clean accuracy"]) == pytest.approx(clean_accuracy, abs=1e-3)
    assert "next: jsdelta attack --eps 3" in err
    assert ask(workspace, "SELECT status, count(*) FROM model GROUP BY status") == [("finished", 2)]


def test_train_again_finds_the_members(tiny_copy, capsys):
    """The same command trains nothing and shows the same members as found."""
    before = ask(tiny_copy, "SELECT * FROM model")
    code, out, _ = call(capsys, tiny_copy, *TINY_TRAIN)
    assert (code, [row["state"] for row in parse_table(out)]) == (0, ["found"] * 3)
    assert ask(tiny_copy, "SELECT * FROM model") == before
    assert ask(tiny_copy, "SELECT count(*) FROM ensemble") == [(1,)]


def test_method_takes_the_data_sets_recipe(workspace, capsys):
    """--method alone trains by the recipe for it; flags override it, sizes in the unit of the norm."""
    code, out, err = call(
        capsys, workspace, *TRAIN, "--method", "adversarial", "--train-eps", "8", "--train-steps", "1"
    )
    assert code == 0, err
    assert {row["ensemble"] for row in parse_table(out)} == {
        "digits-adversarial-epochs1-eps8-steps1-stepsize10"
    }
    code, out, err = call(capsys, workspace, *TRAIN, "--method", "sam", "--sam-rho", "0.2", "--sam-adaptive")
    assert code == 0, err
    recipes = [
        (method, json.loads(recipe))
        for method, recipe in ask(workspace, "SELECT method, recipe FROM model WHERE seed = 0 ORDER BY id")
    ]
    assert [method for method, _ in recipes] == ["adversarial", "sam"]
    adversarial, sam = (recipe for _, recipe in recipes)
    # The recipe's five steps of 1/255 in a ball of 4/255 become one of 10/255 in a ball of 8/255.
    assert adversarial["train_eps"] == 8 / 255
    assert (adversarial["train_steps"], adversarial["train_norm"]) == (1, "linf")
    assert adversarial["train_step_size"] == pytest.approx(10 / 255)
    assert (sam["sam_rho"], sam["sam_adaptive"], sam["train_eps"]) == (0.2, True, None)


def test_a_recipe_file_and_repeated_flags(workspace, tmp_path, capsys):
    """--recipe takes a file; member i takes the i-th architecture and width; the table names what differs."""
    file = tmp_path / "mine.toml"
    file.write_text('dataset = "digits"\narch = "cnn-small"\nepochs = 1\ndtype = "float32"\n')
    code, out, err = call(
        capsys, workspace, "train", "--recipe", str(file), "--arch", "cnn-small", "--arch", "resnet8",
        "--width", "4", "--width", "8", "--width", "6",
    )  # fmt: skip
    assert code == 0, err
    rows = parse_table(out)
    assert [(row["ensemble"], row["architecture"]) for row in rows] == [
        ("mine-mixed", "cnn-small"), ("mine-mixed", "resnet8"), ("mine-mixed", "cnn-small"),
    ]  # fmt: skip
    widths = ask(workspace, "SELECT recipe FROM model ORDER BY seed")
    assert [json.loads(recipe)["width"] for (recipe,) in widths] == [4, 8, 6]


def test_query_ensembles(tiny, capsys):
    """One row an ensemble, with exactly these keys; people get ε over 255."""
    code, out, _ = call(capsys, tiny, "query", "ensembles", "--format", "json")
    (row,) = json.loads(out)
    assert code == 0
    assert list(row) == [
        "name", "uid", "method", "dataset", "members", "clean_accuracy", "robust_accuracy", "robust_norm",
        "robust_eps", "agreement",
    ]  # fmt: skip
    assert (row["name"], row["members"], row["robust_norm"], row["robust_eps"]) == (
        "digits",
        3,
        "linf",
        4 / 255,
    )
    code, out, _ = call(capsys, tiny, "query", "ensembles")
    assert (code, parse_table(out)[0]["robust eps"]) == (0, "4/255")
    code, out, _ = call(capsys, tiny, "query", "ensembles", "--format", "csv", "--no-header")
    assert out.startswith("digits,")


def test_finished_members_are_shared_by_ensembles(tiny_copy, capsys):
    """An ensemble of another name over known seeds reuses their models."""
    code, out, _ = call(
        capsys, tiny_copy, "train", "--members", "2", "--epochs", "3", "--seed", "1", "--name", "pair"
    )
    rows = parse_table(out)
    assert (code, {row["ensemble"] for row in rows}) == (0, {"pair"})
    assert [(row["seed"], row["state"]) for row in rows] == [("1", "found"), ("2", "found")]
    assert ask(tiny_copy, "SELECT count(*) FROM model") == [(3,)]
    assert ask(tiny_copy, "SELECT name, status FROM ensemble ORDER BY id") == [
        ("digits", "finished"), ("pair", "finished"),
    ]  # fmt: skip


def test_the_newest_ensemble_is_attacked_by_default(tiny_copy, capsys):
    """Without --ensemble the newest finished one is attacked; --ensemble takes a name or a uid."""
    call(capsys, tiny_copy, "train", "--members", "2", "--epochs", "3", "--seed", "1", "--name", "pair")
    code, out, _ = call(capsys, tiny_copy, *TINY_ATTACK, "--eps", "8")
    assert (code, {row["judged by"] for row in parse_table(out)}) == (0, {"pair"})
    ((uid,),) = ask(tiny_copy, "SELECT uid FROM ensemble WHERE name = 'digits'")
    for reference in ("digits", uid[:8]):
        code, out, err = call(capsys, tiny_copy, *TINY_ATTACK, "--eps", "8", "--ensemble", reference)
        assert (code, {row["judged by"] for row in parse_table(out)}) == (0, {"digits"})
        assert "nothing was done again" in err


def test_an_attack_without_a_success_says_so(tiny_copy, capsys):
    """Where a whole attack comes to nothing, one line suggests what helps; others have no such line."""
    short = ["attack", "--images", "10", "--steps", "2"]
    code, _, err = call(capsys, tiny_copy, *short, "--eps", "0.01/255", "--eps", "30")
    assert code == 0
    assert [line for line in err.splitlines() if "success" in line and "interval" not in line] == [
        "not one success at eps 0.01/255: try a larger --eps or more --steps"
    ]


def test_attack_again_does_no_work(tiny_copy, capsys):
    """A finished attack is found: no new row, no new run, the same table."""
    tables = ("attack", "evaluation", "sample", "score")
    before = [ask(tiny_copy, f"SELECT * FROM {table}") for table in tables]
    code, out, err = call(capsys, tiny_copy, *TINY_ATTACK, "--eps", "3", "--eps", "8")
    assert code == 0
    assert "nothing was done again" in err
    assert [ask(tiny_copy, f"SELECT * FROM {table}") for table in tables] == before
    assert [row["eps"] for row in parse_table(out)] == ["3/255"] * 3 + ["8/255"] * 3


def test_eps_is_repeatable_and_stored_exactly(tiny_copy, capsys):
    """Each --eps is one attack; 5 and 5/255 are the same one, and only what is missing is worked on."""
    code, out, err = call(
        capsys, tiny_copy, *TINY_ATTACK, "--eps", "5", "--eps", "8", "--eps", "5/255", "--eps", "1.5"
    )
    assert code == 0, err
    assert [row["eps"] for row in parse_table(out)] == ["1.5/255"] * 3 + ["5/255"] * 3 + ["8/255"] * 3
    assert ask(tiny_copy, "SELECT eps FROM attack ORDER BY eps") == [
        (1.5 / 255,), (3 / 255,), (5 / 255,), (8 / 255,),
    ]  # fmt: skip
    assert "nothing was done again" not in err


@pytest.mark.parametrize(("attacked", "seeds"), [("first", [0]), ("1", [1]), ("all", [0, 1, 2])])
def test_attacked_chooses_members(attacked, seeds, tiny_copy, capsys):
    """--attacked takes first, all or a seed; every attacked member is judged by the others only."""
    code, _, err = call(capsys, tiny_copy, *FEW_IMAGES, "--eps", "8", "--attacked", attacked)
    assert code == 0, err
    found = ask(
        tiny_copy,
        "SELECT model.seed, judge.seed FROM attack JOIN model ON model.id = attack.attacked_model_id"
        " JOIN evaluation ON evaluation.attack_id = attack.id"
        " JOIN evaluation_member ON evaluation_member.evaluation_id = evaluation.id"
        " JOIN model AS judge ON judge.id = evaluation_member.model_id"
        " WHERE attack.images = 20 ORDER BY model.seed, position",
    )
    assert found == [(seed, judge) for seed in seeds for judge in range(3) if judge != seed]


@pytest.mark.parametrize(("targets", "count"), [("all", 9), ("next", 1), ("7", None)])
def test_targets_decide_the_attempts(targets, count, tiny_copy, capsys):
    """--targets all makes nine attempts an image, next one, a label one where it is not the image's own."""
    code, _, err = call(capsys, tiny_copy, *FEW_IMAGES, "--eps", "8", "--targets", targets)
    assert code == 0, err
    ((attack_id, n_images, n_skipped, n_attempts),) = ask(
        tiny_copy, "SELECT id, n_images, n_skipped, n_attempts FROM attack WHERE images = 20"
    )
    rows = ask(
        tiny_copy,
        f"SELECT source_label, requested_target, target_label FROM sample WHERE attack_id = {attack_id}",
    )
    assert len(rows) == n_attempts
    assert all(source != target for source, target, _ in rows)
    if count is None:
        assert {target for _, target, _ in rows} == {7}
    else:
        assert n_attempts == count * (n_images - n_skipped)
    if targets == "next":
        assert all(target == (source + 1) % 10 for source, target, _ in rows)


def test_the_attack_prints_what_the_query_prints(tiny_copy, capsys):
    """The summary at the end is the bug table of this call's attacks at the usual thresholds."""
    _, out, _ = call(capsys, tiny_copy, *FEW_IMAGES, "--eps", "8")
    shown = parse_table(out)
    rows = [row for row in query(capsys, tiny_copy, "--eps", "8") if row["images"] == 20]
    assert [int(row["bugs"]) for row in shown] == [row["n_bugs"] for row in rows]
    assert [float(row["beta"]) for row in shown] == [row["beta"] for row in rows]


def test_what_differs_among_attacks_becomes_a_column(tiny_copy, capsys):
    """Attacks of other targets and steps never land in one row unnoticed."""
    call(capsys, tiny_copy, "attack", "--eps", "8", "--images", "60", "--steps", "5", "--targets", "next")
    rows = query(capsys, tiny_copy, "--beta", "0.1", "--eps", "8")
    assert sorted((row["targets"], row["steps"]) for row in rows) == [("next", 5), ("random", TINY_STEPS)]


def test_attack_without_a_store_names_the_command(tmp_path, capsys):
    """Without a store there is no ensemble: exit 3, the message names train, nothing is made."""
    refused(capsys, tmp_path / "none", 3, "jsdelta train", "attack", "--eps", "3")
    assert list(tmp_path.iterdir()) == []


def test_attack_without_an_ensemble_names_the_command(workspace, capsys):
    """A store without a finished ensemble: exit 1, and the message names train."""
    from jsdelta_db.store.migrate import upgrade

    upgrade(workspace.db_url)
    refused(capsys, workspace, 1, "jsdelta train --seed 0", "attack", "--eps", "3")


def test_one_member_can_not_be_attacked(tiny_copy, capsys):
    """JSΔ needs somebody to judge: an ensemble of one is refused with the command that trains more."""
    call(capsys, tiny_copy, "train", "--members", "1", "--epochs", "3", "--name", "lonely")
    refused(capsys, tiny_copy, 2, "jsdelta train --members", *TINY_ATTACK, "--eps", "8")
    assert ask(tiny_copy, "SELECT count(*) FROM attack") == [(2,)]


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        (["--norm", "l2", "--eps", "0.5", "--restarts", "2"], {"norm": "l2", "eps": 0.5, "restarts": 2}),
        (
            [
                "--eps",
                "8",
                "--untargeted",
                "--objective",
                "margin",
                "--stop",
                "first-hit",
                "--no-save-samples",
            ],
            {"target_rule": "untargeted", "objective": "margin", "stop": "first-hit", "keeps_samples": 0},
        ),
        (
            [
                "--eps",
                "8",
                "--no-random-start",
                "--relative-step-size",
                "1",
                "--seed",
                "7",
                "--dtype",
                "float32",
            ],
            {"random_start": 0, "step_size": 8 / 255 / 2, "seed": 7, "requested_dtype": "float32"},
        ),
    ],
    ids=words,
)
def test_options_of_the_attack_are_obeyed(options, facts, tiny_copy, capsys):
    """Each option is recorded with the attack, and the bug table comes out."""
    code, out, err = call(capsys, tiny_copy, "attack", "--steps", "2", "--images", "20", *options)
    assert code == 0, err
    assert len(parse_table(out)) == 3
    (row,) = ask(tiny_copy, f"SELECT {', '.join(facts)} FROM attack WHERE images = 20")
    assert dict(zip(facts, row, strict=True)) == facts


def test_surrogates_and_evaluators_are_named(tiny_copy, capsys):
    """--surrogates and --evaluators are repeatable and take seeds; nobody plays two parts."""
    code, _, err = call(
        capsys, tiny_copy, "attack", "--eps", "8", "--steps", "2", "--images", "20", "--attacked", "2",
        "--objective", "bug", "--surrogates", "0",
    )  # fmt: skip
    assert code == 0, err
    assert ask(tiny_copy, "SELECT seed FROM attack_surrogate JOIN model ON model.id = model_id") == [(0,)]
    assert ask(
        tiny_copy,
        "SELECT seed FROM evaluation_member JOIN model ON model.id = model_id WHERE evaluation_id = 3",
    ) == [(1,)]


def test_an_ensemble_too_small_to_hold_one_back_says_so(tiny_copy, capsys):
    """With two members there is nobody to hold back: exit 2, and the line says how to get more."""
    call(capsys, tiny_copy, "train", "--members", "2", "--epochs", "3", "--name", "pair")
    code, out, err = call(capsys, tiny_copy, *TINY_ATTACK, "--eps", "8", "--objective", "feature")
    assert (code, out) == (2, "")
    assert "too few members to hold a surrogate back and still judge" in err
    assert ask(tiny_copy, "SELECT count(*) FROM attack") == [(2,)]


def test_controls_stability_and_temperature_come_with_the_attack(tiny_copy, capsys):
    """The extras of a finished attack are looked at without attacking again."""
    before = ask(tiny_copy, "SELECT * FROM attack")
    code, _, err = call(
        capsys, tiny_copy, *TINY_ATTACK, "--eps", "8", "--controls", "--stability", "--temperature", "fit"
    )
    assert code == 0, err
    assert ask(tiny_copy, "SELECT * FROM attack") == before
    assert ask(tiny_copy, "SELECT temperature_rule FROM evaluation") == [("1",), ("1",), ("fit",)]
    assert ask(
        tiny_copy, "SELECT count(*) FROM control_result WHERE evaluation_id = 3 AND name = 'clean_pairs'"
    ) == [(1,)]
    ((measured, successes),) = ask(
        tiny_copy, "SELECT count(stability), sum(success) FROM sample WHERE attack_id = 2"
    )
    assert measured == successes > 0
