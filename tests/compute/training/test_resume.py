"""A stopped training goes on from its last epoch; and catastrophic overfitting is detected."""

import dataclasses
from pathlib import Path

import pytest
import torch

from jsdelta_db.compute import data
from jsdelta_db.compute.data import Split
from jsdelta_db.compute.models import build_model
from jsdelta_db.compute.training import EpochMetrics, OverfittingWatch, Training, TrainingState, train
from jsdelta_db.config.locations import resolve_workspace
from jsdelta_db.config.training import TrainConfig
from jsdelta_db.pipeline.ensembles.resume_file import ResumeFile, StoppedTraining
from jsdelta_db.store.schema import Model

CPU = torch.device("cpu")
CONFIG = TrainConfig("digits", "cnn-small", epochs=3, width=4, batch_size=32, crop_padding=1, flip=True)
METHODS = {
    "standard": {},
    "sam": {"method": "sam", "sam_rho": 0.1},
    "adversarial": {
        "method": "adversarial", "train_norm": "linf", "train_eps": 4 / 255, "train_steps": 1,
        "train_step_size": 5 / 255,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def few_digits():
    """The data set with 100 training images and 100 to look at."""
    digits = data.load("digits", Path("unused"))
    few = {
        name: Split(split.images[:100], split.labels[:100], split.index[:100])
        for name, split in digits.splits.items()
    }
    return dataclasses.replace(digits, splits=few)


def _train(dataset, config, state=None, **options):
    model = build_model(config.arch, dataset, width=config.width)
    history = train(model, Training(dataset, config, 0, CPU, torch.float32), state=state, **options)
    return torch.cat([value.flatten().double() for value in model.state_dict().values()]), history


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_stopped_training_ends_as_if_it_had_not_been(method, epoch, few_digits):
    """From the state after any epoch: the same weights bit for bit, and the same history."""
    config = dataclasses.replace(CONFIG, **METHODS[method])
    saved = []
    weights, history = _train(few_digits, config, TrainingState(save=saved.append))
    assert len(saved) == 3
    reported = []
    state = TrainingState(saved[epoch - 1])
    assert history[:epoch] == state.history
    again, history_again = _train(few_digits, config, state, on_epoch=reported.append)
    assert torch.equal(weights, again)
    assert history == history_again
    assert history[epoch:] == reported


def test_the_most_robust_epoch_is_kept(few_digits, monkeypatch):
    """Of adversarial training the weights come from the epoch that the PGD check liked best."""
    config = dataclasses.replace(CONFIG, **METHODS["adversarial"])
    liked = iter([0.2, 0.5, 0.1])
    monkeypatch.setattr("jsdelta_db.compute.training.loop._measure_robustness", lambda *given: next(liked))
    states = []

    class Watching(TrainingState):
        def update(self, model, *given):
            values = model.state_dict().values()
            states.append(torch.cat([value.flatten().double() for value in values]))
            super().update(model, *given)

    weights, history = _train(few_digits, config, Watching())
    assert [each.pgd_accuracy for each in history] == [0.2, 0.5, 0.1]
    assert [torch.equal(weights, state) for state in states] == [False, True, False]


def test_the_state_of_another_network_does_not_fit(few_digits):
    """The state of one width is not loaded into another."""
    saved = []
    _train(few_digits, dataclasses.replace(CONFIG, epochs=1), TrainingState(save=saved.append))
    fits = [
        TrainingState(saved[0]).fits(build_model("cnn-small", few_digits, width=width)) for width in (4, 8)
    ]
    assert fits == [True, False]
    assert TrainingState().fits(build_model("cnn-small", few_digits))


def _epochs(*pgd):
    return [EpochMetrics(n, 1.0, 0.5, 0.5, 0.1, value) for n, value in enumerate(pgd, 1)]


@pytest.mark.parametrize(
    ("pgd", "told"),
    [
        ((0.2, 0.4, 0.45, 0.3), []),
        ((0.2, 0.4, 0.2), []),
        ((0.2, 0.4, 0.19, 0.0, 0.1), [3]),
        ((None, None), []),
        ((0.0, 0.0, 0.0), []),
    ],
)
def test_catastrophic_overfitting_is_told_once(pgd, told):
    """An accuracy under PGD below half of its best so far is one line; a slow decline is none."""
    watch = OverfittingWatch()
    said = {metrics.epoch: watch.check(metrics) for metrics in _epochs(*pgd)}
    assert [epoch for epoch, line in said.items() if line] == told
    for epoch in told:
        assert said[epoch].startswith(f"epoch {epoch}: accuracy under PGD fell from 40.0% to 19.0%")


def test_overfitting_is_told_after_a_restart_too():
    """The best of the epochs before a stop counts, and what was told is not told again."""
    watch = OverfittingWatch(_epochs(0.6))
    assert watch.check(_epochs(0.6, 0.1)[1])
    assert OverfittingWatch(_epochs(0.6, 0.1)).check(_epochs(0.6, 0.1, 0.05)[2]) is None


@pytest.fixture
def file(tmp_path):
    """The file of one member."""
    return ResumeFile(resolve_workspace(tmp_path), Model(uid="u" * 16, config_hash="c" * 64))


def test_kept_progress_comes_back_whole(file):
    """What is written is read back; removed it is gone, and removing twice is no error."""
    assert file.read() is None
    for kept in (StoppedTraining(b"\n\x00one\n", "run", "mlruns/1"), StoppedTraining(b"", None, "x")):
        file.write(kept)
        assert kept == file.read()
    file.remove()
    file.remove()
    assert file.read() is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content[:20],
        lambda content: b"",
        lambda content: b"\xff" + content,
        lambda content: b"[]\n" + content,
        lambda content: content.replace(b"c" * 64, b"d" * 64),
    ],
    ids=["cut short", "header cut", "empty", "not text", "another form", "another training's"],
)
def test_a_damaged_or_foreign_file_is_told(damage, file):
    """A file that is not this training's, whole, is a ValueError and never loaded."""
    file.write(StoppedTraining(b"content", "run", "mlruns/1"))
    file.path.write_bytes(damage(file.path.read_bytes()))
    with pytest.raises(ValueError, match=r"."):
        file.read()
