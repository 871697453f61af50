"""Deleting runs: what needs them, which rows, files and MLflow runs go, and what is left alone."""

import sqlite3
import time
from contextlib import closing

import pytest
from sqlalchemy import event, text

from jsdelta_db.errors import InUseError, UsageError
from jsdelta_db.maintenance.check import find_problems
from jsdelta_db.maintenance.delete import delete, find_deletion
from jsdelta_db.pipeline.ensembles.resume_file import ResumeFile, StoppedTraining
from jsdelta_db.runtime.files import locked
from jsdelta_db.runtime.leases import current_owner
from jsdelta_db.store.deletion import delete_rows, list_named, name_dependents, plan_deletion
from jsdelta_db.store.relations import needs, owners, parts, runs
from jsdelta_db.store.schema import (
    RUNNING,
    Attack,
    AttackSurrogate,
    Base,
    Dataset,
    Evaluation,
    EvaluationChunk,
    ImageCount,
    Model,
    ModelLogits,
    ModelMetric,
    ScoreSegment,
)
from jsdelta_db.workbench.deletions import Leftovers, Remains
from jsdelta_db.workbench.workbench import open_workbench
from tests.cli.calls import call, refused
from tests.stores import (
    ENGINES,
    add_attack,
    add_chunks,
    add_dataset,
    add_ensemble,
    add_evaluation,
    add_model,
    add_samples,
    add_scores,
    new_store,
)

ROWS = [(1, 0, 1, 1, 0.1), (2, 0, 2, 0, None)]
ELSEWHERE = "another-host\tboot\t1\t1"


@pytest.fixture(params=ENGINES)
def store(request, tmp_path):
    """An empty store on each engine."""
    with new_store(request, tmp_path) as opened:
        yield opened


@pytest.fixture
def family(store):
    """A data set and four models; an ensemble of three, two attacks, judged; a data set made with the first model.

    Seed 3 is nobody's member: it is the surrogate of the second attack.
    """
    with store.transaction() as session:
        dataset = add_dataset(session)
        models = [add_model(session, dataset, seed) for seed in range(4)]
        ensemble = add_ensemble(session, dataset, models[:3])
        first, second = add_attack(session, models[0]), add_attack(session, models[1])
        session.add(AttackSurrogate(attack_id=second.id, position=0, model_id=models[3].id))
        of_first = add_evaluation(session, first, models[1:3], ensemble)
        of_second = add_evaluation(session, second, models[2:3])
        for attack, evaluation in ((first, of_first), (second, of_second)):
            add_chunks(session, attack, evaluation, 3)
            add_samples(session, attack, ROWS)
            add_scores(session, evaluation, ROWS)
        made = add_dataset(
            session, name="made", kind="constructed", parent_id=dataset.id,
            construction={"kind": "det", "model": models[0].uid},
        )  # fmt: skip
        add_model(session, made, 9)
        for model in models:
            key = {"model_id": model.id, "dataset_id": dataset.id, "split": "attack"}
            session.add(ModelMetric(**key, name="clean_accuracy", norm="", eps=0, steps=0, value=0.9, n=9))
            session.add(ModelLogits(**key, uri=f"logits-{model.seed}", sha256="0"))
        session.add(
            ImageCount(
                evaluation_id=of_first.id, n_undefined=0, bits=1, success=b"", failure=b"",
                crc32=0, segments_crc32=0,
            )
        )  # fmt: skip
        session.add(
            ScoreSegment(
                evaluation_id=of_first.id, position=0, n=0, success=1, sample_index=b"", label_pair=b"",
                n_right=b"", js_delta=b"", checksums=b"",
            )
        )  # fmt: skip
    return {
        "dataset": dataset, "made": made, "models": models, "ensemble": ensemble,
        "attacks": (first, second), "evaluations": (of_first, of_second),
    }  # fmt: skip


def plan(store, uid):
    with store.transaction() as session:
        return plan_deletion(session, uid)


def kinds(deletion):
    """Return how many of each kind go."""
    return {kind: len(ids) for kind, ids in deletion.ids.items()}


def count(store):
    with store.reading() as connection:
        return {
            name: connection.execute(text(f"SELECT count(*) FROM {name}")).scalar()
            for name in Base.metadata.tables
        }


def test_every_table_is_a_run_or_belongs_to_one():
    """A table added later is either run-like or says by a foreign key whose it is: else deleting would miss it."""
    assert {*runs(), *parts()} == set(Base.metadata.tables)
    assert {name for name, part in parts().items() if not owners(part)} == set()
    assert [name for name in ("sample", "score", "score_segment", "image_count") if name not in parts()] == []


def test_needs_cover_every_foreign_key_between_runs():
    """Each foreign key to a run is either the key of a part or a need."""
    needed = {(need.needed_id.table.name, need.needed_id.name) for need in needs()}
    owned = {(name, link.column.name) for name, part in parts().items() for link in owners(part)}
    keys = {
        (table.name, key.parent.name)
        for table in Base.metadata.tables.values()
        for key in table.foreign_keys
        if key.column.name == "id"
    }
    assert keys == needed | owned
    assert needed & owned == set()


def test_evaluation_goes_alone(store, family):
    """Nothing needs an evaluation: its rows go with it and no others."""
    before, evaluation = count(store), family["evaluations"][0]
    found = plan(store, evaluation.uid[:8])
    assert kinds(found) == {"evaluation": 1}
    # itself, 2 members, 3 chunks, 2 scores, 1 segment, 1 count by image
    assert [(each.kind, each.uid, each.rows) for each in found.runs] == [("evaluation", evaluation.uid, 10)]
    with store.transaction() as session:
        assert delete_rows(session, found).rows == 10
    gone = {name: before[name] - rows for name, rows in count(store).items() if before[name] != rows}
    assert gone == {
        "evaluation": 1, "evaluation_member": 2, "evaluation_chunk": 3, "score": 2, "score_segment": 1,
        "image_count": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("pick", "expected"),
    [
        (lambda of: of["evaluations"][1], {"evaluation": 1}),
        (lambda of: of["attacks"][0], {"attack": 1, "evaluation": 1}),
        (lambda of: of["ensemble"], {"ensemble": 1, "evaluation": 1}),
        # a judge only: the ensemble, and what it judged
        (lambda of: of["models"][2], {"model": 1, "ensemble": 1, "evaluation": 2}),
        # a surrogate only: the attack that looked at it, and what judged that
        (lambda of: of["models"][3], {"model": 1, "attack": 1, "evaluation": 1}),
        # attacked, member, and what a data set was made with, that another model learned
        (
            lambda of: of["models"][0],
            {"model": 2, "ensemble": 1, "attack": 1, "evaluation": 1, "dataset": 1},
        ),
        (lambda of: of["made"], {"dataset": 1, "model": 1}),
        (
            lambda of: of["dataset"],
            {"dataset": 2, "model": 5, "ensemble": 1, "attack": 2, "evaluation": 2},
        ),
    ],
    ids=["evaluation", "attack", "ensemble", "judge", "surrogate", "attacked", "made data set", "data set"],
)
def test_cascade_catches_all_that_needs_it(pick, expected, store, family, tmp_path):
    """What goes with each kind of run, by every way that something can need it; nothing points to it afterwards."""
    before = sum(count(store).values())
    found = plan(store, pick(family).uid)
    assert kinds(found) == expected
    assert found.runs[0].uid == pick(family).uid
    with store.transaction() as session:
        freed = delete_rows(session, found)
    assert sum(count(store).values()) == before - freed.rows
    with store.reading() as connection:
        assert [line for line in find_problems(connection, tmp_path) if "database" in line] == []


def test_whole_family_leaves_nothing(store, family):
    """With the data set goes every row: no table is forgotten."""
    found = plan(store, family["dataset"].uid)
    with store.transaction() as session:
        freed = delete_rows(session, found)
        assert list_named(session) == (set(), set())
    assert set(count(store).values()) == {0}
    assert {"logits-0", "logits-3", "checkpoint.pt"} <= freed.uris


def test_file_that_another_row_names_is_kept(store, family):
    """Two rows may name one file: it is freed with the last of them only."""
    with store.transaction() as session:
        twin = add_model(session, family["dataset"], 20, checkpoint_uri="own.pt")
        shares = add_model(session, family["dataset"], 21, checkpoint_uri="own.pt")
    with store.transaction() as session:
        freed = delete_rows(session, plan_deletion(session, twin.uid))
        assert "own.pt" in list_named(session)[0]
    assert "own.pt" not in freed.uris
    with store.transaction() as session:
        assert delete_rows(session, plan_deletion(session, shares.uid)).uris == {"own.pt"}


def test_dependents_are_named(store, family):
    """People read what needs it: kind, start of the uid, name; many are summed up."""
    named = name_dependents(plan(store, family["models"][3].uid))
    attack, evaluation = family["attacks"][1], family["evaluations"][1]
    assert named == (
        f"attack {attack.uid[:8]} (linf 3/255, 6 attempts), "
        f"evaluation {evaluation.uid[:8]} (of attack {attack.uid[:8]}, temperature 1)"
    )
    assert name_dependents(plan(store, family["dataset"].uid)).endswith(
        ") and 5 more (2 attack, 2 evaluation, 1 model)"
    )


@pytest.mark.parametrize("where", ["part", "run", "what it waits for"])
def test_nothing_goes_while_a_process_works_on_it(where, store, family):
    """A live process's chunk, model or member in training: refused, with the process named."""
    with store.transaction() as session:
        if where == "part":
            chunk = session.get_one(EvaluationChunk, (family["evaluations"][0].id, 1))
            target = family["models"][0]
        elif where == "run":
            chunk = target = add_model(session, family["dataset"], 30, status=RUNNING)
        else:
            chunk = add_model(session, family["dataset"], 31, status=RUNNING)
            target = add_ensemble(session, family["dataset"], [chunk], status="pending")
        chunk.status, chunk.owner, chunk.heartbeat_at = RUNNING, current_owner(), time.time()
    with pytest.raises(
        InUseError, match=r"process \d+ on .* works on (evaluation|model) [0-9a-f]{16}; stop it"
    ):
        plan(store, target.uid)
    with store.transaction() as session:  # the process has died
        session.merge(chunk).owner = current_owner().rpartition("\t")[0] + "\t0"
    assert plan(store, target.uid).runs[0].uid == target.uid


def test_another_hosts_heartbeat_decides(store, family):
    """A process of another host counts as alive while its heart beats."""
    with store.transaction() as session:
        model = add_model(
            session, family["dataset"], 30, status=RUNNING, owner=ELSEWHERE, heartbeat_at=time.time()
        )
    with pytest.raises(InUseError, match="process 1 on another-host works on model"):
        plan(store, model.uid)
    with store.transaction() as session:
        session.get_one(Model, model.id).heartbeat_at = time.time() - 3600
    assert kinds(plan(store, model.uid)) == {"model": 1}


def test_what_came_to_need_it_meanwhile_is_not_deleted_unseen(store, family):
    """Between the list and the yes another evaluation was made: nothing goes, and the line says why."""
    found = plan(store, family["attacks"][0].uid)
    with store.transaction() as session:
        add_evaluation(session, session.get_one(Attack, family["attacks"][0].id), [])
    before = count(store)
    with pytest.raises(InUseError, match="has changed meanwhile"), store.transaction() as session:
        delete_rows(session, found)
    assert count(store) == before


def test_references_that_name_nothing_or_several(store, family):
    """Too short, unknown and ambiguous prefixes are refused, each with what would do."""
    with store.transaction() as session:
        add_dataset(session, uid="abcd000000000001")
        add_model(session, family["dataset"], 40, uid="abcd000000000002")
    with pytest.raises(UsageError, match=r"uid 'abc' is too short; give 4"):
        plan(store, "abc")
    with pytest.raises(UsageError, match=r"uid 'abcd' names 2; .*dataset abcd000000000001, model abcd"):
        plan(store, "abcd")
    with pytest.raises(UsageError, match=r"no dataset, .* has a uid that starts with 'zzzz'"):
        plan(store, "zzzz")
    with pytest.raises(UsageError, match="starts with 'ab%d'"):
        plan(store, "ab%d")


def uid_of(workspace, statement):
    with closing(sqlite3.connect(workspace.root / "jsdelta.db")) as connection:
        return connection.execute(statement).fetchone()[0]


def files_of(workspace):
    return {path for path in (workspace.root / "mlruns").rglob("*") if path.is_file()}


def mlflow_stages(workspace):
    """Return each MLflow run's stage by id."""
    with closing(sqlite3.connect(workspace.root / "mlflow.db")) as connection:
        return dict(connection.execute("SELECT run_uuid, lifecycle_stage FROM runs"))


def test_member_goes_with_its_files_and_runs(tiny_copy):
    """An evaluator's deletion: its folder and the evaluations' score files go, samples and other members stay."""
    uid = uid_of(tiny_copy, "SELECT uid FROM model WHERE seed = 1")
    run_id = uid_of(tiny_copy, "SELECT mlflow_run_id FROM model WHERE seed = 1")
    ensemble_run = uid_of(tiny_copy, "SELECT mlflow_run_id FROM ensemble")
    before = files_of(tiny_copy)
    with open_workbench(tiny_copy) as bench:
        with pytest.raises(InUseError, match=r"is needed by ensemble \w+ \(digits\), evaluation .*--cascade"):
            find_deletion(bench, uid)
        done = delete(bench, find_deletion(bench, uid, cascade=True))
        with bench.store.reading() as connection:
            assert list(find_problems(connection, tiny_copy.root)) == []
    gone = before - files_of(tiny_copy)
    assert len(gone) == done.n_files
    folder = tiny_copy.root / "mlruns" / run_id
    assert not folder.exists()
    assert {path for path in gone if not path.is_relative_to(folder)} == {
        path for path in before if path.parent.name == "scores"
    }
    # The evaluations' runs are their attacks' own, too, and stay.
    assert {run for run, stage in mlflow_stages(tiny_copy).items() if stage == "deleted"} == {
        run_id, ensemble_run,
    }  # fmt: skip
    assert done.n_mlflow_runs == 2


def test_everything_goes_with_the_data_set(tiny_copy):
    """With the data set no row, no run and no run's file is left."""
    uid = uid_of(tiny_copy, "SELECT uid FROM dataset")
    with open_workbench(tiny_copy) as bench:
        done = delete(bench, find_deletion(bench, uid, cascade=True))
    assert files_of(tiny_copy) == set()
    assert done.n_mlflow_runs == 7  # 3 members, their ensemble, 2 attacks and the run that held both
    assert set(mlflow_stages(tiny_copy).values()) == {"deleted"}


def test_a_plan_is_made_while_another_process_writes(tiny_copy):
    """Finding out what a deletion takes along only reads: a writer does not hold it up."""
    uid = uid_of(tiny_copy, "SELECT uid FROM model WHERE seed = 1")
    with open_workbench(tiny_copy) as bench, bench.store.transaction():
        assert find_deletion(bench, uid, cascade=True).runs[0].uid == uid


def test_a_failing_mlflow_fails_nothing(tiny_copy):
    """Where MLflow cannot be asked, rows and files go all the same, and one line says so."""
    (tiny_copy.root / "mlflow.db").write_bytes(b"no database " * 500)
    uid = uid_of(tiny_copy, "SELECT uid FROM model WHERE seed = 1")
    said = []
    with open_workbench(tiny_copy) as bench:
        bench.tracker.connection._report = said.append
        done = delete(bench, find_deletion(bench, uid, cascade=True))
    assert (done.n_mlflow_runs, len(said)) == (0, 1)
    assert "MLflow failed" in said[0]
    assert "the rows are gone all the same" in said[0]
    assert done.n_rows > 0


def test_run_that_mlflow_does_not_have_is_passed_over(tiny_copy):
    """Of runs that MLflow has lost the others are deleted nevertheless."""
    with closing(sqlite3.connect(tiny_copy.root / "jsdelta.db")) as connection:
        connection.execute("UPDATE model SET mlflow_run_id = '0123456789abcdef' WHERE seed = 1")
        connection.commit()
    uid = uid_of(tiny_copy, "SELECT uid FROM model WHERE seed = 1")
    with open_workbench(tiny_copy) as bench:
        assert delete(bench, find_deletion(bench, uid, cascade=True)).n_mlflow_runs == 1  # the ensemble's


class Killed(BaseException):
    """What no code handles: the process is gone."""


def dies(*given):
    """Take the place of a function in which the process is killed."""
    raise Killed


@pytest.mark.parametrize(
    "moment", ["_remove_files", "Tracker.delete_runs"], ids=["before the files", "before the runs"]
)
def test_a_killed_deletion_is_finished_by_the_next_command(moment, tiny_copy, capsys):
    """Killed once the rows are gone: the same command, or any other, removes the files and MLflow's runs."""
    uid = uid_of(tiny_copy, "SELECT uid FROM model WHERE seed = 1")
    run_id = uid_of(tiny_copy, "SELECT mlflow_run_id FROM model WHERE seed = 1")
    before = files_of(tiny_copy)
    with pytest.MonkeyPatch.context() as patch, open_workbench(tiny_copy) as bench:
        patch.setattr(f"jsdelta_db.workbench.deletions.{moment}", dies)
        with pytest.raises(Killed):
            delete(bench, find_deletion(bench, uid, cascade=True))
    assert "deleted" not in mlflow_stages(tiny_copy).values()
    code, out, err = call(capsys, tiny_copy, "db", "delete", uid[:8], "--cascade", "--yes")
    assert (code, out, err) == (0, "", f"finished the deletion of {uid}, which was cut short\n")
    assert mlflow_stages(tiny_copy)[run_id] == "deleted"
    assert not (tiny_copy.root / "mlruns" / run_id).exists()
    assert len(before - files_of(tiny_copy)) > 0
    assert call(capsys, tiny_copy, "db", "check")[:2] == (0, "ok\n")
    assert not (tiny_copy.root / ".deleting").exists()
    refused(capsys, tiny_copy, 2, "has a uid that starts with", "db", "delete", uid)  # and not once more


def test_a_deletion_killed_before_its_rows_went_never_happened(tiny_copy):
    """On record but not committed: the next command removes nothing."""
    uid = uid_of(tiny_copy, "SELECT uid FROM evaluation WHERE id = 1")
    before, stages = files_of(tiny_copy), mlflow_stages(tiny_copy)
    with pytest.MonkeyPatch.context() as patch, open_workbench(tiny_copy) as bench:
        record = Leftovers.record
        patch.setattr(Leftovers, "record", lambda *given: (record(*given), dies()))
        with pytest.raises(Killed):
            delete(bench, find_deletion(bench, uid))
    assert (tiny_copy.root / ".deleting" / f"{uid}.json").exists()
    with open_workbench(tiny_copy) as bench:
        assert bench.finished_deletions == ()
        assert find_deletion(bench, uid).runs[0].uid == uid
    assert (files_of(tiny_copy), mlflow_stages(tiny_copy)) == (before, stages)
    assert not (tiny_copy.root / ".deleting" / f"{uid}.json").exists()


def test_a_deletion_of_a_live_process_is_left_to_it(tiny_copy):
    """What another process is deleting right now is not touched, whether its rows are gone or not."""
    uid = uid_of(tiny_copy, "SELECT uid FROM evaluation WHERE id = 1")
    with open_workbench(tiny_copy) as bench:
        bench.leftovers.record(Remains(uid, [], [], [], ""))
        with locked(tiny_copy.root, wait=True), open_workbench(tiny_copy) as other:
            assert other.finished_deletions == ()
    assert (tiny_copy.root / ".deleting" / f"{uid}.json").exists()


def test_runs_that_mlflow_could_not_delete_go_later(tiny_copy):
    """While MLflow cannot be asked the record stays; the command that reaches it again removes the runs."""
    path = tiny_copy.root / "mlflow.db"
    whole = path.read_bytes()
    path.write_bytes(b"no database " * 500)
    uid = uid_of(tiny_copy, "SELECT uid FROM model WHERE seed = 1")
    run_id = uid_of(tiny_copy, "SELECT mlflow_run_id FROM model WHERE seed = 1")
    with open_workbench(tiny_copy) as bench:
        delete(bench, find_deletion(bench, uid, cascade=True))
    path.write_bytes(whole)
    with open_workbench(tiny_copy) as bench:
        assert bench.finished_deletions == (uid,)
    assert mlflow_stages(tiny_copy)[run_id] == "deleted"


@pytest.mark.parametrize("moment", ["planned", "between chunks"])
def test_an_attack_at_work_is_not_deleted(moment, tiny_copy):
    """From its first row to its end an attack is at work, also while none of its chunks is."""
    from jsdelta_db.pipeline.attack import attack_and_score
    from jsdelta_db.pipeline.evaluation import work
    from tests.workspaces import tiny_attacks

    finish, claim, tried = work.finish, work._claim, []

    def try_to_delete():
        with open_workbench(tiny_copy) as other:
            for table in ("attack", "evaluation", "ensemble"):
                uid = uid_of(tiny_copy, f"SELECT uid FROM {table} ORDER BY id DESC LIMIT 1")
                with pytest.raises(InUseError, match=r"works on evaluation"):
                    find_deletion(other, uid, cascade=True)
                tried.append(table)

    def claim_later(plan):
        if moment == "between chunks":
            try_to_delete()
        return claim(plan)

    def finish_later(*given):
        if moment == "planned":
            try_to_delete()
        return finish(*given)

    with pytest.MonkeyPatch.context() as patch, open_workbench(tiny_copy, chunk_size=20) as bench:
        patch.setattr(work, "finish", finish_later)
        patch.setattr(work, "_claim", claim_later)
        attack_and_score(bench, tiny_attacks(5, images=24, steps=1))
    assert len(tried) >= 3
    with open_workbench(tiny_copy) as bench:  # it is done
        find_deletion(bench, uid_of(tiny_copy, "SELECT uid FROM attack ORDER BY id DESC"), cascade=True)


def test_rows_that_can_not_go_take_no_file_with_them(tiny_copy):
    """Rows before files: where the transaction fails, rows, files and runs are as they were."""
    uid = uid_of(tiny_copy, "SELECT uid FROM model WHERE seed = 1")
    before, stages = files_of(tiny_copy), mlflow_stages(tiny_copy)
    with open_workbench(tiny_copy) as bench:
        found = find_deletion(bench, uid, cascade=True)
        rows = count(bench.store)

        def fail(connection, cursor, statement, *given):
            if statement.startswith("DELETE FROM model "):
                raise OSError("the disk is gone")

        event.listen(bench.store.engine, "before_cursor_execute", fail)
        with pytest.raises(OSError, match="the disk is gone"):
            delete(bench, found)
        event.remove(bench.store.engine, "before_cursor_execute", fail)
        assert count(bench.store) == rows
    assert (files_of(tiny_copy), mlflow_stages(tiny_copy)) == (before, stages)


@pytest.mark.parametrize(
    "uri", ["../outside.txt", "/{outside}", "runs:/1/outside.txt", "https://host/outside.txt"]
)
def test_files_outside_the_workspace_are_left_alone(uri, tiny_copy):
    """A store that came from elsewhere may name anything: only the workspace's own files are removed."""
    outside = tiny_copy.root.parent / "outside.txt"
    outside.write_text("mine")
    uri = uri.replace("/{outside}", str(outside))
    with open_workbench(tiny_copy) as bench:
        with bench.store.transaction() as session:
            dataset = session.get_one(Dataset, 1)
            model = add_model(session, dataset, 50, checkpoint_uri=uri)
        done = delete(bench, find_deletion(bench, model.uid))
    assert (done.n_rows, done.n_files, outside.read_text()) == (1, 0, "mine")


def test_half_trained_member_takes_its_progress_along(tiny_copy):
    """What a killed training left goes with its row: the progress, the run's folder, the run itself."""
    with open_workbench(tiny_copy) as bench:
        with bench.store.transaction() as session:
            row = add_model(
                session, session.get_one(Dataset, 1), 60, status="pending", checkpoint_uri=None,
                checkpoint_sha256=None,
            )  # fmt: skip
        run = bench.tracker.start("member seed 60", uid=row.uid, params={})
        run.folder.mkdir(parents=True)
        (run.folder / "half.pt").write_text("half")
        file = ResumeFile(bench.workspace, row)
        file.write(StoppedTraining(b"content", run.run_id, bench.relative(run.folder)))
        done = delete(bench, find_deletion(bench, row.uid))
    assert (done.n_rows, done.n_files, done.n_mlflow_runs) == (1, 1, 1)
    assert not file.path.exists()
    assert not run.folder.exists()


def test_deleted_evaluation_is_made_again(tiny_copy):
    """Deleting an evaluation is undone by the same attack again: its samples are there, only scores are new."""
    from jsdelta_db.pipeline.attack import attack_and_score
    from tests.workspaces import tiny_attacks

    before = uid_of(tiny_copy, "SELECT sum(js_delta) FROM score WHERE evaluation_id = 1")
    uid = uid_of(tiny_copy, "SELECT uid FROM evaluation WHERE id = 1")
    with open_workbench(tiny_copy) as bench:
        delete(bench, find_deletion(bench, uid))
        attack_and_score(bench, tiny_attacks(3))
        with bench.store.transaction() as session:
            assert session.query(Evaluation).count() == 2
    newest = "SELECT sum(js_delta) FROM score WHERE evaluation_id = (SELECT max(id) FROM evaluation)"
    assert uid_of(tiny_copy, newest) == before
