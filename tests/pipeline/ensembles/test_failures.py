"""Members that fail: each stops alone, whatever it was; a disk or a store that fails stops all."""

import errno
import os
import signal
import sqlite3
import weakref
from contextlib import closing
from typing import ClassVar

import pytest
import torch

from jsdelta_db.config.recipes import recipe_for
from jsdelta_db.errors import StoreError, TrainingError
from jsdelta_db.pipeline.ensembles import member
from jsdelta_db.pipeline.ensembles.resume_file import ResumeFile
from jsdelta_db.pipeline.train import train_ensemble
from jsdelta_db.workbench.workbench import open_workbench
from tests.pipeline.ensembles.networks import Viewing

FAILING = f"{__name__}:Failing"
DYING = f"{__name__}:Dying"
ERRORS = [
    (SystemExit(3), "its network failed in epoch 2 (SystemExit: 3)"),
    (torch.OutOfMemoryError("CUDA out of memory"), "out of memory at batch_size 128; try batch_size 64"),
]


class Failing(Viewing):
    """It raises an error in its second epoch: when it is trained after it was measured."""

    error: BaseException | None = None
    alive: ClassVar[weakref.WeakSet] = weakref.WeakSet()
    is_trained = is_measured = False

    def forward(self, x):
        """Return logits, in the first epoch."""
        if self.training and self.is_measured:
            Failing.alive.add(self)
            raise self.error
        self.is_trained = self.is_trained or self.training
        self.is_measured = self.is_trained and not self.training
        return super().forward(x)


class Dying(Failing):
    """It takes its process with it."""

    def forward(self, x):
        """Return logits, in the first epoch."""
        if self.training and self.is_measured:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(x)


def _ask(workspace, statement):
    with closing(sqlite3.connect(workspace.root / "jsdelta.db", timeout=30)) as connection:
        return connection.execute(statement).fetchall()


def _train(workspace, *names, **options):
    recipe = recipe_for("digits").override(
        members=len(names), epochs=2, batch_size=128, dtype="float32", arch="cnn-small", width=None
    )
    nets = [name if ":" in name else f"tests.pipeline.ensembles.networks:{name}" for name in names]
    with open_workbench(workspace) as bench:
        return train_ensemble(bench, recipe.mix(nets), name="theirs", **options)


@pytest.mark.parametrize(("error", "message"), ERRORS, ids=[type(error).__name__ for error, _ in ERRORS])
def test_whatever_stops_a_member_the_next_is_trained(error, message, workspace, monkeypatch):
    """The failure is told at the end, in one line; the failed network is not kept while the next one trains."""
    monkeypatch.setattr(Failing, "error", error)
    kept = []

    def count(run, metrics, real=member._log_epoch):
        kept.append(len(Failing.alive))
        real(run, metrics)

    monkeypatch.setattr(member, "_log_epoch", count)
    with pytest.raises(TrainingError) as caught:
        _train(workspace, FAILING, "Viewing")
    assert str(caught.value) == f"member seed 0 failed: {message}; the other member is kept"
    assert _ask(workspace, "SELECT status FROM model ORDER BY seed") == [("failed",), ("finished",)]
    assert kept == [0, 0, 0]


def test_a_network_that_fails_when_it_is_measured_at_last_stops_alone(workspace, monkeypatch):
    """What was trained goes on from its last epoch next time, once it can be measured."""
    with monkeypatch.context() as patch:
        patch.setattr(member, "_measure", lambda training, network, check: network("what"))
        with pytest.raises(TrainingError, match="its network failed when it was measured "):
            _train(workspace, "Viewing", "Viewing")
        assert _ask(workspace, "SELECT status FROM model") == [("failed",)] * 2
    _train(workspace, "Viewing", "Viewing")
    assert _ask(workspace, "SELECT status FROM model") == [("finished",)] * 2


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), StoreError("locked")])
def test_what_concerns_all_members_stops_all(error, workspace, monkeypatch):
    """A full disk is no member's own: the next one is not begun."""

    def write(*given):
        raise error

    monkeypatch.setattr(ResumeFile, "write", write)
    with pytest.raises(StoreError, match=str(error.args[-1])):
        _train(workspace, "Viewing", "Viewing")
    ((second,),) = _ask(workspace, "SELECT dtype FROM model WHERE seed = 1")
    assert second is None  # it is the first thing that a begun member's row gets


@pytest.mark.slow
def test_members_side_by_side_fail_alone(workspace):
    """Two take their processes with them and one raises an error; the last is trained by one in their place."""
    with pytest.raises(TrainingError) as caught:
        _train(workspace, DYING, DYING, FAILING, "Viewing", jobs=2)
    assert str(caught.value).startswith(
        "member seed 0 failed (and seed 1, 2): its process ended before it was"
    )
    assert _ask(workspace, "SELECT seed, status FROM model WHERE seed > 1 ORDER BY seed") == [
        (2, "failed"), (3, "finished"),
    ]  # fmt: skip
