"""Constructed data sets in a real store: made, stopped, found, opened, trained on and judged with."""

import json
import time

import numpy as np
import pytest
from mlflow import MlflowClient

from jsdelta_db.compute import data
from jsdelta_db.compute.constructions import choose_partners
from jsdelta_db.config.construction import ConstructionRequest
from jsdelta_db.errors import DataError, UnknownNameError, UsageError
from jsdelta_db.pipeline.attack import attack_and_score
from jsdelta_db.pipeline.datasets import build as build_module
from jsdelta_db.pipeline.datasets import parts as parts_module
from jsdelta_db.pipeline.datasets.build import build_dataset
from jsdelta_db.pipeline.evaluation.roles import RoleRequest
from jsdelta_db.pipeline.train import train_ensemble
from jsdelta_db.queries.datasets import DATASET_KEYS, FACT_KEYS, get_dataset, query_datasets
from jsdelta_db.runtime.leases import current_owner
from jsdelta_db.store.reading import reading
from jsdelta_db.store.schema import LEASED
from jsdelta_db.store.schema import Dataset as DatasetRow
from jsdelta_db.workbench.datasets import open_dataset
from jsdelta_db.workbench.workbench import open_workbench
from tests.reading import ask, contents, judges_of, tell
from tests.workspaces import Listening, copy_of, tiny_attacks, tiny_recipe

CHUNK_SIZE, IMAGES = 16, 40
SHORT = {"steps": 3, "images": IMAGES}


def build(workspace, kind="det", name="made", *, ensemble="digits", member=None, **changes):
    """Build a small data set from the tiny ensemble; return its row and whether it was built."""
    with open_workbench(workspace, chunk_size=CHUNK_SIZE) as bench:
        request = ConstructionRequest(kind, **{**SHORT, **changes})
        return build_dataset(bench, request, ensemble=ensemble, name=name, member=member)


def reopen(workspace, name):
    """Open a data set by name."""
    with open_workbench(workspace) as bench:
        return open_dataset(bench, name)[0]


@pytest.fixture(scope="module")
def with_a_set(tiny, tmp_path_factory):
    """A copy of the tiny store with a data set ``taken`` and an ensemble that is not finished."""
    workspace = copy_of(tiny, tmp_path_factory.mktemp("with_a_set") / "copy")
    build(workspace, "rand", "taken")
    tell(
        workspace,
        """INSERT INTO ensemble (uid, config_hash, created_at, name, dataset_id, status)
        VALUES ('half', 'half', '2026-01-01', 'half', 1, 'pending')""",
    )
    return workspace


@pytest.fixture
def digits(tiny_copy):
    """The builtin data set."""
    return data.load("digits", tiny_copy.data_dir)


def file_of(workspace, name="made"):
    """Return the path of a data set's file."""
    ((uri,),) = ask(workspace, "SELECT uri FROM dataset WHERE name = ?", name)
    return workspace.root / uri


@pytest.mark.parametrize("kind", ["robust", "nonrobust", "rand", "det"])
def test_a_constructed_set_has_its_own_train_split_and_the_roots_held_out_ones(tiny_copy, digits, kind):
    """Images come from the train split alone; baseline, attack, classes and normalization are the root's."""
    row, is_new = build(tiny_copy, kind)
    made = reopen(tiny_copy, "made")
    train, original = made.splits["train"], digits.splits["train"]
    rows = original.rows_of(train.index)
    assert (is_new, row.status, row.kind, row.seed) == (True, "finished", "constructed", 0)
    assert len(train) == IMAGES
    assert (original.index[rows] == train.index).all()
    assert made.fingerprint() == row.fingerprint
    assert (made.classes, made.mean, made.std) == (digits.classes, digits.mean, digits.std)
    for name in ("baseline", "attack"):
        assert (made.splits[name].images == digits.splits[name].images).all()
    distance = (train.batch(slice(None)) - original.batch(rows)).flatten(1).norm(dim=1)
    if kind in ("rand", "det"):
        assert float(distance.max()) <= 0.2
    else:
        assert float(distance.min()) > 0.01  # another image was moved
    if kind != "rand":
        shift = 1 if kind == "det" else 0
        assert train.labels.tolist() == ((original.labels[rows] + shift) % 10).tolist()


def test_the_row_says_how_it_was_made(tiny_copy):
    """Kind, settings as requested and resolved, the model and its method stand in the row; no part is left."""
    row, _ = build(tiny_copy, "det", member=1, seed=3, step_size=0.05, eps=0.1)
    facts = row.construction
    ((model,),) = ask(tiny_copy, "SELECT uid FROM model WHERE seed = 1")
    wanted = {
        "kind": "det", "steps": 3, "step_size": 0.05, "eps": 0.1, "norm": "l2", "seed": 3, "images": IMAGES,
        "n_images": IMAGES, "of": 897, "model": model, "member": 1, "ensemble": "digits",
        "method": "standard", "note": None, "chunk_size": CHUNK_SIZE, "device": "cpu",
        "requested_dtype": "auto",
    }  # fmt: skip
    assert {key: facts[key] for key in wanted} == wanted
    assert 0.0 <= facts["label_share"] <= 1.0
    assert [path.name for path in file_of(tiny_copy).parent.iterdir()] == ["dataset.npz"]


def test_mlflow_has_the_construction_and_both_data_sets(tiny_copy):
    """One finished run: parameters, the source and the result as inputs, the file as an artifact."""
    row, _ = build(tiny_copy)
    client = MlflowClient(f"sqlite:///{tiny_copy.root / 'mlflow.db'}")
    run = client.get_run(row.mlflow_run_id)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "dataset made")
    assert run.data.params["kind"] == "det"
    assert run.data.params["steps"] == "3"
    assert run.data.metrics["images"] == IMAGES
    inputs = {each.tags[0].value: each.dataset for each in run.inputs.dataset_inputs}
    assert {context: each.name for context, each in inputs.items()} == {
        "source": "digits",
        "constructed": "made",
    }
    assert inputs["constructed"].digest == row.fingerprint[:16]
    assert [each.path for each in client.list_artifacts(row.mlflow_run_id)] == ["dataset.npz"]


def test_the_same_construction_is_found(tiny_copy):
    """It is not made again, whatever it is called now, and the caller hears its name."""
    row, _ = build(tiny_copy)
    before = contents(tiny_copy)
    assert build(tiny_copy)[1] is False
    listening = Listening()
    with open_workbench(tiny_copy, listening) as bench:
        found, is_new = build_dataset(
            bench, ConstructionRequest("det", **SHORT), ensemble="digits", name="other"
        )
    assert (found.uid, is_new) == (row.uid, False)
    assert listening.lines == [f"this construction is there already, as 'made' ({row.uid})"]
    assert contents(tiny_copy) == before


def test_all_images_are_all_images(tiny_copy):
    """More images than there are mean the same as no number: one construction."""
    first, _ = build(tiny_copy, steps=1, images=None)
    again, is_new = build(tiny_copy, steps=1, images=5000)
    assert (again.uid, is_new) == (first.uid, False)


def test_a_smaller_set_is_part_of_a_larger_one(tiny_copy):
    """--images scales down to a subset: each image is made alike."""
    build(tiny_copy, "robust", "large", dtype="float32")
    build(tiny_copy, "robust", "small", dtype="float32", images=10)
    large, small = (reopen(tiny_copy, name).splits["train"] for name in ("large", "small"))
    rows = np.searchsorted(large.index, small.index)
    assert (large.index[rows] == small.index).all()
    assert float((large.images[rows].float() - small.images.float()).abs().max()) < 2e-3


@pytest.mark.parametrize(("kind", "noted"), [("robust", True), ("nonrobust", False)])
def test_another_method_than_the_definitions_is_noted(tiny_copy, kind, noted):
    """It is said once and recorded."""
    listening = Listening()
    with open_workbench(tiny_copy, listening) as bench:
        row, _ = build_dataset(bench, ConstructionRequest(kind, **SHORT), ensemble="digits", name="made")
    assert (row.construction["note"] is not None) is noted
    assert (
        any("defined with adversarial training, made with standard" in line for line in listening.lines)
        is noted
    )


def _interrupt_after(parts, monkeypatch):
    """Let Ctrl-C come during a part; return how often a part was begun."""
    calls, construct = [], parts_module.construct

    def interrupted(*given):
        calls.append(given)
        if len(calls) == parts + 1:
            raise KeyboardInterrupt
        return construct(*given)

    monkeypatch.setattr(parts_module, "construct", interrupted)
    return calls


@pytest.mark.parametrize("kind", ["robust", "rand"])
def test_a_stopped_build_goes_on_and_ends_with_the_same_bytes(tiny_copy, kind, monkeypatch):
    """Finished parts are kept, the others made; the file equals that of a build that nobody stopped."""
    with monkeypatch.context() as patch:
        _interrupt_after(2, patch)
        with pytest.raises(KeyboardInterrupt):
            build(tiny_copy, kind)
    assert ask(tiny_copy, "SELECT status, owner, sha256 FROM dataset WHERE name = 'made'") == [
        ("pending", None, None)
    ]
    with monkeypatch.context() as patch:
        calls = _interrupt_after(99, patch)
        row, is_new = build(tiny_copy, kind)
    assert (len(calls), is_new) == (1, True)  # of three
    stopped = file_of(tiny_copy).read_bytes()
    tell(tiny_copy, "DELETE FROM dataset WHERE name = 'made'")
    whole, _ = build(tiny_copy, kind, name="whole")
    assert (whole.sha256, whole.construction) == (row.sha256, row.construction)
    assert file_of(tiny_copy, "whole").read_bytes() == stopped


def test_a_part_that_is_not_whole_is_made_again(tiny_copy, monkeypatch):
    """A damaged part does not get into the data set."""
    with monkeypatch.context() as patch:
        _interrupt_after(2, patch)
        with pytest.raises(KeyboardInterrupt):
            build(tiny_copy)
    part = file_of(tiny_copy).parent / "parts" / "part-00001.npz"
    part.write_bytes(part.read_bytes()[:-40])
    calls = _interrupt_after(99, monkeypatch)
    build(tiny_copy)
    assert len(calls) == 2
    assert len(reopen(tiny_copy, "made").splits["train"]) == IMAGES


def test_a_build_that_fails_can_be_repeated(tiny_copy, monkeypatch):
    """An error marks the row; the same command goes on."""
    with monkeypatch.context() as patch:
        patch.setattr(build_module, "write_arrays", lambda *given: (_ for _ in ()).throw(DataError("no")))
        with pytest.raises(DataError):
            build(tiny_copy)
    assert ask(tiny_copy, "SELECT status FROM dataset WHERE name = 'made'") == [("failed",)]
    with pytest.raises(UsageError, match="'made' is not finished"):
        reopen(tiny_copy, "made")
    assert build(tiny_copy)[1] is True


def test_what_another_process_makes_is_waited_for(tiny_copy, monkeypatch):
    """A lease in live hands is respected; what they finish is found."""
    build(tiny_copy)
    tell(tiny_copy, "UPDATE dataset SET status = 'running', owner = ? WHERE name = 'made'", current_owner())
    monkeypatch.setattr(
        time, "sleep",
        lambda seconds: tell(tiny_copy, "UPDATE dataset SET status = 'finished' WHERE name = 'made'"),
    )  # fmt: skip
    listening = Listening()
    with open_workbench(tiny_copy, listening) as bench:
        _, is_new = build_dataset(bench, ConstructionRequest("det", **SHORT), ensemble="digits", name="made")
    assert is_new is False
    assert "is being made by" in listening.lines[0]
    assert DatasetRow in LEASED


def test_a_build_begun_on_another_device_is_not_mixed(tiny_copy, monkeypatch):
    """Its parts would not be alike."""
    with monkeypatch.context() as patch:
        _interrupt_after(1, patch)
        with pytest.raises(KeyboardInterrupt):
            build(tiny_copy)
    tell(
        tiny_copy,
        """UPDATE dataset SET construction = json_set(construction, '$.device', 'cuda')
        WHERE name = 'made'""",
    )
    with pytest.raises(UsageError, match="begun on cuda and this is cpu"):
        build(tiny_copy)


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_changed_file_is_refused(tiny_copy, damage):
    """Opening, training on it and building it again say so; nothing is made."""
    build(tiny_copy)
    path = file_of(tiny_copy)
    if damage == "missing":
        path.unlink()
    else:
        content = bytearray(path.read_bytes())
        content[2000] ^= 1
        path.write_bytes(content)
    before = contents(tiny_copy)
    recipe = tiny_recipe(dataset="made", members=2)
    with open_workbench(tiny_copy) as bench:
        for call in (
            lambda: open_dataset(bench, "made"),
            lambda: train_ensemble(bench, recipe, name="x"),
            lambda: build_dataset(bench, ConstructionRequest("det", **SHORT), ensemble="digits", name="made"),
        ):
            with pytest.raises(DataError, match=f"dataset 'made': its file .* {damage}; restore it"):
                call()
    assert contents(tiny_copy) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ensemble": "nobody"}, "unknown ensemble 'nobody'"),
        ({"ensemble": "half"}, "ensemble 'half' is not finished"),
        ({"member": 9}, "--member 9 is no seed of ensemble 'digits': must be 0, 1, 2"),
        ({"kind": "bugs"}, "kind 'bugs' is not valid"),
        ({"steps": 0}, "steps 0 is not valid"),
        ({"kind": "robust", "eps": 0.5}, "does not fit a robust data set"),
        ({"eps": 0.001}, "less than float16 images can hold"),
        ({"name": "digits"}, "'digits' is a builtin data set's"),
        ({"name": "cifar10"}, "'cifar10' is a builtin data set's"),
        ({"name": "123"}, "--name '123' is not valid"),
        ({"name": ""}, "--name '' is not valid"),
        ({"name": "../made"}, "--name '../made' is not valid"),
        ({"name": "taken"}, "--name 'taken' is taken by another construction"),
    ],
)
def test_bad_input_makes_nothing(with_a_set, changes, message):
    """One line each; no row, no file."""
    before = contents(with_a_set)
    with pytest.raises(UsageError, match=message) as refusal:
        build(with_a_set, **changes)
    assert "\n" not in str(refusal.value)
    assert contents(with_a_set) == before


def test_a_construction_from_an_ensemble_on_other_data_is_refused(tiny_copy):
    """The train split must be the one that the ensemble was trained on."""
    tell(tiny_copy, "UPDATE dataset SET fingerprint = 'something else'")
    with pytest.raises(UsageError, match="not the one the ensemble was trained on"):
        build(tiny_copy)


def test_the_second_order_keeps_the_chain_of_parents(tiny_copy):
    """A set made by a network that was trained on a constructed set comes from that set's images."""
    build(tiny_copy, "robust", "once")
    with open_workbench(tiny_copy) as bench:
        train_ensemble(bench, tiny_recipe(dataset="once", members=1, epochs=1), name="on-once")
    row, _ = build(tiny_copy, "robust", "second", ensemble="on-once", images=10, steps=1, step_size=1e-4)
    first, second = (reopen(tiny_copy, name).splits["train"] for name in ("once", "second"))
    partners = first.images[choose_partners(first, first.rows_of(second.index), 0)]
    assert float((second.images.float() - partners.float()).abs().max()) < 1e-3
    assert ask(tiny_copy, "SELECT child.name, parent.name FROM dataset child JOIN dataset parent"
               " ON parent.id = child.parent_id ORDER BY child.id") == [("once", "digits"), ("second", "once")]  # fmt: skip
    with reading(tiny_copy.db_url) as reader:
        facts = get_dataset(reader, "second")
    assert (facts["root"], facts["chain"], facts["uid"]) == ("digits", "digits > once > second", row.uid)


def test_models_of_a_constructed_set_and_of_its_root_judge_each_other(tiny_copy):
    """Attacks, baselines and logits belong to the root's row, whoever is attacked and whoever judges."""
    build(tiny_copy, "det", "made")
    with open_workbench(tiny_copy) as bench:
        trained = train_ensemble(bench, tiny_recipe(dataset="made", members=2), name="on-made")
        judged = attack_and_score(
            bench, tiny_attacks(8, images=20), RoleRequest(ensemble="on-made", evaluators=["digits"])
        )
        back = attack_and_score(
            bench, tiny_attacks(8, images=20), RoleRequest(ensemble="digits", evaluators=["on-made:0,1"])
        )
    models = {member.id for member in trained.members}
    assert all(0.0 <= member.clean_accuracy <= 1.0 for member in trained.members)
    assert judges_of(tiny_copy, judged.evaluations[0]) == [0, 1, 2]
    assert judges_of(tiny_copy, back.evaluations[0]) == [0, 1]
    root = ask(tiny_copy, "SELECT id FROM dataset WHERE name = 'digits'")
    assert ask(tiny_copy, "SELECT DISTINCT dataset_id FROM attack") == root
    assert ask(tiny_copy, "SELECT DISTINCT dataset_id FROM rho_baseline") == root
    for model in models:
        assert (model, *root[0]) in ask(
            tiny_copy, "SELECT model_id, dataset_id FROM model_logits WHERE split = 'baseline'"
        )


def test_models_of_different_roots_do_not_meet(tiny_copy):
    """A set whose root is another data set is for other images."""
    build(tiny_copy, "det", "made")
    with open_workbench(tiny_copy) as bench:
        train_ensemble(bench, tiny_recipe(dataset="made", members=2, epochs=1), name="on-made")
        tell(
            tiny_copy,
            """INSERT INTO dataset (uid, config_hash, name, kind, classes, created_at, status)
            VALUES ('other', 'other', 'other', 'builtin', '[]', '2026-01-01', 'finished')""",
        )
        tell(tiny_copy, "UPDATE dataset SET parent_id = (SELECT id FROM dataset WHERE uid = 'other') "
             "WHERE name = 'made'")  # fmt: skip
        with pytest.raises(UsageError, match="for different data sets"):
            attack_and_score(bench, tiny_attacks(8), RoleRequest(ensemble="on-made", evaluators=["digits"]))


def test_opening_by_uid_prefix_and_by_no_name(tiny_copy):
    """A unique prefix will do; an unknown name lists what there is, builtin and constructed."""
    row, _ = build(tiny_copy)
    assert reopen(tiny_copy, row.uid[:8]).name == "made"
    with pytest.raises(UnknownNameError, match=r"there is: digits, .*, svhn, .*, made"):
        reopen(tiny_copy, "unknown")


def test_the_list_reads_alike_on_postgresql(postgres_url, tmp_path):
    """JSON comes as a mapping there and as text from SQLite; the rows are the same."""
    from jsdelta_db.store import runs
    from jsdelta_db.store.creating import open_for_writing
    from jsdelta_db.store.migrate import upgrade

    listed = []
    for url in (postgres_url, f"sqlite:///{tmp_path / 'jsdelta.db'}"):
        upgrade(url)
        store = open_for_writing(url)
        with store.transaction() as session:
            root = runs.ensure_dataset(session, name="digits", classes=["a"], fingerprint="f" * 64)
            session.add(
                DatasetRow(
                    uid="d" * 16, config_hash="h", created_at=runs.now(), name="made", kind="constructed",
                    classes=["a"], parent_id=root.id, seed=1, status="pending",
                    construction={"kind": "det", "model": "m", "n_images": 7, "eps": 0.2},
                )
            )  # fmt: skip
        store.close()
        with reading(url) as reader:
            listed.append(query_datasets(reader))
    assert listed[0] == listed[1]
    assert [list(row) for row in listed[0]] == [list(FACT_KEYS)] * 2
    assert {key: listed[0][1][key] for key in DATASET_KEYS} == {
        "name": "made", "uid": "d" * 16, "kind": "constructed", "construction": "det", "parent": "digits",
        "model": "m", "images": 7, "status": "pending",
    }  # fmt: skip
    assert json.dumps(listed[0])
