"""A data set of 1,000 classes: ``jsdelta attack`` on it, with its judgement, and its memory.

Prints one JSON object. A set of ``--classes`` classes with 25 baseline images each is written to a temporary
folder, and five linear networks that know its classes are added: what is measured is what many classes cost,
not a network. Each command runs as a process of its own; an attack of 1,000 images is measured from its start
to its end, targeted (label pairs known before) and untargeted (found as they are reached).
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

BASELINE, ATTACKED = 25, 2  # images a class
MEMBERS, SIDE = 5, 8
NETWORK = f"""
import torch

def prototypes(n_classes):
    draws = torch.Generator().manual_seed(0)
    return 0.4 + 0.2 * torch.rand(n_classes, 3 * {SIDE} * {SIDE}, generator=draws)

def make(num_classes, seed):
    centres = prototypes(num_classes)
    centres = centres + 0.04 * torch.randn(centres.shape, generator=torch.Generator().manual_seed(1 + seed))
    layer = torch.nn.Linear(centres.shape[1], num_classes)
    layer.weight.data, layer.bias.data = 12 * centres, -6 * centres.square().sum(1)
    return torch.nn.Sequential(torch.nn.Flatten(), layer)
"""


def write_arrays(path: Path, factory: Path, n_classes: int) -> None:
    """Write noisy images of each class's prototype."""
    namespace: dict[str, object] = {}
    exec(factory.read_text(), namespace)  # noqa: S102 the text above
    centres = namespace["prototypes"](n_classes).numpy().reshape(n_classes, 3, SIDE, SIDE)  # type: ignore[operator]
    labels = np.repeat(np.arange(n_classes), BASELINE + ATTACKED)
    noise = np.random.default_rng(0).normal(0, 0.03, (len(labels), 3, SIDE, SIDE))
    images = np.round((centres[labels] + noise).clip(0, 1) * 255).astype(np.uint8)
    np.savez(path, x=images, y=labels)


def run(root: Path, *arguments: str) -> tuple[float, float, str]:
    """Run a command; return its seconds, its memory in MiB, and what it printed."""
    command = [str(Path(sys.executable).parent / "jsdelta"), "--workspace", str(root / "work"), *arguments]
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed: {process.stderr and process.stderr.read()}")
    return time.perf_counter() - begun, usage.ru_maxrss / 1024, printed


def measure(root: Path, targets: str) -> dict[str, object]:
    """Attack 1,000 images, and count what was judged."""
    seconds, mib, _ = run(
        root, "attack", "--eps", "8", "--steps", "10", "--images", "1000", "--targets", targets
    )
    _, _, printed = run(root, "query", "bugs", "--beta", "0.1", "--by", "targets", "--format", "json")
    row = next(row for row in json.loads(printed) if row["targets"] == targets)
    counts = {key: row[key] for key in ("n_attempted", "n_success", "n_bugs", "n_no_baseline")}
    return {"seconds": round(seconds, 1), "peak_mib": round(mib), **counts}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classes", type=int, default=1000)
    n_classes = parser.parse_args().classes
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        factory = root / "nets.py"
        factory.write_text(NETWORK)
        write_arrays(root / "many.npz", factory, n_classes)
        run(root, "dataset", "add", "many", "--npz", str(root / "many.npz"), "--test-only",
            "--baseline-size", str(BASELINE))  # fmt: skip
        for seed in range(MEMBERS):
            run(root, "models", "add", f"net-{seed}", "--factory", f"{factory}:make", "--dataset", "many",
                "--set", f"seed={seed}")  # fmt: skip
        members = [part for seed in range(MEMBERS) for part in ("--models", f"net-{seed}")]
        run(root, "ensembles", "add", "nets", *members)
        found = {targets: measure(root, targets) for targets in ("random", "untargeted")}
    facts = {"classes": n_classes, "baseline_images": BASELINE, "evaluators": MEMBERS - 1}
    machine = {"machine": platform.machine(), "cores": os.cpu_count()}
    print(json.dumps({**facts, **machine, **found}, indent=1))


if __name__ == "__main__":
    main()
