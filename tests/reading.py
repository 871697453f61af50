"""How the tests beside this one look into a SQLite workspace."""

import io
import sqlite3
from contextlib import closing

import numpy as np

from jsdelta_db.config.locations import Workspace


def ask(workspace: Workspace, statement: str, *values) -> list[tuple]:
    """Return the rows of one SQL statement."""
    with closing(sqlite3.connect(workspace.root / "jsdelta.db")) as connection:
        return connection.execute(statement, values).fetchall()


def tell(workspace: Workspace, statement: str, *values) -> None:
    """Change rows by hand; the statement must find some."""
    with closing(sqlite3.connect(workspace.root / "jsdelta.db")) as connection:
        assert connection.execute(statement, values).rowcount > 0
        connection.commit()


def contents(workspace: Workspace) -> tuple[list[str], list[str]]:
    """Return all rows of the store as SQL, and the files of its runs: what a refusal must leave alone."""
    with closing(sqlite3.connect(workspace.root / "jsdelta.db")) as connection:
        rows = list(connection.iterdump())
    return rows, sorted(str(path) for path in (workspace.root / "mlruns").rglob("*"))


def attack_of(workspace: Workspace, evaluation: str) -> str:
    """Return the uid of the attack that an evaluation is of."""
    ((uid,),) = ask(
        workspace,
        "SELECT attack.uid FROM attack JOIN evaluation ON evaluation.attack_id = attack.id "
        "WHERE evaluation.uid = ?",
        evaluation,
    )
    return uid


def samples_of(workspace: Workspace, evaluation: str) -> list[tuple]:
    """Return the samples that an evaluation judged, with every column but the attack's id."""
    return ask(
        workspace,
        "SELECT sample_index, requested_target, source_label, target_label, success, confidence, linf, l2 "
        "FROM sample JOIN evaluation ON evaluation.attack_id = sample.attack_id "
        "WHERE evaluation.uid = ? ORDER BY sample_index, requested_target",
        evaluation,
    )


SCORE_COLUMNS = (
    "sample_index, requested_target, js, js_of_mean, js_delta, js_attacked, n_right, n_at_target, "
    "n_at_target_adv, n_right_adv, js_of_mean_without, member_js"
)


def scores_of(workspace: Workspace, evaluation: str) -> list[tuple]:
    """Return an evaluation's scores, with every column but its id."""
    return ask(
        workspace,
        f"SELECT {SCORE_COLUMNS} FROM score JOIN evaluation ON evaluation.id = score.evaluation_id "
        "WHERE uid = ? ORDER BY sample_index, requested_target",
        evaluation,
    )


def hashes_of(workspace: Workspace, evaluation: str) -> list[tuple]:
    """Return the sha256 of an evaluation's chunk files, which hold what the evaluators said."""
    return ask(
        workspace,
        "SELECT position, sha256 FROM evaluation_chunk JOIN evaluation "
        "ON evaluation.id = evaluation_chunk.evaluation_id WHERE uid = ? ORDER BY position",
        evaluation,
    )


def chunks_of(workspace: Workspace, evaluation: str, table: str = "attack") -> list[dict[str, np.ndarray]]:
    """Return the arrays of the chunk files of an evaluation's attack, or of itself."""
    rows = ask(
        workspace,
        f"SELECT {table}_chunk.uri FROM {table}_chunk JOIN evaluation "
        f"ON evaluation.{'id' if table == 'evaluation' else 'attack_id'} = {table}_chunk.{table}_id "
        "WHERE evaluation.uid = ? ORDER BY position",
        evaluation,
    )
    found = []
    for (uri,) in rows:
        with np.load(io.BytesIO((workspace.root / uri).read_bytes()), allow_pickle=False) as arrays:
            found.append(dict(arrays))
    return found


def judges_of(workspace: Workspace, evaluation: str) -> list[int]:
    """Return the seeds of an evaluation's evaluators, in order."""
    rows = ask(
        workspace,
        "SELECT seed FROM evaluation_member JOIN model ON model.id = model_id "
        "JOIN evaluation ON evaluation.id = evaluation_id WHERE evaluation.uid = ? ORDER BY position",
        evaluation,
    )
    return [seed for (seed,) in rows]


def last_evaluation(workspace: Workspace) -> str:
    """Return the uid of the newest evaluation."""
    ((uid,),) = ask(workspace, "SELECT uid FROM evaluation ORDER BY id DESC LIMIT 1")
    return uid


def remove_checkpoints(workspace: Workspace) -> None:
    """Take every model's weights away: what is done now is done from what was kept."""
    for (uri,) in ask(workspace, "SELECT checkpoint_uri FROM model"):
        (workspace.root / uri).unlink()
