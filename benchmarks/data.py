"""Decoding a folder of pictures beside torchvision's own reader, its memory, and opening a large added set.

Prints one JSON object. ``--images`` JPEGs of ``--side`` pixels are written to a temporary folder first.
``jsdelta dataset add`` runs as a process of its own; torchvision's ImageFolder reads the same files on one
core.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from jsdelta_db.compute.data.stored import open_stored
from jsdelta_db.runtime.pool import count_cores

ROUNDS = 3
SIZE = 64  # --size, and torchvision's Resize and CenterCrop


def write_pictures(root: Path, n: int, side: int) -> None:
    """Write smooth random pictures in ten classes, half to train on and half to test."""
    rng = np.random.default_rng(0)
    for number in range(n):
        small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        folder = root / ("train" if number % 2 else "test") / str(number // 2 % 10)
        folder.mkdir(parents=True, exist_ok=True)
        small.resize((side, side), Image.Resampling.BICUBIC).save(folder / f"{number}.jpg", quality=90)


def read_with_torchvision(root: Path) -> float:
    """Return the seconds that ImageFolder takes on one core, with the same resizing."""
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import CenterCrop, Compose, PILToTensor, Resize

    transform = Compose([Resize(SIZE), CenterCrop(SIZE), PILToTensor()])
    begun = time.perf_counter()
    for part in ("train", "test"):
        for _ in ImageFolder(root / part, transform):
            pass
    return time.perf_counter() - begun


def add(root: Path, workspace: Path, jobs: int) -> tuple[float, float]:
    """Add the folder in a process of its own; return its seconds, and the most memory so far in MiB."""
    command = [
        str(Path(sys.executable).parent / "jsdelta"), "--workspace", str(workspace),
        "dataset", "add", "pictures", "--folder", str(root),
        "--size", str(SIZE), "--jobs", str(jobs),
    ]  # fmt: skip
    begun = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    seconds = time.perf_counter() - begun
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def measure_opening(workspace: Path) -> float:
    """Return the seconds that opening the added set takes, once it is known."""
    import sqlite3

    row = sqlite3.connect(workspace / "jsdelta.db").execute(
        "SELECT name, classes, fingerprint, sha256, construction, uri FROM dataset"
    ).fetchone()  # fmt: skip
    facts = {
        **json.loads(row[4]),
        "name": row[0],
        "classes": json.loads(row[1]),
        "fingerprint": row[2],
        "sha256": row[3],
    }
    open_stored(workspace / row[5], facts)
    begun = time.perf_counter()
    open_stored(workspace / row[5], facts)
    return time.perf_counter() - begun


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=8_000)
    parser.add_argument("--side", type=int, default=320)
    arguments = parser.parse_args()
    jobs = count_cores()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_pictures(root / "pictures", arguments.images, arguments.side)
        theirs, ours, empty, most, opening = [], [], [], [], []
        write_pictures(root / "few", 40, arguments.side)
        for number in range(ROUNDS):
            theirs.append(arguments.images / read_with_torchvision(root / "pictures"))
            start, _ = add(root / "few", root / f"few{number}", jobs)  # starting Python, the store, …
            seconds, memory = add(root / "pictures", root / f"workspace{number}", jobs)
            empty.append(start)
            ours.append(arguments.images / (seconds - start))
            most.append(memory)
            opening.append(measure_opening(root / f"workspace{number}"))
    rate, single = statistics.median(ours), statistics.median(theirs)
    print(
        json.dumps(
            {
                "machine": platform.processor() or platform.machine(), "cores": os.cpu_count(), "jobs": jobs,
                "python": sys.version.split()[0], "images": arguments.images, "side": arguments.side,
                "jsdelta_images_per_second": round(rate),
                "torchvision_one_core_images_per_second": round(single),
                "ratio_to_cores_times_one_core": round(rate / single / jobs, 3),
                "seconds_of_a_small_add": round(statistics.median(empty), 2),
                "most_memory_mib": round(max(most)), "open_ms": round(1000 * statistics.median(opening), 2),
            },
            indent=2,
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
