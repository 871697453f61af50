"""DuckDB on ``store.py``'s rows in a Parquet file, in the peers' environment and on one thread.

Takes a job as JSON (``file``, ``groups``, ``betas``) and prints JSON.
"""

import json
import statistics
import sys
import time

import duckdb

ROUNDS = 3


def main() -> None:
    """Measure and print."""
    job = json.loads(sys.argv[1])
    connection = duckdb.connect()
    connection.execute("SET threads = 1")
    answers = {}
    for by, sql in job["groups"].items():
        times, counts = [], {}
        for _ in range(ROUNDS):
            for beta in job["betas"]:
                begun = time.perf_counter()
                found = connection.execute(sql, {"beta": beta}).fetchall()
                times.append((time.perf_counter() - begun) * 1000)
                counts[str(beta)] = found
        answers[by] = {"ms": statistics.median(times), "cold_ms": times[0], "counts": counts}
    print(json.dumps({"version": duckdb.__version__, "answers": answers}))


if __name__ == "__main__":
    main()
