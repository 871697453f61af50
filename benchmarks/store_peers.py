"""Peers of the store for ``store.py``: other ways to write the same rows, and to count them."""

import json
import sqlite3
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from attack_turns import say, with_threads
from numpy.typing import NDArray
from peers import peers_python
from sqlalchemy import text
from store_places import Place, path_of
from store_rows import ATTEMPTS, CLASSES, METHODS, Truth, key_of, make_run
from store_write import Cast, make_cast, plan_run

from jsdelta_db.records import Samples, Scores
from jsdelta_db.store.creating import open_for_writing
from jsdelta_db.store.migrate import upgrade
from jsdelta_db.store.reading import fetch, reading
from jsdelta_db.store.schema import Sample, Score
from jsdelta_db.store.session import Store

ORM_ROWS, RAW_ROWS = 20_000, 1_000_000  # attempts, at most
SAMPLE = (
    "attack_id", "sample_index", "requested_target", "source_label", "target_label", "success", "confidence",
    "linf", "l2",
)  # fmt: skip
SCORE = (
    "evaluation_id", "sample_index", "requested_target", "js", "js_of_mean", "js_attacked", "n_right",
    "n_at_target", "n_at_target_adv", "n_right_adv", "js_delta", "member_js", "js_of_mean_without",
)  # fmt: skip
POSTGRES_TYPES = {
    "attack_id": "int4", "evaluation_id": "int4", "sample_index": "int4", "requested_target": "int2",
    "source_label": "int2", "target_label": "int2", "success": "int2", "n_right": "int2",
    "n_at_target": "int2", "n_at_target_adv": "int2", "n_right_adv": "int2", "member_js": "bytea",
    "js_of_mean_without": "bytea",
}  # fmt: skip
COUNT = """
SELECT {keys}, count(js_delta), sum(CASE WHEN js_delta IS NULL THEN 0 ELSE success END),
       count(*) - count(js_delta), sum(CASE WHEN success = 1 AND js_delta < {beta} THEN 1 ELSE 0 END)
FROM {rows} GROUP BY {keys}
"""
KEYS = {"eps,method": "eps, method", "label-pair": "source_label, target_label"}
# The view names labels, which costs a look into JSON for every row.
BY_LABEL = """evaluation JOIN score ON score.evaluation_id = evaluation.id
JOIN sample ON sample.attack_id = evaluation.attack_id AND sample.sample_index = score.sample_index
           AND sample.requested_target = score.requested_target"""

WriteChunk = Callable[[int, int, Samples, Scores], None]


def measure_peers(
    place: Place, url: str, truth: Truth, betas: Sequence[float], chunk_size: int
) -> dict[str, Any]:
    """Measure all of them; the store at the URL holds the rows that were counted."""
    rows = len(truth.columns()["success"])
    raw = sqlite3_executemany if place.engine == "sqlite" else psycopg_copy
    return {
        "sqlalchemy_orm": measure_write(place, min(rows, ORM_ROWS), chunk_size, sqlalchemy_orm),
        raw.__name__: measure_write(place, min(rows, RAW_ROWS), chunk_size, raw),
        "sql_scan": scan_in_sql(url, truth, betas[0]),
        "duckdb_parquet": count_with_duckdb(truth, betas),
        "numpy_pass_ms": pass_over(truth.columns()["js_delta"], betas),
    }


def measure_write(
    place: Place,
    rows: int,
    chunk_size: int,
    writer: Callable[[Store, str], "_Writing"],
) -> dict[str, float]:
    """Write runs into a store of their own, and time what is done with their arrays."""
    say(f"{writer.__name__.replace('_', ' ')}: writing {rows:,} attempts")
    seconds = 0.0
    with place.new("peer") as url:
        upgrade(url)
        store = open_for_writing(url)
        cast: Cast = make_cast(store)
        with writer(store, url) as write_chunk:
            for number in range(rows // ATTEMPTS):
                run = make_run(number)
                attack, evaluation = plan_run(store, cast, run, chunk_size)
                for samples, scores in list(run.chunks(chunk_size)):
                    begun = time.perf_counter()
                    write_chunk(attack.id, evaluation.id, samples, scores)
                    seconds += time.perf_counter() - begun
        store.close()
    return {"attempts_per_s": round(rows / seconds), "rows": rows}


_Writing = Any  # a context manager of a WriteChunk


@contextmanager
def sqlalchemy_orm(store: Store, url: str) -> Iterator[WriteChunk]:
    """One mapped object per row, added to a session."""

    def write_chunk(attack_id: int, evaluation_id: int, samples: Samples, scores: Scores) -> None:
        with store.transaction() as session:
            session.add_all(
                Sample(**dict(zip(SAMPLE, row, strict=True))) for row in _sample_rows(attack_id, samples)
            )
        with store.transaction() as session:
            session.add_all(
                Score(**dict(zip(SCORE, row, strict=True))) for row in _score_rows(evaluation_id, scores)
            )

    yield write_chunk


@contextmanager
def sqlite3_executemany(store: Store, url: str) -> Iterator[WriteChunk]:
    """The standard library's driver, with the store's own pragmas."""
    with closing(sqlite3.connect(path_of(url), isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")

        def insert(table: str, names: Sequence[str], rows: list[tuple[Any, ...]]) -> None:
            connection.execute("BEGIN IMMEDIATE")
            marks = ", ".join("?" * len(names))
            connection.executemany(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})", rows)  # noqa: S608
            connection.execute("COMMIT")

        yield _both(insert)


@contextmanager
def psycopg_copy(store: Store, url: str) -> Iterator[WriteChunk]:
    """The driver's binary COPY, row by row."""
    import psycopg

    with psycopg.connect(url) as connection:

        def insert(table: str, names: Sequence[str], rows: list[tuple[Any, ...]]) -> None:
            sql = f"COPY {table} ({', '.join(names)}) FROM STDIN (FORMAT BINARY)"
            with connection.cursor() as cursor, cursor.copy(sql) as copy:  # type: ignore[arg-type]
                copy.set_types([POSTGRES_TYPES.get(name, "float8") for name in names])
                for row in rows:
                    copy.write_row(row)
            connection.commit()

        yield _both(insert)


def _both(insert: Callable[[str, Sequence[str], list[tuple[Any, ...]]], None]) -> WriteChunk:
    def write_chunk(attack_id: int, evaluation_id: int, samples: Samples, scores: Scores) -> None:
        insert("sample", SAMPLE, _sample_rows(attack_id, samples))
        insert("score", SCORE, _score_rows(evaluation_id, scores))

    return write_chunk


def _sample_rows(attack_id: int, samples: Samples) -> list[tuple[Any, ...]]:
    attempts = samples.attempts
    columns = (
        attempts.sample_index, attempts.requested_target, attempts.source_label, samples.target_label,
        samples.success.astype(np.int64), samples.confidence, samples.linf, samples.l2,
    )  # fmt: skip
    return [(attack_id, *row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def _score_rows(evaluation_id: int, scores: Scores) -> list[tuple[Any, ...]]:
    columns = (
        scores.attempts.sample_index, scores.attempts.requested_target, scores.js, scores.js_of_mean,
        scores.js_attacked, scores.n_right, scores.n_at_target, scores.n_at_target_adv, scores.n_right_adv,
    )  # fmt: skip
    js_delta = [None if value != value else value for value in scores.js_delta.tolist()]
    members, without = (
        [row.tobytes() for row in values] for values in (scores.member_js, scores.js_of_mean_without)
    )
    lists = [*(column.tolist() for column in columns), js_delta, members, without]
    return [(evaluation_id, *row) for row in zip(*lists, strict=True)]


def scan_in_sql(url: str, truth: Truth, beta: float) -> dict[str, float]:
    """Count by plain SQL over joined rows, once each, on one of the server's processes."""
    found = {}
    for by, rows in (("eps,method", "sample_scores"), ("label-pair", BY_LABEL)):
        say(f"plain SQL: counting by {by}")
        sql = COUNT.format(keys=KEYS[by], beta=":beta", rows=rows)
        with reading(url) as reader:
            if not isinstance(reader, sqlite3.Connection):
                reader.execute(text("SET max_parallel_workers_per_gather = 0"))
            begun = time.perf_counter()
            answer = fetch(reader, sql, beta=beta)
            found[by] = round((time.perf_counter() - begun) * 1000, 1)
        truth.check("plain SQL", by, {str(beta): _with_names(by, answer)})
    return {"bugs_ms": found["eps,method"], "pairs_ms": found["label-pair"], "beta": beta}


def count_with_duckdb(truth: Truth, betas: Sequence[float]) -> dict[str, Any]:
    """Count a Parquet file of the same rows with DuckDB; nulls and a note where it cannot be had."""
    say("DuckDB: writing and counting a Parquet file")
    with TemporaryDirectory() as folder:
        file = Path(folder) / "attempts.parquet"
        try:
            _write_parquet(truth, file)
            python = peers_python()
        except (ImportError, subprocess.CalledProcessError) as error:
            return {"bugs_ms": None, "pairs_ms": None, "note": f"DuckDB or pyarrow is missing: {error}"}
        sql = {by: COUNT.format(keys=keys, beta="$beta", rows=f"'{file}'") for by, keys in KEYS.items()}
        job = json.dumps({"groups": sql, "betas": betas})
        command = [str(python), str(Path(__file__).with_name("store_duckdb.py")), job]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=with_threads(1))
        megabytes = file.stat().st_size / 1e6
    answer = json.loads(done.stdout)
    figures = {}
    for by, name in (("eps,method", "bugs"), ("label-pair", "pairs")):
        each = answer["answers"][by]
        counts = {beta: _with_names(by, rows) for beta, rows in each["counts"].items()}
        truth.check("DuckDB", by, counts)
        figures |= {f"{name}_ms": round(each["ms"], 1), f"{name}_cold_ms": round(each["cold_ms"], 1)}
    return {**figures, "version": answer["version"], "file_mb": round(megabytes, 1)}


def _write_parquet(truth: Truth, file: Path) -> None:
    """Write the six columns that the two questions need, in pyarrow's own way."""
    import pyarrow
    import pyarrow.parquet

    columns = truth.columns()
    cells = [key_of("eps,method", number) for number in range(columns["cell"].max() + 1)]
    method = columns["cell"].astype(np.int32) % len(METHODS)
    table = {
        "eps": np.array([eps for eps, _ in cells])[columns["cell"].astype(np.int64)],
        "method": pyarrow.DictionaryArray.from_arrays(method, list(METHODS)),
        "source_label": columns["pair"] // np.uint8(len(CLASSES)),
        "target_label": columns["pair"] % np.uint8(len(CLASSES)),
        "success": columns["success"].astype(np.int8),
        "js_delta": pyarrow.array(columns["js_delta"], from_pandas=True),  # NaN becomes null
    }
    pyarrow.parquet.write_table(pyarrow.table(table), file)


def _with_names(by: str, rows: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
    if by == "eps,method":
        return [tuple(row) for row in rows]
    return [(CLASSES[source], CLASSES[target], *counts) for source, target, *counts in rows]


def pass_over(js_delta: NDArray[Any], betas: Sequence[float]) -> float:
    """Return the milliseconds of one comparison and count over a JSΔ in memory: the floor."""
    times = []
    for beta in [*betas, *betas]:
        begun = time.perf_counter()
        np.count_nonzero(js_delta < beta)
        times.append((time.perf_counter() - begun) * 1000)
    return round(statistics.median(times), 2)
