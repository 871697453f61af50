"""One query of ``store.py`` in a process of its own: the first time, then again and again for other β.

Takes a job as JSON (``url``, ``by``, ``betas``, ``seconds``) and prints JSON.
"""

import json
import statistics
import sys
import time
from typing import Any

from attack_memory import peak_memory_mb

from jsdelta_db.queries.bugs import query_bugs
from jsdelta_db.store.reading import Reader, reading

ROUNDS = 5  # at most; each asks for every β once
COUNTS = ("n_attempted", "n_success", "n_no_baseline", "n_bugs")


def ask(reader: Reader, by: list[str], beta: float) -> tuple[float, list[list[Any]]]:
    """Ask once. Returns milliseconds, and of each group its two keys and four counts."""
    begun = time.perf_counter()
    table = query_bugs(reader, (beta,), by)
    took = (time.perf_counter() - begun) * 1000
    return took, [[row[name] for name in (*table.keys, *COUNTS)] for row in table.rows]


def main() -> None:
    """Measure and print."""
    job = json.loads(sys.argv[1])
    by = job["by"].split(",")
    begun = time.perf_counter()
    with reading(job["url"]) as reader:
        opened = (time.perf_counter() - begun) * 1000
        cold, _ = ask(reader, by, job["betas"][0])
        times, counts = [], {}
        end = time.perf_counter() + job["seconds"]
        for turn in range(ROUNDS):
            if turn and time.perf_counter() > end:
                break
            for beta in job["betas"]:
                took, counts[str(beta)] = ask(reader, by, beta)
                times.append(took)
    print(
        json.dumps({
            "ms": statistics.median(times), "cold_ms": cold, "open_ms": opened, "fastest_ms": min(times),
            "slowest_ms": max(times), "times": len(times), "memory_mb": peak_memory_mb("cpu"),
            "counts": counts,
        })
    )  # fmt: skip


if __name__ == "__main__":
    main()
