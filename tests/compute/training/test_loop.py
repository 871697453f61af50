"""Training: it learns, the seed decides the weights, and failures are told."""

import dataclasses
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from jsdelta_db.compute import data
from jsdelta_db.compute.attacks.robust import robust_accuracy
from jsdelta_db.compute.data import Split
from jsdelta_db.compute.models import build_model, predict
from jsdelta_db.compute.training import METHODS, Training, accuracy, find_method, loop, train
from jsdelta_db.compute.training.loop import make_schedule
from jsdelta_db.config.attack import ROBUST_CHECKS
from jsdelta_db.config.recipes import recipe_for
from jsdelta_db.config.training import TrainConfig
from jsdelta_db.errors import TrainingError, UnknownNameError
from tests.compute.training.operations import Operations

CPU = torch.device("cpu")
SETTINGS = {
    "standard": {},
    "sam": {"method": "sam", "sam_rho": 0.1},
    "adversarial": {
        "method": "adversarial", "train_norm": "linf", "train_eps": 4 / 255, "train_steps": 2,
        "train_step_size": 3 / 255,
    },
}  # fmt: skip
CONFIG = TrainConfig(
    "digits", "cnn-small", epochs=2, width=4, batch_size=32, learning_rate=0.05, dtype="float32"
)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Networks this small are slower on several threads, above all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", Path("unused"))


def _first(split, n):
    return Split(split.images[:n], split.labels[:n], split.index[:n])


@pytest.fixture(scope="module")
def few_digits(digits):
    """The data set with 160 training images."""
    return dataclasses.replace(digits, splits={**digits.splits, "train": _first(digits.splits["train"], 160)})


def _train(dataset, config=CONFIG, *, seed=0, dtype=torch.float32, **options):
    model = build_model(config.arch, dataset, width=config.width, seed=seed)
    history = train(model, Training(dataset, config, seed, CPU, dtype), **options)
    return model, history


def _weights(model):
    return torch.cat([tensor.flatten().double() for tensor in model.state_dict().values()])


def test_the_loss_falls(digits):
    """On the digits a few epochs take the loss from chance to half of it or less, and accuracy up."""
    _, history = _train(digits, dataclasses.replace(CONFIG, epochs=3))
    assert [metrics.epoch for metrics in history] == [1, 2, 3]
    assert history[-1].loss < 0.5 * np.log(10)
    assert history[-1].loss < history[0].loss
    assert history[-1].train_accuracy > 0.7
    assert history[-1].baseline_accuracy > 0.7


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_seed_decides_the_weights(few_digits, dtype):
    """The same seed gives the same weights bit for bit, another seed others."""
    first, again, other = (_weights(_train(few_digits, seed=seed, dtype=dtype)[0]) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_seed_decides_the_order_of_the_images(few_digits):
    """From the same start, another seed walks another way."""
    results = []
    for seed in (0, 1):
        model = build_model("cnn-small", few_digits, width=4)
        train(model, Training(few_digits, CONFIG, seed, CPU, torch.float32))
        results.append(_weights(model))
    assert not torch.equal(*results)


def test_training_neither_reads_nor_moves_the_global_generator(few_digits):
    """The seed alone decides: whatever ran before in the process does not."""
    results = []
    for state in (1, 2):
        torch.manual_seed(state)
        before = torch.get_rng_state()
        results.append(
            _weights(_train(few_digits, dataclasses.replace(CONFIG, crop_padding=1, flip=True))[0])
        )
        assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(*results)


class WithDropout(nn.Module):
    """A network of the user's that draws random numbers while it trains."""

    def __init__(self, num_classes, in_channels, image_size):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Dropout(), nn.Linear(in_channels * image_size**2, num_classes)
        )

    def forward(self, x):
        return self.layers(x)


class WithBatchNorm(nn.Module):
    """A network of the user's whose batch norm sees one value per image."""

    def __init__(self, num_classes, in_channels, image_size):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(in_channels * image_size**2, 8),
            nn.BatchNorm1d(8),
            nn.Linear(8, num_classes),
        )

    def forward(self, x):
        return self.layers(x)


@pytest.fixture
def user_module(monkeypatch):
    """A module of the user's, importable as ``mine``."""
    module = types.ModuleType("mine")
    module.WithDropout, module.WithBatchNorm = WithDropout, WithBatchNorm
    monkeypatch.setitem(sys.modules, "mine", module)
    return module


def test_the_seed_decides_dropout_too(few_digits, user_module):
    """A network with dropout gets the same weights from the same seed, whatever ran before."""
    config = dataclasses.replace(CONFIG, arch="mine:WithDropout", width=None, epochs=1)
    results = []
    for state in (1, 2):
        torch.manual_seed(state)
        results.append(_weights(_train(few_digits, config)[0]))
    assert torch.equal(*results)


@pytest.mark.parametrize("n", [31, 32, 33, 64, 65])
def test_any_number_of_images_can_be_trained_on(digits, user_module, n):
    """A last batch of one image does not stop a network whose batch norm needs two values."""
    train_split = _first(digits.splits["train"], n)
    dataset = dataclasses.replace(digits, splits={**digits.splits, "train": train_split})
    config = dataclasses.replace(CONFIG, arch="mine:WithBatchNorm", width=None, epochs=1)
    _, (metrics,) = _train(dataset, config)
    assert np.isfinite(metrics.loss)


def test_each_epoch_is_reported_when_it_ends(few_digits):
    """The callback gets what the history holds, epoch by epoch."""
    reported = []
    _, history = _train(few_digits, on_epoch=reported.append)
    assert history == reported


def test_the_model_is_left_in_eval_mode(few_digits):
    """After training the model is ready to predict, and its reported accuracy is the one it has."""
    model, history = _train(few_digits)
    assert not model.training
    split = few_digits.splits["baseline"]
    right = predict(model, split, CPU).argmax(1) == split.labels.numpy()
    assert right.mean() == history[-1].baseline_accuracy == accuracy(model, split, CPU)


def test_the_data_set_is_left_untouched(digits):
    """Training with augmentation changes no stored image."""
    before = digits.fingerprint()
    small = dataclasses.replace(digits, splits={**digits.splits, "train": _first(digits.splits["train"], 64)})
    _train(small, dataclasses.replace(CONFIG, epochs=1, crop_padding=1, flip=True))
    assert before == digits.fingerprint()


def test_a_loss_that_is_not_finite_is_a_training_error(few_digits):
    """A learning rate that is far too large is one line that says where, and what to try."""
    config = dataclasses.replace(CONFIG, learning_rate=1e30, schedule="constant")
    with pytest.raises(
        TrainingError, match=r"not finite at step 2 \(epoch 1\); try a smaller learning_rate than 1e\+30"
    ) as caught:
        _train(few_digits, config)
    assert len(str(caught.value).splitlines()) == 1


def test_unknown_method_lists_what_exists(few_digits):
    """An unknown method is a usage error with every method, before any step."""
    with pytest.raises(
        UnknownNameError, match="unknown method 'magic'; there is: standard, adversarial, sam"
    ):
        _train(few_digits, dataclasses.replace(CONFIG, method="magic"))
    assert METHODS["standard"] is find_method("standard")


@pytest.mark.parametrize(("schedule", "rises"), [("one-cycle", True), ("constant", False)])
def test_schedules(schedule, rises):
    """One cycle goes up to the recipe's rate and down to nearly nothing; constant stays."""
    config = dataclasses.replace(CONFIG, schedule=schedule, learning_rate=0.4)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.4)
    scheduler, rates = make_schedule(optimizer, config, 40), []
    for _ in range(40):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    assert max(rates) == pytest.approx(0.4, rel=0.01)
    assert (rates[0] < 0.1, rates[-1] < 0.01) == (rises, rises)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory: 12 bytes")]
)
def test_out_of_memory_says_which_batch_size_to_try(error, few_digits, monkeypatch):
    """Memory that does not suffice is one line with half the batch size; other errors stay what they are."""

    def step(*given):
        raise error

    monkeypatch.setitem(METHODS, "standard", step)
    with pytest.raises(TrainingError, match=r"out of memory at batch_size 32; try batch_size 16"):
        _train(few_digits)
    error = RuntimeError("shapes do not fit")
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        _train(few_digits)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_read_from_the_device_between_epochs_ends(method, few_digits):
    """Twice as many batches an epoch wait for the device as often: at its end alone."""
    waits = []
    for batch_size in (64, 32):
        config = dataclasses.replace(
            CONFIG, epochs=1, batch_size=batch_size, crop_padding=1, flip=True, **SETTINGS[method]
        )
        with Operations() as operations:
            _train(few_digits, config)
        waits.append(operations.waits)
    assert waits[0] == waits[1] > 0


def test_a_card_draws_the_noise_of_adversarial_starts_itself(few_digits, monkeypatch):
    """Its generator is keyed by seed and epoch; on a CPU the starts come from the shifts' generator, as ever."""

    class Generator:
        def __init__(self, device="cpu"):
            self.device = device

        def manual_seed(self, seed):
            self.seed = seed
            return self

    monkeypatch.setattr(torch, "Generator", Generator)
    shifts = Generator()
    on_card, on_cpu = (
        Training(few_digits, CONFIG, 0, device, torch.float32) for device in (torch.device("cuda:1"), CPU)
    )
    assert loop.noise_generator(on_cpu, 1, shifts) is shifts
    first, again, other = (loop.noise_generator(on_card, epoch, shifts) for epoch in (1, 1, 2))
    assert first.device == on_card.device
    assert first.seed == again.seed
    assert len({first.seed, other.seed, on_card.draw_seed("augment", 1)}) == 3


# ---- the methods, on all digits


@pytest.fixture(scope="module")
def trained(digits):
    """Each method's clean and robust accuracy after a few epochs of its own recipe."""
    results = {}
    for method in METHODS:
        config = dataclasses.replace(recipe_for("digits", method).train, epochs=5)
        model, _ = _train(digits, config)
        check, split = ROBUST_CHECKS["digits"], digits.splits["attack"]
        results[method] = accuracy(model, split, CPU), robust_accuracy(model, split, check, CPU)[0]
    return results


def test_adversarial_training_raises_robust_accuracy(trained):
    """At its ε adversarial training keeps most labels where standard training loses most, both about as accurate."""
    assert trained["standard"][1] < 0.3
    assert trained["adversarial"][1] > 0.6
    assert trained["adversarial"][0] > 0.93


def test_sam_keeps_clean_accuracy(trained):
    """SAM is as accurate as standard training, within a point and a half."""
    assert trained["sam"][0] > trained["standard"][0] - 0.015
    assert trained["standard"][0] > 0.94
