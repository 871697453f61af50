"""The card's script on a CPU: a check that goes wrong stops no other, and each check can fail."""

import importlib
import json
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
CPU = torch.device("cpu")
# Four checks in place of the real ones: run as the script runs its own.
STAND_INS = {
    "hangs": "import time\ndef cases(device):\n    return [Case('sleep', lambda: time.sleep(600))]",
    "dies": "import os\ndef cases(device):\n    return [Case('exit', lambda: os._exit(7))]",
    "raises": "def cases(device):\n    raise ValueError('no cases today')",
    "works": "def cases(device):\n    return [Case('half', lambda: 1 / 0), Case('one', lambda: [Finding('one', 1, True)])]",
}
DRIVER = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import gpu, gpu_checks
gpu_checks.__path__.append(sys.argv[2])
import gpu_checks.findings, gpu_checks.starting, machine  # so that a fork is at work at once
gpu.CHECKS, gpu.GRACE = {"hangs": 2, "dies": 20, "raises": 20, "works": 20}, 0.2
results = gpu.run_all(gpu.Plan(Path(sys.argv[3]), "cpu", list(gpu.CHECKS)), minutes=float(sys.argv[4]))
gpu.show(results)
"""


@pytest.fixture(autouse=True)
def _own_modules(monkeypatch):
    """The script's modules are found, as beside the script."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in [each for each in sys.modules if each.partition(".")[0] in ("gpu", "gpu_checks")]:
        del sys.modules[name]


def check(name):
    return importlib.import_module(f"gpu_checks.{name}")


def findings_of(name: str, only: str = "") -> dict:
    """What the cases of a check find whose names begin so."""
    found = [case.run() for case in check(name).cases(CPU) if case.name.startswith(only)]
    return {each.name: each for part in found for each in part}


def test_without_a_card_the_script_says_so(monkeypatch, tmp_path, capsys):
    """Exit code 3, one line with the way out, and nothing is run."""
    gpu = importlib.import_module("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--out", str(tmp_path / "out")])
    assert gpu.main() == 3
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert "there is no CUDA card here" in said.err
    assert "--device cpu" in said.err
    assert not (tmp_path / "out").exists()


def test_a_check_that_hangs_dies_or_raises_stops_no_other(tmp_path):
    """Each leaves a file that says what happened and where; the joined file and the table have them all."""
    stand_ins, out = tmp_path / "checks", tmp_path / "out"
    stand_ins.mkdir()
    for name, text in STAND_INS.items():
        head = "from gpu_checks.findings import Case, Finding\n"
        (stand_ins / f"{name}.py").write_text(head + text + "\n")
    command = [sys.executable, "-c", DRIVER, str(BENCHMARKS), str(stand_ins), str(out), "2"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    results = {each["name"]: each for each in json.loads((out / "gpu.json").read_text())["checks"]}
    assert {name: each["status"] for name, each in results.items()} == dict.fromkeys(STAND_INS, "fail")
    assert "was stopped after" in results["hangs"]["reason"]
    assert "'sleep'" in results["hangs"]["reason"]
    assert results["dies"]["reason"] == "ended with code 7 in 'exit'"
    assert results["raises"]["findings"][0]["note"] == "ValueError: no cases today"
    failed, passed = results["works"]["findings"]
    assert (failed["passed"], failed["note"]) == (False, "ZeroDivisionError: division by zero")
    assert (passed["name"], passed["passed"]) == ("one", True)
    files = sorted(path.name for path in out.iterdir())
    assert files == ["01-hangs.json", "02-dies.json", "03-raises.json", "04-works.json", "gpu.json"]
    assert [line.split()[1] for line in done.stdout.splitlines() if line.startswith(" ")][::2][:1] == [
        "hangs"
    ]


def test_cases_without_time_are_named(tmp_path):
    """A check out of time is incomplete, says so, and lists what it did not come to."""
    findings = check("findings")
    report = findings.Report(tmp_path / "check.json", "some")
    cases = [findings.Case(name, lambda: [findings.Finding("seen", 1, True)]) for name in ("one", "two")]
    report.run(cases[:1], seconds=60)
    report.run(cases[1:], seconds=0)
    saved = json.loads(report.path.read_text())
    assert (saved["status"], saved["current"]) == ("incomplete", "")
    assert saved["findings"][1] == {
        "name": "two", "value": None, "passed": None, "wanted": "", "note": "no time left for it",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("verdicts", "status"),
    [
        ([True, None], "pass"), ([True, False], "fail"), ([None], "measured"), ([], "skipped"),
    ],
)  # fmt: skip
def test_status_follows_from_the_findings(tmp_path, verdicts, status):
    """One failure fails the check; what has no verdict is measured; nothing at all is skipped."""
    findings = check("findings")
    report = findings.Report(tmp_path / "check.json", "some")
    report.findings = [findings.Finding("one", 1, verdict) for verdict in verdicts]
    assert report.status == status


def test_arithmetic_is_float32_and_less_would_show():
    """The CPU's products are within 1e-6 of float64; ten bits are not."""
    found = findings_of("arithmetic", "as resolved")
    assert [each.passed for each in found.values()] == [True] * 4

    def as_tf32(a, b):
        rounded = (a.bfloat16(), b.bfloat16()) if a.dtype is torch.float32 else (a, b)
        return torch.mm(*rounded).to(a.dtype)

    a, b = torch.randn(2, 64, 64, generator=torch.Generator().manual_seed(0))
    assert check("arithmetic")._error(as_tf32, a, b) > 1e-4


@pytest.mark.parametrize("name", ["captures", "determinism"])
def test_an_attack_that_does_not_repeat_itself_fails(monkeypatch, name):
    """The first network's bytes are equal as it is, and are found not to be where each attack differs."""
    module, perturb = check(name), check(name).perturb
    case = next(each for each in module.cases(CPU) if each.name.startswith("resnet8"))
    assert [each.passed for each in case.run()] == [True]
    calls = []

    def another(*arguments):
        calls.append(1)
        samples = perturb(*arguments)
        return replace(samples, logits=samples.logits + np.float32(len(calls)))

    monkeypatch.setattr(module, "perturb", another)
    assert [each.passed for each in case.run()] == [False]


def test_synchronizations_are_counted_by_line():
    """What reads a number is found at the line of ours that asked for it; other work is not counted."""
    counting = check("synchronizations").counting
    with counting(CPU) as lines:
        torch.ones(3).mul_(2).sum()
    assert not lines
    with counting(CPU) as lines:
        from jsdelta_db.compute.attacks.preflight import check_images

        check_images(torch.zeros(2, 1, 2, 2), "images")
    assert [line.partition(":")[0] for line in lines] == ["compute/attacks/preflight.py"]
    assert sum(lines.values()) == 2


def test_synchronizations_of_a_card_are_counted_by_line(monkeypatch):
    """torch's warnings are counted and kept from the screen; its mode and other warnings come back."""
    module, modes = check("synchronizations"), [0]
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: modes[-1])
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    with warnings.catch_warnings(record=True) as others, module.counting(torch.device("cuda")) as lines:
        assert modes[-1] == "warn"
        for _ in range(3):
            warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
        warnings.warn("of another kind", stacklevel=1)
    assert [str(each.message) for each in others] == ["of another kind"]
    assert modes[-1] == 0
    assert list(lines.values()) == [3]


def test_awkward_networks_and_a_full_card_are_checked():
    """A network that branches or synchronizes is attacked as eager; halved batches keep all attempts."""
    found = findings_of("fallback")
    assert {each.passed for each in found.values() if each.passed is not None} == {True}
    assert found["recorded batch"].value == 8


@pytest.mark.slow
def test_the_whole_script_on_a_cpu(tmp_path):
    """Nothing fails; each check writes its file, the joined one has all, and the table comes last."""
    command = [sys.executable, BENCHMARKS / "gpu.py", "--device", "cpu", "--out", tmp_path]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    joined = json.loads((tmp_path / "gpu.json").read_text())
    assert len(joined["checks"]) == 12
    assert {each["status"] for each in joined["checks"]} <= {"pass", "measured", "skipped"}
    assert len(list(tmp_path.glob("??-*.json"))) == 12
    assert joined["machine"]["threads"] == 1
    assert "arithmetic" in done.stdout.splitlines()[1]
