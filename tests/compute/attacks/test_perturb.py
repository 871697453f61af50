"""One chunk of attempts: what comes back, equal bytes, and what is left untouched."""

import copy
import dataclasses
import hashlib
import sys

import numpy as np
import pytest
import torch
from torch import nn

from jsdelta_db.compute.attacks import (
    PreparedAttack,
    PreparedModel,
    apply_delta,
    choose_attempts,
    chunk_size,
    find_perturbations,
    perturb,
    plan_chunk_size,
    prepare,
)
from jsdelta_db.compute.attacks.robust import robust_accuracy
from jsdelta_db.compute.attacks.targets import choose_images
from jsdelta_db.compute.data import Split
from jsdelta_db.compute.models.inference import forward, predict
from jsdelta_db.config.attack import AttackConfig
from jsdelta_db.config.checks import NORMS
from jsdelta_db.records import UNTARGETED

from .attack_cases import (
    CLASSES,
    CPU,
    EPS,
    attack_chunk,
    attack_digits,
    make_attempts,
    make_cnn,
    make_linear,
    make_plane,
    make_split,
    run,
    trained_digits,
)

# ---- what comes back


@pytest.mark.parametrize("norm", NORMS)
def test_perturb_reaches_the_best_point(norm):
    """The whole chain ends at the closed form of a linear model, to the precision that is stored."""
    plane, split, eps = make_plane(), make_split(6, classes=2), EPS[norm]
    split.images.mul_(0.5).add_(0.25)
    config = AttackConfig(eps=eps, norm=norm, steps=50, random_start=False)
    samples = run(plane, split, make_attempts(split, 6, ("a", "b")), config)
    towards = np.where(samples.target_label == 0, 1, -1)[:, None, None, None]
    w = plane.w.detach()
    unit = w.sign() if norm == "linf" else w / w.norm()
    np.testing.assert_allclose(eps * towards * unit.numpy(), samples.delta, rtol=0, atol=eps * 2**-10)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("rule", ["random", "untargeted"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_reported_is_what_is_stored(norm, rule, dtype):
    """Logits, success and confidence are of x + stored delta, by the model itself in float32 and eval mode."""
    cnn, split = make_cnn(), make_split(8, (1, 8, 8))
    attempts = make_attempts(split, 8, rule=rule)
    samples = run(cnn, split, attempts, AttackConfig(eps=10 * EPS[norm], norm=norm, steps=8), dtype=dtype)
    x_adv = apply_delta(split.images, torch.from_numpy(samples.delta))
    np.testing.assert_allclose(forward(cnn, x_adv), samples.logits, rtol=0, atol=1e-5)
    right = predict(cnn, split, CPU).argmax(1) == attempts.source_label
    after = samples.logits.argmax(1)
    targeted = attempts.requested_target != UNTARGETED
    reached = np.where(targeted, after == attempts.requested_target, after != attempts.source_label)
    assert (right & reached).tolist() == samples.success.tolist()
    assert reached.sum() > 0
    probs = torch.from_numpy(samples.logits).double().softmax(1).numpy()
    assert probs[np.arange(8), samples.target_label].tolist() == pytest.approx(samples.confidence.tolist())


def test_the_target_label_of_a_targeted_attempt_is_the_one_aimed_at():
    """Whether it was reached or not."""
    (samples,) = attack_digits(AttackConfig(eps=5 / 255, steps=5))
    assert samples.attempts.requested_target.tolist() == samples.target_label.tolist()
    assert 0 < samples.success.sum() < len(samples.success)


@pytest.mark.parametrize("norm", NORMS)
def test_the_target_label_of_an_untargeted_attempt_is_a_wrong_one(norm):
    """The label reached, or the closest wrong one when it failed; never the source."""
    (samples,) = attack_digits(AttackConfig(eps=0.5 * EPS[norm], norm=norm, steps=5), rule="untargeted")
    source = samples.attempts.source_label
    assert (samples.target_label != source).all()
    after = samples.logits.argmax(1)
    assert after[samples.success].tolist() == samples.target_label[samples.success].tolist()
    failed = ~samples.success
    assert 0 < failed.sum() < len(failed)
    assert source[failed].tolist() == after[failed].tolist()
    second = samples.logits.argsort(1)[:, -2]
    assert second[failed].tolist() == samples.target_label[failed].tolist()


def test_rows_are_found_by_stable_index():
    """Attempts on some images, in any order, attack those very images."""
    cnn, split = make_cnn(), make_split(8, (1, 8, 8))
    config = AttackConfig(eps=EPS["linf"], steps=2)
    rows = np.array([6, 1, 4])
    attempts = choose_attempts("next", split.index[rows], split.labels.numpy()[rows], CLASSES, 0)
    samples = run(cnn, split, attempts, config)
    everything = run(cnn, split, make_attempts(split, 8, rule="next"), config)
    np.testing.assert_allclose(everything.delta[rows], samples.delta, rtol=0, atol=1e-3)
    np.testing.assert_allclose(everything.logits[rows], samples.logits, rtol=0, atol=1e-3)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("requires_grad", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_models_and_images_are_left_as_they_were(training, requires_grad, dtype):
    """Mode, requires_grad, gradients, weights and statistics of all models stay, and so do the images."""
    models = [make_cnn(seed).train(training).requires_grad_(requires_grad) for seed in range(3)]
    split = make_split(5, (1, 8, 8))
    weights = [{name: tensor.clone() for name, tensor in each.state_dict().items()} for each in models]
    images, labels = split.images.clone(), split.labels.clone()
    attempts = make_attempts(split, 5)
    asked = copy.deepcopy(attempts)
    config = AttackConfig(eps=EPS["linf"], steps=3, restarts=2, objective="bug")
    run(models[0], split, attempts, config, surrogates=models[1:], dtype=dtype)
    for model, before in zip(models, weights, strict=True):
        assert all(module.training == training for module in model.modules())
        assert all(parameter.requires_grad == requires_grad for parameter in model.parameters())
        assert all(parameter.grad is None for parameter in model.parameters())
        assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert torch.equal(images, split.images)
    assert torch.equal(labels, split.labels)
    for field in dataclasses.fields(attempts):
        assert getattr(asked, field.name).tolist() == getattr(attempts, field.name).tolist()


# ---- equal bytes


def digest(samples):
    """Hash all that is stored of a chunk."""
    names = ("delta", "logits", "success", "target_label", "linf", "l2", "confidence")
    return [hashlib.sha256(getattr(samples, name).tobytes()).hexdigest() for name in names]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "changes",
    [
        {"norm": "linf"},
        {"norm": "l2", "restarts": 2},
        {"objective": "feature", "stop": "first-hit"},
        {"objective": "bug", "restarts": 2},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_the_same_chunk_gives_the_same_bytes(changes, dtype):
    """Whatever ran before, in whatever model object: equal inputs, equal bytes; also of a padded chunk."""
    models, split = [make_cnn(seed) for seed in range(2)], make_split(13, (1, 8, 8))
    config = AttackConfig(**{"eps": EPS[changes.get("norm", "linf")], "steps": 4, **changes})
    attempts = make_attempts(split, 13)
    prepared = prepare(models[0], split.images, dtype)
    last = attempts.chunk(1, 8)
    first = run(models[0], split, last, config, prepared=prepared, surrogates=models[1:], dtype=dtype)
    run(models[0], split, attempts.chunk(0, 8), config, prepared=prepared, surrogates=models[1:], dtype=dtype)
    torch.manual_seed(123)
    again = run(models[0], split, last, config, prepared=prepared, surrogates=models[1:], dtype=dtype)
    attacked, *surrogates = copy.deepcopy(models)
    fresh = run(attacked, split, last, config, surrogates=surrogates, dtype=dtype)
    assert len(first.success) == 5
    assert digest(first) == digest(again) == digest(fresh)


@pytest.mark.parametrize("restarts", [1, 2])
def test_the_last_chunk_is_padded(restarts):
    """Every batch of an attack has the shape of a whole chunk; what comes back is not padded."""
    split = make_split(11, (1, 8, 8))
    attempts = make_attempts(split, 11).chunk(1, 8)
    prepared = prepare(make_cnn(), split.images)
    sizes = []
    for model in (prepared.model, prepared.frozen):
        model.register_forward_pre_hook(lambda module, given: sizes.append(len(given[0])))
    clean_logits = np.zeros((11, 10), dtype=np.float32)
    config = AttackConfig(eps=EPS["linf"], steps=3, restarts=restarts)
    samples = attack_chunk(PreparedAttack(prepared, (), config, 8), split, attempts, clean_logits)
    # Three steps, then the check; several restarts are also compared.
    assert sizes == [8] * (4 if restarts == 1 else 10)
    assert {3} == {
        len(getattr(samples, field.name)) for field in dataclasses.fields(samples)
    }  # all of them, attempts included


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("stop", ["never", "first-hit"])
def test_other_images_in_a_batch_do_not_matter(norm, stop):
    """An image's steps and its rounding do not depend on how many others are beside it."""
    plane, split = make_plane(), make_split(8, classes=2)
    config = AttackConfig(eps=EPS[norm], norm=norm, steps=5, stop=stop)
    attempts = make_attempts(split, 8, ("a", "b"))
    together = run(plane, split, attempts, config)
    alone = [run(plane, split, attempts.chunk(i, 1), config, chunk_size=1).delta for i in range(8)]
    assert together.delta.tobytes() == np.concatenate(alone).tobytes()


# ---- chunks


@pytest.mark.parametrize(
    ("shape", "n_attempts", "size"),
    [
        ((3, 32, 32), 8000, 80),
        ((3, 32, 32), 969, 75),
        ((3, 32, 32), 5, 5),
        ((1, 8, 8), 2560, 256),
        ((3, 512, 512), 160, 16),
        ((3, 1024, 1024), 17, 9),
    ],
)
def test_chunk_sizes_on_a_cpu(shape, n_attempts, size):
    """On a CPU at most 16 to 256 attempts, by the image's size, are shared out evenly."""
    plane = PreparedModel(nn.Identity(), nn.Identity(), torch.device("cpu"))
    assert size == plan_chunk_size(shape, plane, n_attempts)


@pytest.fixture
def card(monkeypatch):
    """A card's memory: 1 GiB free; torch holds 300 MiB and uses 100 MiB of them."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**30, 2**31))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 300 * 2**20)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 100 * 2**20)


@pytest.mark.parametrize(
    ("mib", "n_surrogates", "size"), [(1, 0, 416), (1, 1, 208), (1000, 0, 16), (0.001, 0, 4096)]
)
def test_chunk_sizes_on_a_gpu(card, monkeypatch, mib, n_surrogates, size):
    """A chunk takes 0.35 of what is free or held ready, shared with the surrogates: 428 MiB of 1,224."""
    monkeypatch.setattr(chunk_size, "_bytes_per_image", lambda shape, prepared: mib * 2**20)
    plane = PreparedModel(nn.Identity(), nn.Identity(), torch.device("cuda"))
    # Such that they are shared out into whole chunks.
    assert size == plan_chunk_size((3, 32, 32), plane, 40960 // size * size, n_surrogates)


def test_the_memory_of_a_step_is_measured_on_the_second(card, monkeypatch):
    """The first one allocates workspaces that stay: counted in, they would make chunks too small."""
    steps, peaks = [], {1: 900, 2: 116}  # MiB
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: steps.append("reset"))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: peaks[steps.count("step")] * 2**20)
    network = make_linear((1, 4, 4))
    network.register_forward_hook(lambda *given: steps.append("step"))
    prepared = PreparedModel(network, network, CPU)
    assert chunk_size._bytes_per_image((1, 4, 4), prepared) == 2**20
    assert steps == ["step", "reset", "step"]


# ---- memory


def room(network, images, error):
    """Let a network run out of memory where it is given more images."""

    def check(module, given):
        if len(given[0]) > images:
            raise error

    network.register_forward_pre_hook(check)


MEMORY_ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory"),
    MemoryError(),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
]


@pytest.mark.parametrize("error", MEMORY_ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("restarts", [1, 2])
def test_a_chunk_is_attacked_in_halves_where_memory_ends(error, restarts):
    """Targets, starts and order stay, and so do the samples but for rounding; later chunks begin with it."""
    split = make_split(16, (1, 8, 8))
    config = AttackConfig(eps=EPS["linf"], steps=3, restarts=restarts)
    attempts, images = make_attempts(split, 16), split.images
    clean_logits = predict(make_cnn(), split, CPU)
    attacks = [PreparedAttack(prepare(make_cnn(), images), (), config, 11) for _ in range(2)]
    room(attacks[1].attacked.frozen, 3, error)
    whole, halved = (
        find_perturbations(each, attempts.pick(slice(0, 11)), images[:11], clean_logits[:11])
        for each in attacks
    )
    assert (whole.sub_batch, halved.sub_batch, attacks[1].sub_batch.size) == (None, 2, 2)
    np.testing.assert_array_equal(whole.attempts.requested_target, halved.attempts.requested_target)
    assert (whole.delta == halved.delta).mean() > 0.99
    np.testing.assert_allclose(whole.logits, halved.logits, rtol=0, atol=1e-3)
    seen = []
    attacks[1].attacked.model.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
    find_perturbations(attacks[1], attempts.pick(slice(11, 16)), images[11:], clean_logits[11:])
    assert set(seen) == {2}  # padded within the smaller batch


def test_halves_are_the_batches_of_an_attack_planned_so():
    """Equal bytes between chunks attacked in batches of one size, by whatever way they came to it."""
    split = make_split(8, (1, 8, 8))
    config = AttackConfig(eps=EPS["l2"], norm="l2", steps=3)
    attempts, clean_logits = make_attempts(split, 8), predict(make_cnn(), split, CPU)
    attacks = [PreparedAttack(prepare(make_cnn(), split.images), (), config, size) for size in (8, 4)]
    room(attacks[0].attacked.frozen, 4, torch.OutOfMemoryError("CUDA out of memory"))
    halved, planned = (find_perturbations(each, attempts, split.images, clean_logits) for each in attacks)
    assert halved.delta.tobytes() == planned.delta.tobytes()
    assert (halved.sub_batch, planned.sub_batch) == (4, None)


def test_the_cache_is_emptied_after_a_chunk(monkeypatch):
    """A captured step's memory is apart from that of plain steps: what one chunk held, the next may need."""
    released = []
    monkeypatch.setattr(sys.modules[perturb.__module__], "release_cached_memory", lambda: released.append(0))
    split = make_split(4, (1, 8, 8))
    run(make_cnn(), split, make_attempts(split, 4), AttackConfig(eps=EPS["linf"], steps=1))
    assert released == [0]


# ---- robust accuracy


def test_robust_accuracy_attacks_batches_of_one_shape(monkeypatch):
    """However many images are right in each part: as few batches as it takes, and evenly filled."""
    split, (model, *_) = trained_digits()
    config = AttackConfig(eps=EPS["linf"], steps=2, targets="untargeted", images=500)
    sizes, module = [], sys.modules[robust_accuracy.__module__]
    made = module.prepare

    def watched(*given):
        prepared = made(*given)
        prepared.frozen.register_forward_pre_hook(lambda network, given: sizes.append(len(given[0])))
        return prepared

    monkeypatch.setattr(module, "prepare", watched)
    share, n = robust_accuracy(model, split, config, CPU)
    rows = choose_images(split, 500)
    right = int((predict(model, split, CPU).argmax(1) == split.labels.numpy())[rows].sum())
    assert sizes == [-(-right // 2)] * 4
    assert n == 500
    assert 0 < share < right / 500


def test_robust_accuracy_of_a_model_that_is_never_right_is_zero():
    """There is nothing to attack."""
    split, (model, *_) = trained_digits()
    wrong = Split(split.images, (split.labels + 1) % 10, split.index)
    right = predict(model, wrong, CPU).argmax(1) == wrong.labels.numpy()
    never = Split(*(part[~right] for part in (wrong.images, wrong.labels, wrong.index)))
    config = AttackConfig(eps=EPS["linf"], steps=2, targets="untargeted", images=20)
    assert robust_accuracy(model, never, config, CPU) == (0.0, 20)
