"""Speed of an attack step beside torchattacks, foolbox and ART: same models, images, starts and steps."""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import machine
import numpy as np
import torch
from attack_models import SETTINGS, flops_of_a_step, load_model, logits_of
from attack_turns import PEERS, WORKER, Rounds, fail, say, take_turns, with_threads
from peers import peers_python
from torch import nn

from jsdelta_db.runtime.devices import bfloat16_pays, resolve_device

IMAGES = {"cpu": 256, "cuda": 2048}
BATCH_SIZE = {"cpu": 64, "cuda": 256}
FEWEST_ROUNDS = {"cpu": 1, "cuda": 5}
READ_MEMORY = "import torch, attack_memory; print(attack_memory.peak_memory_mb('cpu'))"


def success_of(engine: str, model: nn.Module, job: dict[str, Any], rounds: int) -> float:
    """Return the share of images that reached their target, in float32 on the model as it is."""
    with np.load(job["images"]) as arrays:
        x, target_label = arrays["x"], arrays["target_label"]
    files = [Path(job["folder"]) / f"{job['model']}-{engine}-{turn}.npy" for turn in range(rounds)]
    x_adv = np.concatenate([np.load(file) for file in files])
    if np.abs(x_adv - x).max() > job["eps"] + 1e-6 or x_adv.min() < 0 or x_adv.max() > 1:
        fail(f"the engine {engine} left the ball or the range of pixels")
    reached = logits_of(model, torch.from_numpy(x_adv)).argmax(1).numpy() == target_label
    return float(reached.mean())


def measure(name: str, folder: Path, device: torch.device, batch_size: int) -> list[dict[str, Any]]:
    """Measure one network that lies in the folder: one row per dtype."""
    setting, rounds = SETTINGS[name], rounds_of(batch_size, device)
    steps = setting.steps_on(device.type)
    dtypes = ["float32", "bfloat16"] if bfloat16_pays(device.type) else ["float32"]
    job: dict[str, Any] = {
        "model": name, "checkpoint": str(folder / f"{name}.pt"), "images": str(folder / f"{name}.npz"),
        "folder": str(folder), "device": str(device), "threads": 1, "batch_size": batch_size,
        "eps": setting.eps, "step_size": 2.5 * setting.eps / steps,
    }  # fmt: skip
    answers = take_turns(job, dtypes, rounds, steps)
    say(f"{name}: checking success")
    model = load_model(name, folder / f"{name}.pt", device)
    success = {engine: success_of(engine, model, job, rounds) for engine in (*dtypes, *PEERS)}
    with np.load(job["images"]) as arrays:
        accuracy = round(float(arrays["accuracy"]), 4)
    common = {
        "model": name, "images": rounds * batch_size, "batch_size": batch_size, "steps": steps,
        "eps_255": round(setting.eps * 255), "clean_accuracy": accuracy,
    }  # fmt: skip
    flops = flops_of_a_step(model)
    return [describe(dtype, answers, success, flops) | common for dtype in dtypes]


def rounds_of(batch_size: int, device: torch.device) -> int:
    """Return how many batches hold the images."""
    return max(-(-IMAGES[device.type] // batch_size), FEWEST_ROUNDS[device.type])


def describe(dtype: str, answers: Rounds, success: dict[str, float], flops: float) -> dict[str, Any]:
    """Compare one dtype of ours with the peers; ratios are medians over the rounds."""
    seconds = {engine: [each["seconds"] for each in answers[engine]] for engine in success}
    peaks = [each["flops"] for each in answers[f"matmul-{dtype}"]]
    figures = {
        engine: {
            "ms_per_image_step": round(statistics.median(seconds[engine]) * 1000, 4),
            "success": round(success[engine], 4),
            "peak_memory_mb": round(max(each["memory_mb"] for each in answers[engine])),
        }
        for engine in success
    }
    ratios = {peer: _median_ratio(seconds[peer], seconds[dtype]) for peer in PEERS}
    shares = [flops / each / peak for each, peak in zip(seconds[dtype], peaks, strict=True)]
    return {
        **{f"ratio_{peer}": round(ratio, 3) for peer, ratio in ratios.items()},
        "peak_fraction": round(statistics.median(shares), 3),
        **figures[dtype],
        "dtype": dtype,
        "matmul_gflops": round(statistics.median(peaks) / 1e9, 1),
        "gflop_per_image_step": round(flops / 1e9, 4),
        "peers": {peer: figures[peer] for peer in PEERS},
    }


def _median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def import_memory_mb() -> float:
    """Return the peak memory of a process that imports torch and builds nothing."""
    found = subprocess.run(
        [sys.executable, "-c", READ_MEMORY], cwd=WORKER.parent, check=True, capture_output=True, text=True
    )
    return round(float(found.stdout))


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print a table for people."""
    print(rows[0]["machine"])
    line = "{:9} {:13} {:>13} {:>7} {:>8} {:>10} {:>8}"
    print(line.format("model", "engine", "ms/image-step", "ratio", "success", "memory MiB", "of peak"))
    for name in dict.fromkeys(row["model"] for row in rows):
        mine = {row["dtype"]: row for row in rows if row["model"] == name}
        best = list(mine.values())[-1]
        for engine, each in (mine | best["peers"]).items():
            ratio = f"{best['ratio_' + engine]:.2f}" if engine in PEERS else ""
            share = f"{each['peak_fraction']:.1%}" if engine in mine else ""
            print(
                line.format(
                    name, engine, f"{each['ms_per_image_step']:.3f}", ratio, f"{each['success']:.3f}",
                    each["peak_memory_mb"], share,
                )
            )  # fmt: skip


def prepare_models(names: Sequence[str], folder: Path, device: torch.device, count: int) -> None:
    """Train all networks at once, each in a process with one thread."""
    command = [sys.executable, str(WORKER.with_name("attack_models.py"))]
    say(f"training {' and '.join(names)}, about a minute")
    running = [
        subprocess.Popen([*command, name, str(folder), str(device), str(count)], env=with_threads(1))
        for name in names
    ]
    if any(process.wait() for process in running):
        fail("a network could not be trained; the reason is above")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print a JSON list and nothing else on stdout")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--model", action="append", choices=tuple(SETTINGS), help="default: both")
    parser.add_argument("--batch-size", type=int, help="default: 64 on a CPU, 256 on a GPU")
    parser.add_argument("--end-to-end", action="store_true", help="measure `jsdelta attack` instead")
    parser.add_argument("--data-dir", type=Path, help="with --end-to-end: the folder of the real CIFAR-10")
    options = parser.parse_args()
    device = resolve_device(options.device)
    rows = end_to_end(options, device) if options.end_to_end else side_by_side(options, device)
    if options.json:
        print(json.dumps(rows, indent=2))
    elif options.end_to_end:
        print("\n".join(f"{name:24} {value}" for name, value in rows[0].items()))
    else:
        show(rows)


def end_to_end(options: argparse.Namespace, device: torch.device) -> list[dict[str, Any]]:
    """Measure the whole program."""
    from attack_end_to_end import measure_end_to_end  # loads MLflow

    about = machine.describe(device, f"{torch.get_num_threads()} threads")
    return [measure_end_to_end(device.type, options.data_dir, say) | {"machine": about}]


def side_by_side(options: argparse.Namespace, device: torch.device) -> list[dict[str, Any]]:
    """Measure the engines."""
    torch.set_num_threads(1)
    names, batch_size = options.model or list(SETTINGS), options.batch_size or BATCH_SIZE[device.type]
    peers_python()
    about = {
        "machine": machine.describe(device, "one thread"),
        "processor": machine.processor(device),
        "device": device.type,
        "import_memory_mb": import_memory_mb(),
    }
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        prepare_models(names, folder, device, rounds_of(batch_size, device) * batch_size)
        return [row | about for name in names for row in measure(name, folder, device, batch_size)]


if __name__ == "__main__":
    main()
