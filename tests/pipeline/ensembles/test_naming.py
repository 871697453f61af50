"""Names of ensembles: a name means one thing, and says what differs from the recipe."""

from dataclasses import replace

import pytest
from sqlalchemy import select

from jsdelta_db.config.recipes import get_recipe
from jsdelta_db.errors import UsageError
from jsdelta_db.pipeline.ensembles.naming import choose_name
from jsdelta_db.store.schema import Dataset
from jsdelta_db.store.session import open_store
from tests.reading import ask, tell
from tests.workspaces import tiny_recipe

UID = "SELECT uid FROM ensemble WHERE name = 'digits'"


def name_of(workspace, recipe, seed=0, given=None):
    """Return the name that a training of a recipe would have, and what is reported about it."""
    store = open_store(workspace.db_url)
    try:
        with store.read_session() as session:
            dataset = session.scalars(select(Dataset)).one()
            name, remark = choose_name(session, recipe, seed, dataset, given)
            return name, [remark] if remark else []
    finally:
        store.close()


@pytest.mark.parametrize(
    ("changes", "label"),
    [
        ({}, "digits"),
        ({"members": 7}, "digits"),
        ({"epochs": 20}, "digits"),
        ({"epochs": 3}, "digits-epochs3"),
        ({"method": "sam", "sam_rho": 0.1}, "digits-sam-rho0.1"),
        ({"method": "sam", "sam_rho": 0.1, "sam_adaptive": True}, "digits-sam-rho0.1-adaptive"),
        (
            {"method": "adversarial", "train_norm": "linf", "train_eps": 8 / 255, "train_steps": 5,
             "train_step_size": 1.5 / 255},
            "digits-adversarial-linf-eps8-steps5-stepsize1.5",
        ),
        ({"arch": "nets:make", "width": 8, "dtype": "bfloat16"}, "digits-nets.make-width8-bfloat16"),
        ({"dataset": "digits-det"}, "digits-on-digits-det"),
    ],
)  # fmt: skip
def test_a_recipes_label_says_what_differs_from_it_as_written(changes, label):
    """Settings that replace the recipe's own are in the name; how many members it has is not."""
    assert get_recipe("digits").override(**changes).label == label


def test_a_mixed_recipe_is_labelled_so():
    """Members of several architectures are mixed."""
    assert get_recipe("digits").mix(["cnn-small", "resnet8"]).label == "digits-mixed"


def test_a_free_default_name_is_the_label_and_the_seed(tiny):
    """Another configuration has another name, without a word."""
    recipe = get_recipe("digits").override(epochs=2)
    assert name_of(tiny, recipe) == ("digits-epochs2", [])
    assert name_of(tiny, recipe, seed=7) == ("digits-epochs2-seed7", [])


def test_the_same_training_finds_its_ensemble_under_the_name_that_an_earlier_version_gave(tiny):
    """A store of version 0.1 calls every ensemble of a recipe alike; the same command takes it again."""
    same = tiny_recipe()
    assert name_of(tiny, same) == ("digits", [])
    assert name_of(tiny, replace(same, written=get_recipe("digits").train)) == ("digits", [])


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"members": 5, "epochs": 3}, "members 3, here 5"),
        ({"members": 3}, "epochs 3, here 20"),
        ({"members": 3, "epochs": 2, "batch_size": 16, "momentum": 0.5, "weight_decay": 0.0},
         "batch_size 32, here 16; epochs 3, here 2; momentum 0.9, here 0.5"),
    ],
)  # fmt: skip
def test_a_default_name_that_is_taken_is_reported_and_another_is_chosen(changes, difference, tiny):
    """Who has the name and what differs is said; the new ensemble gets the next name."""
    recipe = get_recipe("digits").override(**changes)
    ((uid,),) = ask(tiny, UID)
    name, said = name_of(tiny, replace(recipe, written=recipe.train))
    (line,) = said
    start, _, shown = line.partition("(")
    assert name == "digits-2"
    assert start == f"the name 'digits' is taken by ensemble {uid} "
    assert set(shown.removesuffix("); this ensemble is 'digits-2'").split("; ")) <= {
        *difference.split("; "), "weight_decay 0.001, here 0.0",
    }  # fmt: skip


def test_a_name_that_is_given_and_taken_is_refused(tiny):
    """--name of another finished ensemble is one line with its uid; its own name is no other's."""
    ((uid,),) = ask(tiny, UID)
    with pytest.raises(UsageError) as caught:
        name_of(tiny, tiny_recipe(epochs=2), given="digits")
    assert str(caught.value) == (
        f"--name 'digits' is taken by ensemble {uid} (epochs 3, here 2); choose another name"
    )
    assert name_of(tiny, tiny_recipe(), given="digits") == ("digits", [])
    with pytest.raises(UsageError, match="first seed 0, here 4"):
        name_of(tiny, tiny_recipe(), seed=4, given="digits")


@pytest.mark.parametrize("status", ["pending", "failed"])
def test_an_ensemble_that_is_not_finished_does_not_block_a_name(status, tiny_copy):
    """What failed or was stopped has no claim; once it is finished under another's name, it is refused."""
    tell(tiny_copy, f"UPDATE ensemble SET status = '{status}'")
    assert name_of(tiny_copy, tiny_recipe(epochs=2), given="digits") == ("digits", [])
    assert name_of(tiny_copy, tiny_recipe(), given="digits") == ("digits", [])


def test_an_added_models_name_is_taken(tiny_copy):
    """One name is not an ensemble's and a model's."""
    tell(tiny_copy, "UPDATE model SET name = 'mine' WHERE seed = 0")
    ((uid,),) = ask(tiny_copy, "SELECT uid FROM model WHERE seed = 0")
    with pytest.raises(UsageError, match=f"--name 'mine' is taken by model {uid}; choose"):
        name_of(tiny_copy, tiny_recipe(), given="mine")
