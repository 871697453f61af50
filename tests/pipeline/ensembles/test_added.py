"""Added ensembles: models put together, found again, attacked like any other; and what is refused."""

from pathlib import Path

import pytest
import torch

from jsdelta_db.errors import CheckpointError, UsageError
from jsdelta_db.maintenance.check import find_problems
from jsdelta_db.pipeline.attack import attack_and_score
from jsdelta_db.pipeline.ensembles.added import add_ensemble
from jsdelta_db.pipeline.evaluation.roles import RoleRequest
from jsdelta_db.pipeline.external_models import ExternalRequest, add_model
from jsdelta_db.queries.ensembles import query_ensembles
from jsdelta_db.store.session import reading_store
from jsdelta_db.workbench.workbench import open_workbench
from tests import elsewhere
from tests.reading import ask, contents, judges_of, tell
from tests.workspaces import copy_of, tiny_attacks

NAMES = ("one", "two", "three")


@pytest.fixture(scope="module")
def three(tiny, tmp_path_factory):
    """The tiny store with three models that were added, all of seed 0; only read."""
    folder = tmp_path_factory.mktemp("three")
    workspace = copy_of(tiny, folder / "workspace")
    for position, name in enumerate(NAMES):
        state = elsewhere.nearest_means()
        state["1.weight"] = state["1.weight"] + 0.5 * torch.randn(
            state["1.weight"].shape, generator=seeded(position)
        )
        torch.save(state, folder / f"{name}.pt")
        with open_workbench(workspace) as bench:
            add_model(bench, ExternalRequest(name, "tests.elsewhere:linear", folder / f"{name}.pt", "digits"))
    return workspace


def seeded(seed):
    """A generator of one's own."""
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def copied(three, tmp_path):
    """A copy of it that a test may change."""
    return copy_of(three, tmp_path / "copy")


def add(workspace, name, *references):
    """Make an ensemble the way ``jsdelta ensembles add`` does."""
    with open_workbench(workspace) as bench:
        return add_ensemble(bench, name, references)


def attack(workspace, **references):
    """Attack a few images; return what was evaluated."""
    with open_workbench(workspace) as bench:
        configs = tiny_attacks(8, images=10, steps=2)
        return attack_and_score(bench, configs, RoleRequest(**references)).evaluations


def test_attacks_default_to_it(copied):
    """It is an ensemble like any other: the newest, whose first member is attacked and whose others judge."""
    row, is_new = add(copied, "elsewhere", "three", "one", "two")
    assert is_new
    (uid,) = attack(copied)
    asked = (
        "SELECT attacked.name, judge.name, evaluation.ensemble_id FROM evaluation "
        "JOIN attack ON attack.id = attack_id JOIN model AS attacked ON attacked.id = attacked_model_id "
        "JOIN evaluation_member ON evaluation_id = evaluation.id JOIN model AS judge ON judge.id = model_id "
        "WHERE evaluation.uid = ? ORDER BY position"
    )
    assert ask(copied, asked, uid) == [("three", "one", row.id), ("three", "two", row.id)]
    with reading_store(copied.db_url) as connection:
        assert list(find_problems(connection, copied.root)) == []


def test_it_is_compared_like_the_others(copied):
    """Accuracy is its members' mean, agreement is measured on the same images as of trained ones."""
    row, _ = add(copied, "elsewhere", "one", "two")
    with reading_store(copied.db_url) as connection:
        trained, added = query_ensembles(connection)
    accuracies = [
        value for (value,) in ask(copied, "SELECT clean_accuracy FROM model WHERE name IN ('one', 'two')")
    ]
    assert (added["name"], added["uid"], added["members"]) == ("elsewhere", row.uid, 2)
    assert added["clean_accuracy"] == pytest.approx(sum(accuracies) / 2)
    assert 0.5 < added["agreement"] < 1
    assert ask(copied, "SELECT split, n FROM model_metric WHERE name LIKE 'agreement:%'") == [
        ("attack", n) for (n,) in ask(copied, "SELECT n FROM model_metric WHERE name LIKE 'agreement:%'")
    ]
    assert trained["agreement"] is not None


def test_the_same_one_is_found(copied):
    """Again it is found, and nothing is new; in another order it is another ensemble, and the name is taken."""
    row, _ = add(copied, "elsewhere", "one", "two")
    before = contents(copied)
    again, is_new = add(copied, "elsewhere", "one", "two", "one")
    assert (again.uid, is_new) == (row.uid, False)
    with pytest.raises(
        UsageError, match=rf"there is another ensemble 'elsewhere' \({row.uid}\); choose another name"
    ):
        add(copied, "elsewhere", "two", "one")
    assert contents(copied) == before


def test_members_may_be_trained_and_added(copied):
    """Any reference to models serves; all of them take part."""
    add(copied, "mixed", "digits:1,2", "one")
    assert ask(
        copied,
        "SELECT model.name, model.seed FROM ensemble_member JOIN model ON model.id = model_id "
        "JOIN ensemble ON ensemble.id = ensemble_id WHERE ensemble.name = 'mixed' ORDER BY position",
    ) == [(None, 1), (None, 2), ("one", 0)]
    (uid,) = attack(copied, ensemble="mixed", attacked="one")
    assert judges_of(copied, uid) == [1, 2]


def test_members_of_one_seed_are_told_apart_by_their_names(copied):
    """A seed that several members have means none of them: the line names them."""
    add(copied, "elsewhere", "one", "two", "three")
    for reference in ("0", "elsewhere:0"):
        with pytest.raises(
            UsageError, match=r"3 members of 'elsewhere' have seed 0; name one of one, two, three"
        ):
            attack(copied, attacked=reference)
    (uid,) = attack(copied, attacked="two")
    assert ask(copied, "SELECT ensemble_id IS NOT NULL FROM evaluation WHERE uid = ?", uid) == [(1,)]


@pytest.mark.parametrize(
    ("name", "references", "message"),
    [
        ("elsewhere", [], "--models names no model: must be 2 or more"),
        ("elsewhere", ["one"], "--models names 1 model: must be 2 or more, of which one is attacked"),
        ("elsewhere", ["one", "one"], "--models names 1 model"),
        ("elsewhere", ["one", "nobody"], "'nobody' is no model or ensemble"),
        ("digits", ["one", "two"], "there is another ensemble 'digits'"),
        ("three", ["one", "two"], "there is a model 'three'"),
        ("all", ["one", "two"], "ensemble name 'all' is not valid"),
        ("a:b", ["one", "two"], "ensemble name 'a:b' is not valid"),
    ],
)
def test_what_is_no_ensemble_is_refused(name, references, message, copied):
    """Too few models, names that are not there, and names that are taken: one line, nothing is stored."""
    before = contents(copied)
    with pytest.raises(UsageError, match=message) as raised:
        add(copied, name, *references)
    assert "\n" not in str(raised.value)
    assert contents(copied) == before


def test_models_of_the_same_weights_are_refused(copied, three):
    """Under another name it would only repeat the first one's judgement."""
    path = Path(three.root).parent / "one.pt"
    with open_workbench(copied) as bench:
        add_model(bench, ExternalRequest("twin", "tests.elsewhere:linear", path, "digits", seed=1))
    with pytest.raises(UsageError, match="--models twin: twin has the weights of one"):
        add(copied, "elsewhere", "one", "twin")


def test_models_for_different_data_sets_are_refused(copied):
    """No image could be shown to all of them."""
    columns = [
        name for _, name, *_ in ask(copied, "PRAGMA table_info(dataset)") if name not in ("id", "uid", "name")
    ]
    listed = ", ".join(columns)
    tell(copied, f"INSERT INTO dataset (uid, name, {listed}) SELECT 'feed', 'other', {listed} FROM dataset")
    tell(
        copied,
        "UPDATE model SET dataset_id = (SELECT id FROM dataset WHERE name = 'other') WHERE name = 'two'",
    )
    with pytest.raises(
        UsageError, match=r"different data sets \(one for digits, two for other\); name models for"
    ):
        add(copied, "elsewhere", "one", "two")


def test_a_member_whose_weights_are_gone_is_said(copied):
    """What cannot be opened makes no ensemble."""
    ((uri,),) = ask(copied, "SELECT checkpoint_uri FROM model WHERE name = 'two'")
    (copied.root / uri).unlink()
    with pytest.raises(CheckpointError, match="is missing or altered"):
        add(copied, "elsewhere", "one", "two")
    assert ask(copied, "SELECT count(*) FROM ensemble") == [(1,)]
