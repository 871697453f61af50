"""Findings of one check: its cases run one by one, and its JSON file is written anew after each."""

import gc
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

BEGIN_UNTIL = 0.8  # of a check's time: a case that begins later would be cut off
LAST_LINES = 12  # of a traceback: the innermost frames


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found.

    Attributes:
        value: what was measured; None if nothing was.
        passed: the verdict; None where there is none.
        wanted: the value that was asked for, or that was expected before anybody had measured.
        note: why nothing was measured, or what to know.
    """

    name: str
    value: Any = None
    passed: bool | None = None
    wanted: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """A part of a check that can fail by itself; nothing is computed before ``run()``."""

    name: str
    run: Callable[[], Iterable[Finding]]


def skipped(name: str, reason: str) -> Case:
    """Return a case that says why it is none here."""
    return Case(name, lambda: [Finding(name, note=reason)])


@dataclass(slots=True)
class Report:
    """What a check has found so far, and the file that says so.

    Attributes:
        reason: why the check did not come to its end; "" if it did.
        errors: tracebacks by the name of a case.
    """

    path: Path
    name: str
    begun: float = field(default_factory=time.perf_counter)
    findings: list[Finding] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    current: str = ""
    reason: str = ""

    def run(self, cases: Sequence[Case], seconds: float) -> None:
        """Run the cases as long as there is time; one that fails does not stop the next."""
        begun = time.perf_counter()
        for case in cases:
            if time.perf_counter() - begun > BEGIN_UNTIL * seconds:
                self.findings.append(Finding(case.name, note="no time left for it"))
                self.reason = "the time ran out; give it more --minutes"
                continue
            self.current = case.name
            self.save()
            self._run_one(case)
        self.current = ""
        self.save()

    def _run_one(self, case: Case) -> None:
        try:
            for finding in case.run():
                self.findings.append(finding)
        except Exception as error:  # noqa: BLE001 whatever goes wrong on a card is what the check is to find
            self.fail(case.name, error)
        gc.collect()
        if torch.cuda.is_initialized():
            try:
                torch.cuda.synchronize()
                torch.cuda.empty_cache()
            except RuntimeError as error:  # the card is in an error state: all that follows says so, too
                self.fail(f"{case.name}, afterwards", error)

    def fail(self, name: str, error: Exception) -> None:
        """Note an error as a finding that failed."""
        text = (str(error) or type(error).__name__).splitlines()[0]
        self.findings.append(Finding(name, passed=False, note=f"{type(error).__name__}: {text}"))
        lines = "".join(traceback.format_exception(error)).splitlines()
        self.errors[name] = "\n".join(lines[-LAST_LINES:])
        print(f"{self.name}: {name}\n{self.errors[name]}", file=sys.stderr, flush=True)

    @property
    def status(self) -> str:
        """``running``, ``fail``, ``incomplete``, ``pass``, ``measured`` or ``skipped``."""
        verdicts = [each.passed for each in self.findings]
        if False in verdicts:
            return "fail"
        if self.current:
            return "running"
        if self.reason:
            return "incomplete"
        if True in verdicts:
            return "pass"
        return "measured" if any(each.value is not None for each in self.findings) else "skipped"

    def save(self) -> None:
        """Write the file; whoever reads it never meets half of it."""
        content = {
            "name": self.name, "status": self.status, "reason": self.reason, "current": self.current,
            "seconds": round(time.perf_counter() - self.begun, 1), "machine": self.machine,
            "findings": [asdict(each) for each in self.findings], "errors": self.errors,
        }  # fmt: skip
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(content, indent=1, default=str), encoding="utf-8")
        new.replace(self.path)
