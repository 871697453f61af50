"""All that has to be found out on a CUDA card, in ten minutes: ``python benchmarks/gpu.py --out DIR``.

Twelve checks, what must be right first and what is only measured last. Each runs in a process of its own
with a deadline, so that none can hang or spoil the rest, and writes ``DIR/NN-name.json``; ``DIR/gpu.json``
joins them.
Exit code 0: nothing failed; 1: a check failed or did not come to its end; 3: there is no CUDA card.
"""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

# name -> share of the time; what a check leaves over is shared among those after it
CHECKS = {
    "arithmetic": 4, "captures": 10, "determinism": 3, "synchronizations": 3, "fallback": 3, "memory": 4,
    "training": 6, "attack_speed": 10, "training_speed": 9, "processes": 5, "host": 3, "compiled": 6,
}  # fmt: skip
OK, FAILED, NO_CARD = 0, 1, 3
GRACE = 5.0  # seconds that a check gets beyond its deadline to say what it has
MINUTES = {"cuda": 9.0, "cpu": 10.0}  # an idle CPU needs less than one
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
HEAVY = ("torchvision", "sklearn.datasets", "gpu_checks.subjects")


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is asked for."""

    out: Path
    device: str
    names: Sequence[str]

    def path_of(self, name: str) -> Path:
        """Return the file of a check, numbered as in the list of all."""
        return self.out / f"{list(CHECKS).index(name) + 1:02}-{name.replace('_', '-')}.json"


def run_check(plan: Plan, name: str, until: float) -> None:
    """Run one check in this process, a leader of those that it starts: they end with it.

    Args:
        until: seconds since the epoch; what the start took is over already.
    """
    with suppress(OSError):  # it leads already, if a shell started it
        os.setsid()
    from gpu_checks.findings import Report
    from gpu_checks.starting import resolve
    from machine import facts

    report = Report(plan.path_of(name), name, current="its start")
    report.save()
    try:
        device = resolve(plan.device)
        report.machine = facts(device)
        cases = import_module(f"gpu_checks.{name}").cases(device)
        report.run(cases, until - time.time())
    except Exception as error:  # noqa: BLE001 the next check is to run, whatever this one meets
        report.reason = "it broke off"
        report.fail(name, error)
        report.save()


def run_apart(plan: Plan, name: str, seconds: float) -> dict[str, Any]:
    """Run one check in a process of its own, stop it at its deadline, and return what it wrote."""
    from gpu_checks.starting import context_for

    process = context_for(plan.device).Process(target=run_check, args=(plan, name, time.time() + seconds))
    process.start()
    try:
        process.join(seconds + GRACE)
        stopped = process.is_alive()
    finally:
        end(process)
    result = read(plan.path_of(name)) or {"name": name, "findings": [], "current": "its start", "errors": {}}
    result["exit_code"] = process.exitcode
    if result["current"]:
        how = f"was stopped after {seconds:.0f} s" if stopped else f"ended with code {process.exitcode}"
        result |= {"status": "fail", "reason": f"{how} in {result['current']!r}"}
        plan.path_of(name).write_text(json.dumps(result, indent=1), encoding="utf-8")
    return result


def end(process: BaseProcess) -> None:
    """End a check and whatever it started."""
    assert process.pid is not None
    with suppress(ProcessLookupError, PermissionError):  # it may have ended, or not yet lead its group
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()


def read(path: Path) -> dict[str, Any] | None:
    """Return what a check wrote; None if it came to nothing."""
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found


def run_all(plan: Plan, minutes: float) -> list[dict[str, Any]]:
    """Run the checks one after the other within the time; each leaves what it has in the folder."""
    plan.out.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + minutes * 60
    results: list[dict[str, Any]] = []
    for position, name in enumerate(plan.names):
        plan.path_of(name).unlink(missing_ok=True)  # of an earlier run
        share = CHECKS[name] / sum(CHECKS[each] for each in plan.names[position:])
        seconds = max(share * (until - time.monotonic()), 1.0)
        print(f"{name}, at most {seconds:.0f} s", file=sys.stderr, flush=True)
        results.append(run_apart(plan, name, seconds))
        join(plan, results)
    return results


def join(plan: Plan, results: Sequence[dict[str, Any]]) -> None:
    """Write what is known so far into one file."""
    machines = (each["machine"] for each in results if each.get("machine"))
    content = {"device": plan.device, "machine": next(machines, {}), "checks": results}
    (plan.out / "gpu.json").write_text(json.dumps(content, indent=1), encoding="utf-8")


def show(results: Sequence[dict[str, Any]]) -> None:
    """Print the table: of what passed the number alone, of the rest a line each."""
    machine = next((each["machine"] for each in results if each.get("machine")), {})
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    for result in results:
        passed = sum(each["passed"] is True for each in result["findings"])
        about = f"{passed} passed" if passed else ""
        print(
            f"{list(CHECKS).index(result['name']) + 1:2} {result['name']:17} {result['status']:10} "
            f"{result.get('seconds', 0):5.0f} s  {about} {result['reason']}".rstrip()
        )
        for each in result["findings"]:
            if each["passed"] is not True:
                print(f"{'':6}{_line(each)}")


def _line(finding: dict[str, Any]) -> str:
    value = "" if finding["value"] is None else f": {finding['value']}"
    wanted = f" (wanted {finding['wanted']})" if finding["wanted"] else ""
    verdict = "FAIL " if finding["passed"] is False else ""
    return f"{verdict}{finding['name']}{value}{wanted}{'; ' + finding['note'] if finding['note'] else ''}"


def why_no_card() -> str | None:
    """Return why there is no card to check, None if there is one."""
    import torch

    if torch.cuda.is_available():
        return None
    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    return f"there is no CUDA card here (torch {torch.__version__}, {built})"


def main() -> int:
    """Check and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the JSON files; made if missing")
    parser.add_argument("--minutes", type=float, help="for everything: 9 on a card, 10 on a CPU")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, or cpu for what makes sense there")
    parser.add_argument("--only", action="append", choices=tuple(CHECKS), help="a check; may be repeated")
    options = parser.parse_args()
    if options.device != "cpu" and (reason := why_no_card()) is not None:
        print(f"benchmarks/gpu.py: {reason}; --device cpu runs what makes sense on a CPU", file=sys.stderr)
        return NO_CARD
    if options.device == "cpu":
        os.environ |= ONE_THREAD
        for heavy in HEAVY:  # once, for all that is forked
            import_module(heavy)
    names = [name for name in CHECKS if name in (options.only or CHECKS)]
    plan = Plan(options.out.resolve(), options.device, names)
    minutes = options.minutes or MINUTES["cpu" if options.device == "cpu" else "cuda"]
    results = run_all(plan, minutes)
    show(results)
    return FAILED if any(each["status"] in ("fail", "incomplete") for each in results) else OK


if __name__ == "__main__":
    sys.exit(main())
