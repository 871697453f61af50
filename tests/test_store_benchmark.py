"""The store's benchmark, on a handful of runs: it prints what it promises, and its counts are exact."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "store.py"
KEYS = {
    "attempts_per_s", "bugs_ms", "pairs_ms", "bytes_per_attempt", "engine", "rows", "growth",
    "query_memory_mb", "targets", "machine",
}  # fmt: skip


def test_a_small_store_is_measured_and_counted_right():
    """One JSON object with every promised figure; the script ends in an error where a count is not exact."""
    command = [
        sys.executable,
        SCRIPT,
        *("--json", "--rows", "20000", "--url", "sqlite", "--query-seconds", "0", "--no-peers"),
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    result = json.loads(done.stdout)
    assert result.keys() >= KEYS
    assert (result["engine"], result["rows"], result["counts_exact"]) == ("sqlite", 20_000, True)
    figures = ("attempts_per_s", "bugs_ms", "pairs_ms", "bytes_per_attempt", "query_memory_mb")
    assert all(result[name] > 0 for name in figures)
    assert {name: each["measured"] for name, each in result["targets"].items()} == {
        **{name: result[name] for name in figures},
        **{f"growth_{name}": result["growth"][name] for name in ("bugs", "pairs")},
    }
