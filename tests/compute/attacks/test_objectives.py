"""Objectives: values by hand, and the effect of each on trained networks."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from jsdelta_db.compute.attacks import apply_delta, build_objective
from jsdelta_db.compute.attacks.objectives import cross_entropy, margin
from jsdelta_db.compute.models.inference import forward
from jsdelta_db.config.attack import OBJECTIVES, AttackConfig
from jsdelta_db.records import UNTARGETED

from .attack_cases import attack_digits, generator, make_images, make_linear, trained_digits

LOG2 = float(np.log(2))
SHAPE = (1, 3, 3)


@pytest.mark.parametrize(
    ("logits", "label", "expected"),
    [
        ((3.0, 1.0, 2.0), 0, -1.0),  # it wins by 1
        ((3.0, 1.0, 2.0), 1, 2.0),
        ((3.0, 1.0, 2.0), 2, 1.0),
        ((3.0, 3.0, 2.0), 0, 0.0),  # a tie
        ((-5.0, -7.0, -6.0), 1, 2.0),
    ],
)
def test_margin_is_how_far_another_label_is_ahead(logits, label, expected):
    """The best other logit less the label's: negative once the label wins."""
    assert [expected] == margin(torch.tensor([logits]), torch.tensor([label])).tolist()


def test_cross_entropy_is_per_image():
    """One value each, in nats, without a mean."""
    got = cross_entropy(torch.tensor([[0.0, 0.0], [0.0, np.log(3)]]), torch.tensor([0, 1]))
    assert [LOG2, float(np.log(4 / 3))] == pytest.approx(got.tolist(), abs=1e-6)


def three_models():
    """One attacked linear model and two surrogates of other weights."""
    models = [make_linear(SHAPE) for _ in range(3)]
    for scale, model in enumerate(models, 1):
        nn.init.normal_(model[1].weight, std=scale, generator=generator(scale))
    return [model.requires_grad_(False) for model in models]


def kl(log_p, log_q):
    """KL(p ‖ q) in nats, per image."""
    return (log_p.exp() * (log_p - log_q)).sum(1)


def by_hand(name, logits, clean_logits, source_label, requested_target):
    """The objective by its definition; ``logits`` of the attacked model and the surrogates."""
    untargeted = requested_target[0] == UNTARGETED
    label, sign = (source_label, -1) if untargeted else (requested_target, 1)
    log_probs = [each.log_softmax(1) for each in logits]
    losses = [-each[torch.arange(len(label)), label] for each in log_probs]
    if name == "margin":
        others = logits[0].clone()
        others[torch.arange(len(label)), label] = -1e9
        return sign * (others.max(1).values - logits[0][torch.arange(len(label)), label])
    if name == "feature":
        return sign * sum(losses) / 3
    if name == "target":
        return sign * losses[0]
    clean = [each.log_softmax(1) for each in clean_logits[1:]]
    entropy = [-(each.exp() * each).sum(1) for each in clean]
    moved = [kl(p, q) + h for p, q, h in zip(clean, log_probs[1:], entropy, strict=True)]
    return sign * losses[0] + sum(moved) / 2


@pytest.mark.parametrize("untargeted", [False, True])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_objectives_have_the_values_of_their_definitions(name, untargeted):
    """Per image, with the attacked model's logits beside; untargeted lowers the source's likelihood."""
    models, x = three_models(), make_images(4, SHAPE)
    x_adv = (x + 0.2).clamp(0, 1)
    source_label = torch.tensor([0, 1, 2, 0])
    requested_target = torch.full((4,), UNTARGETED) if untargeted else (source_label + 1) % 3
    objective = build_objective(name, models[0], models[1:], x, source_label, requested_target)
    loss, logits = objective(x_adv)
    assert torch.equal(models[0](x_adv), logits)
    expected = by_hand(
        name, [each(x_adv) for each in models], [each(x) for each in models], source_label, requested_target
    )
    torch.testing.assert_close(expected, loss)


def test_surrogates_of_a_bug_are_lowest_where_nothing_moves():
    """At the clean image they pull in no direction; beside it, back."""
    attacked, *surrogates = three_models()
    x, source_label = make_images(4, SHAPE), torch.tensor([0, 1, 2, 0])

    def pull(x_adv):
        x_adv = x_adv.clone().requires_grad_()
        gradients = [
            torch.autograd.grad(
                build_objective(name, attacked, surrogates, x, source_label, (source_label + 1) % 3)(x_adv)[
                    0
                ].sum(),
                x_adv,
            )[0]
            for name in ("bug", "target")
        ]
        return gradients[0] - gradients[1]

    assert float(pull(x).abs().max()) < 1e-6
    step = 0.01 * torch.randn(x.shape, generator=generator())
    assert ((pull(x + step) * step).flatten(1).sum(1) > 0).all()


@pytest.mark.parametrize("name", ["target", "margin"])
def test_surrogates_do_not_matter_where_no_one_asks_for_them(name):
    """The two plain objectives look at the attacked model alone."""
    attacked, *surrogates = three_models()
    x, source_label = make_images(2, SHAPE), torch.tensor([0, 1])
    given = [
        build_objective(name, attacked, others, x, source_label, source_label + 1)(x)[0].tolist()
        for others in (surrogates, [])
    ]
    assert given[0] == given[1]


# ---- what they do to trained networks


@dataclasses.dataclass
class Effect:
    """Of one attack: success, and how the surrogates took it."""

    success: float
    moved: float  # mean total variation between the surrogates' outputs on x and x_adv
    at_target: float  # mean probability of the target on x_adv


def effect_of(objective, eps=8 / 255, norm="linf"):
    """Attack the trained digits and look at the surrogates."""
    config = AttackConfig(eps=eps, norm=norm, steps=15, objective=objective)
    (samples,) = attack_digits(config)
    split, (_, *surrogates) = trained_digits()
    x = split.batch(split.rows_of(samples.attempts.sample_index))
    x_adv = apply_delta(x, torch.from_numpy(samples.delta))
    clean, after = (
        torch.stack([torch.from_numpy(forward(each, images)).softmax(1) for each in surrogates])
        for images in (x, x_adv)
    )
    target = F.one_hot(torch.from_numpy(samples.target_label), 10)
    return Effect(
        success=float(samples.success.mean()),
        moved=float((clean - after).abs().sum(2).mean()) / 2,
        at_target=float((after * target).sum(2).mean()),
    )


@pytest.fixture(scope="module")
def effects():
    return {name: effect_of(name) for name in OBJECTIVES}


def test_bugs_on_purpose_leave_surrogates_where_they_were(effects):
    """At similar success, the surrogates' outputs move less than half as far as under ``target``."""
    assert effects["bug"].success > effects["target"].success - 0.05
    assert effects["bug"].moved < effects["target"].moved / 2


def test_features_on_purpose_convince_surrogates(effects):
    """The surrogates give the target a higher probability than under ``target``."""
    assert effects["feature"].at_target > effects["target"].at_target + 0.2
    assert effects["feature"].success > effects["target"].success - 0.15


def test_all_objectives_reach_their_targets(effects):
    """At 8/255 each of them succeeds on most images."""
    assert {name for name in OBJECTIVES if effects[name].success > 0.8} == set(OBJECTIVES)


def test_objectives_work_in_the_euclidean_ball():
    """The same order holds for l2."""
    bug, feature = (effect_of(name, 0.2, "l2") for name in ("bug", "feature"))
    assert min(bug.success, feature.success) > 0.9
    assert bug.moved < 0.25 < 0.75 < feature.moved
    assert bug.at_target < feature.at_target
