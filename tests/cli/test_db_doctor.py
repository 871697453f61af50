"""``jsdelta db``, ``doctor``, ``ui`` and ``recipes``."""

import json
import socket
import tomllib

import pytest

from jsdelta_db.config.recipes import list_recipes, read_recipe_text
from jsdelta_db.store.constants import HEAD_REVISION
from tests.cards import NO_KERNELS, pretend_cards
from tests.cli.calls import call, parse_table
from tests.reading import ask, tell


def test_upgrade_makes_a_store_once(tmp_path, capsys):
    """The first call makes the tables, the second says that there is nothing to do."""
    code, out, _ = call(capsys, tmp_path / "new", "db", "upgrade")
    assert (code, out) == (0, f"schema none -> {HEAD_REVISION}\n")
    assert call(capsys, tmp_path / "new", "db", "upgrade")[:2] == (0, f"schema {HEAD_REVISION}: up to date\n")
    assert call(capsys, tmp_path / "new", "db", "check")[:2] == (0, "ok\n")
    assert not (tmp_path / "new" / "mlflow.db").exists()  # MLflow's is made by the first run


def test_check_finds_nothing_in_a_healthy_store(tiny, capsys):
    """Rows, plans and files of a finished store belong together."""
    code, out, _ = call(capsys, tiny, "db", "check")
    assert (code, out) == (0, "ok\n")


def test_check_after_moving_the_workspace(tiny_copy, tmp_path, capsys):
    """Rows name files relative to the workspace, so that the folder can move."""
    moved = tiny_copy.root.rename(tmp_path / "moved")
    assert call(capsys, moved, "db", "check")[:2] == (0, "ok\n")


@pytest.mark.parametrize(
    ("statement", "fragment"),
    [
        ("DELETE FROM score WHERE sample_index IN (SELECT min(sample_index) FROM score)", "scores"),
        ("DELETE FROM sample WHERE sample_index IN (SELECT min(sample_index) FROM sample)", "samples"),
        ("UPDATE attack SET n_attempts = n_attempts + 1", "attempts planned"),
        ("UPDATE model SET checkpoint_uri = 'gone.pt'", "file gone.pt: missing"),
    ],
)
def test_check_finds_rows_that_do_not_belong_together(statement, fragment, tiny_copy, capsys):
    """Each problem is a line on stdout; the exit code is 1 and the last line says what to do."""
    tell(tiny_copy, statement)
    code, out, err = call(capsys, tiny_copy, "db", "check")
    assert code == 1
    assert fragment in out
    assert f"{len(out.splitlines())} found" in err


@pytest.mark.parametrize(
    ("statement", "damage", "fragment"),
    [
        ("SELECT checkpoint_uri FROM model", "cut", "altered or cut short"),
        ("SELECT uri FROM attack_chunk", "remove", "missing"),
        ("SELECT uri FROM evaluation_chunk", "cut", "altered or cut short"),
        ("SELECT uri FROM model_logits", "remove", "missing"),
    ],
)
def test_check_finds_files_that_are_not_what_was_written(statement, damage, fragment, tiny_copy, capsys):
    """A file that is gone or altered is one line that names it."""
    uri = ask(tiny_copy, statement)[0][0]
    path = tiny_copy.root / uri
    path.unlink() if damage == "remove" else path.write_bytes(path.read_bytes()[:-1])
    code, out, _ = call(capsys, tiny_copy, "db", "check")
    assert (code, out) == (1, f"file {uri}: {fragment}\n")


def test_stats_count_rows_and_states(tiny, capsys):
    """Counts are those of the tables, as JSON in full."""
    code, out, err = call(capsys, tiny, "db", "stats", "--format", "json")
    counts = {(row["kind"], row["status"]): row["rows"] for row in json.loads(out)}
    assert code == 0
    assert (counts["model", "all"], counts["model", "finished"], counts["ensemble", "finished"]) == (3, 3, 1)
    assert (counts["attack", "all"], counts["evaluation", "finished"]) == (2, 2)
    assert counts["sample", "all"] == counts["score", "all"] == ask(tiny, "SELECT count(*) FROM sample")[0][0]
    assert (counts["attack", "finished"], counts["dataset", "finished"], counts["store", "all"]) == (
        2,
        1,
        None,
    )
    sizes = {row["kind"]: row["bytes"] for row in json.loads(out) if row["status"] == "all"}
    assert sizes["store"] == (tiny.root / "jsdelta.db").stat().st_size
    assert 0 < sizes["score"] < sum(size for kind, size in sizes.items() if kind != "store") <= sizes["store"]
    assert str(tiny.root / "jsdelta.db") in err


def test_stats_as_a_table(tiny, capsys):
    """The table for people has the same rows."""
    _, out, _ = call(capsys, tiny, "db", "stats")
    rows = [tuple(row.values()) for row in parse_table(out)]
    assert ("model", "finished", "3", "–") in rows
    assert ("attack", "finished", "2", "–") in rows


def doctor(capsys, workspace):
    """Return the exit code, each check's state and text, and stderr."""
    code, out, err = call(capsys, workspace, "doctor", "--format", "json")
    return code, {row["check"]: (row["state"], row["found"]) for row in json.loads(out)}, err


def test_doctor_finds_a_healthy_workspace(tiny, capsys):
    """Versions, device, dtype, store and MLflow are ok; data folders that are not there are no failure."""
    import torch

    code, checks, _ = doctor(capsys, tiny)
    assert code == 0
    assert checks["torch"] == ("ok", torch.__version__.partition("+")[0])
    assert checks["store"] == ("ok", str(tiny.root / "jsdelta.db"))
    assert checks["mlflow store"][0] == "ok"
    assert checks["mlflow store"][1].endswith(": 7 runs")  # 1 + 3 of training, 1 + 2 of the attack
    assert {"jsdelta", "mlflow", "sqlalchemy", "device", "dtype auto", "workspace"} <= set(checks)
    assert (checks["data cifar10"][0], checks["data svhn"][0]) == ("missing", "missing")


def test_doctor_says_which_cards_there_are(tiny, monkeypatch, capsys):
    """Each with the outcome of a small computation; one that cannot be used breaks nothing."""
    import torch

    code, checks, _ = doctor(capsys, tiny)
    assert (code, checks["cards"]) == (0, ("missing", f"torch {torch.__version__} sees none"))
    pretend_cards(monkeypatch, "Tesla K80", "NVIDIA H200", faults={0: RuntimeError(NO_KERNELS)})
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **options: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index=1: ["Tesla K80", "NVIDIA H200"][index])
    code, checks, _ = doctor(capsys, tiny)
    assert code == 0
    assert checks["card cuda:0"] == ("missing", f"Tesla K80 cannot be used: {NO_KERNELS}")
    assert checks["card cuda:1"] == ("ok", "NVIDIA H200: a small computation on it is right")
    assert checks["device"][1].startswith("cuda (NVIDIA H200)")
    assert checks["dtype auto"][1].startswith("bfloat16 inside the networks")


def test_doctor_as_a_table(tiny, capsys):
    """The table has one row per check."""
    code, out, _ = call(capsys, tiny, "doctor")
    assert code == 0
    assert out.split("\n")[0].split() == ["check", "state", "found"]
    assert {line.split()[0] for line in out.splitlines()} >= {"store", "torch", "device", "workspace"}


def test_doctor_in_an_empty_folder_makes_nothing(tmp_path, capsys):
    """Where nothing was made yet, nothing is broken, and nothing is made."""
    code, checks, _ = doctor(capsys, tmp_path / "none")
    assert code == 0
    assert [checks[name][0] for name in ("workspace", "store", "mlflow store")] == ["missing"] * 3
    assert list(tmp_path.iterdir()) == []


def test_doctor_finds_the_data_folder(tiny, tmp_path, capsys):
    """--data-dir is where the data sets are looked for."""
    (tmp_path / "cifar-10-batches-py").mkdir()
    _, out, _ = call(capsys, tiny, "doctor", "--format", "json", "--data-dir", str(tmp_path))
    assert {"check": "data cifar10", "state": "ok", "found": str(tmp_path)} in json.loads(out)


@pytest.mark.parametrize("given", [".", "MNIST", "MNIST/raw"])
def test_doctor_finds_a_data_set_by_its_own_folder(given, tiny, tmp_path, capsys):
    """The folder of a data set itself is taken, as jsdelta train takes it; the others are missing there."""
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    _, out, _ = call(capsys, tiny, "doctor", "--format", "json", "--data-dir", str(tmp_path / given))
    states = {row["check"]: row["state"] for row in json.loads(out)}
    assert (states["data mnist"], states["data kmnist"]) == ("ok", "missing")


def test_doctor_fails_where_the_store_is_broken(tiny_copy, capsys):
    """A store of another revision is broken: the table still comes, the exit code is 1."""
    tell(tiny_copy, "UPDATE jsdelta_alembic_version SET version_num = '9999'")
    code, checks, err = doctor(capsys, tiny_copy)
    assert (code, checks["store"][0]) == (1, "broken")
    assert "update jsdelta" in checks["store"][1]
    assert err.startswith("jsdelta: broken: store")


def test_doctor_fails_where_mlflow_is_broken(tiny_copy, capsys):
    """An MLflow database that cannot be read is broken, the store beside it is not."""
    (tiny_copy.root / "mlflow.db").write_bytes(b"no database " * 500)
    code, checks, err = doctor(capsys, tiny_copy)
    assert (code, checks["store"][0], checks["mlflow store"][0]) == (1, "ok", "broken")
    assert "broken: mlflow store" in err
    assert "Traceback" not in err


def test_repair_has_nothing_to_do_in_a_healthy_workspace(tiny_copy, capsys):
    """--repair says so and changes nothing."""
    code, _, err = call(capsys, tiny_copy, "doctor", "--repair")
    assert code == 0
    assert "nothing to repair" in err


def test_repair_logs_what_mlflow_missed(tiny_copy, capsys):
    """Rows without a run get one with their parameters and metrics; asked again, nothing is left."""
    from mlflow import MlflowClient

    tell(tiny_copy, "UPDATE model SET mlflow_run_id = NULL WHERE seed = 1")
    tell(tiny_copy, "UPDATE evaluation SET mlflow_run_id = NULL WHERE id = 1")
    code, _, err = call(capsys, tiny_copy, "doctor", "--repair")
    ((uid, mlflow_run_id),) = ask(tiny_copy, "SELECT uid, mlflow_run_id FROM evaluation WHERE id = 1")
    assert code == 0, err
    assert "logged member seed 1" in err
    assert f"logged evaluation {uid}" in err
    client = MlflowClient(f"sqlite:///{tiny_copy.root / 'mlflow.db'}")
    run = client.get_run(mlflow_run_id)
    assert (run.info.status, run.data.tags["jsdelta.uid"]) == ("FINISHED", uid)
    assert {"success_rate", "bug_fraction_beta_0.1"} <= set(run.data.metrics)
    ((member_run_id,),) = ask(tiny_copy, "SELECT mlflow_run_id FROM model WHERE seed = 1")
    member = client.get_run(member_run_id)
    assert [metric.step for metric in client.get_metric_history(member_run_id, "loss")] == [1, 2, 3]
    assert member.data.params["seed"] == "1"
    assert "checkpoint.pt" in {file.path for file in client.list_artifacts(member_run_id)}
    assert "nothing to repair" in call(capsys, tiny_copy, "doctor", "--repair")[2]


def test_repair_closes_runs_of_a_process_that_is_gone(tiny_copy, capsys):
    """A run that still counts as running although its process is gone is closed as KILLED."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tiny_copy.root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("jsdelta").experiment_id
    owner = "\t".join((socket.gethostname(), "another boot", "1", "0"))
    run_id = client.create_run(experiment, tags={"jsdelta.owner": owner}).info.run_id
    code, _, err = call(capsys, tiny_copy, "doctor", "--repair")
    assert code == 0
    assert f"closed run {run_id}" in err
    assert client.get_run(run_id).info.status == "KILLED"


def test_repair_without_a_store(tmp_path, capsys):
    """There is nothing to repair where there is no store: exit 3, nothing is made."""
    code, _, err = call(capsys, tmp_path / "none", "doctor", "--repair")
    assert code == 3
    assert "no store" in err
    assert list(tmp_path.iterdir()) == []


def test_ui_without_runs(tmp_path, capsys):
    """Without MLflow's store there is nothing to show: exit 1, and the command that makes runs."""
    code, out, err = call(capsys, tmp_path, "ui")
    assert (code, out) == (1, "")
    assert "jsdelta quickstart" in err
    assert list(tmp_path.iterdir()) == []


def test_ui_names_a_server_that_is_there_already(tmp_path, monkeypatch, capsys):
    """With a tracking server of one's own, its address is all there is to say."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking.example:5000")
    assert call(capsys, tmp_path, "ui")[:2] == (0, "http://tracking.example:5000\n")


def test_ui_on_a_port_that_is_taken(tiny, capsys):
    """A port in use is a usage error that names another one; no server is started."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, out, err = call(capsys, tiny, "ui", "--port", str(port))
    assert (code, out) == (2, "")
    assert f"--port {port} on 127.0.0.1 cannot be used" in err


def test_recipes_list(tmp_path, capsys):
    """Every recipe of the package is listed with what decides its cost; no workspace is needed."""
    code, out, _ = call(capsys, tmp_path / "none", "recipes", "list", "--format", "json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert (code, list(rows)) == (0, list_recipes())
    assert {"digits", "cifar10-small", "cifar10-paper"} <= set(rows)
    assert (rows["cifar10-paper"]["arch"], rows["digits"]["members"]) == ("resnet50", 5)
    assert (rows["mnist-small"]["tried"], rows["digits"]["tried"]) == (False, True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", list_recipes())
def test_recipes_show(name, tmp_path, capsys):
    """A recipe is printed as written, and is TOML."""
    code, out, _ = call(capsys, tmp_path, "recipes", "show", name)
    assert (code, out) == (0, read_recipe_text(name))
    assert {"dataset", "arch", "epochs"} <= set(tomllib.loads(out))
