"""Configuration: perturbation sizes, thresholds, hashes, and values that are refused."""

import dataclasses
import hashlib
import math

import pytest

from jsdelta_db.config.attack import OBJECTIVES, ROBUST_CHECKS, SURROGATE_OBJECTIVES, AttackConfig
from jsdelta_db.config.attack_by import AttackBy
from jsdelta_db.config.checks import DTYPES, NORMS
from jsdelta_db.config.construction import ConstructionConfig
from jsdelta_db.config.eps import LARGEST_L2, format_eps, parse_eps
from jsdelta_db.config.evaluation import EvaluationConfig, check_beta
from jsdelta_db.config.hashing import config_hash
from jsdelta_db.config.recipes import DEFAULT_RECIPES, get_recipe
from jsdelta_db.config.training import METHOD_FIELDS, TrainConfig
from jsdelta_db.errors import UsageError


@pytest.mark.parametrize("k", range(1, 256))
def test_every_pixel_level_is_exact(k):
    """A whole number of pixel levels is the same float however it is written, and is shown as such."""
    assert k / 255 == parse_eps(str(k))
    assert k / 255 == parse_eps(f"{k}/255")
    assert f"{k}/255" == format_eps(k / 255)


@pytest.mark.parametrize(
    ("text", "eps"),
    [
        ("3", 3 / 255),
        (" 8/255 ", 8 / 255),
        ("0.5/255", 0.5 / 255),
        ("1.5", 1.5 / 255),
        ("1/4", 0.25),
        ("1/1", 1.0),
        ("2e0", 2 / 255),
    ],
)
def test_eps_is_read(text, eps):
    """A bare number is in units of 1/255, a fraction is taken as written."""
    assert eps == parse_eps(text)


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("0.0314", "for 8/255 write 8 or 8/255; "), (" 0.03137254901960784", "for 8/255 write 8 or 8/255; "),
        ("8e-3", "for 2/255 write 2 or 2/255; "), ("0.001", ""), ("0.999", "for 255/255 write 255 or 255/255; "),
    ],
)  # fmt: skip
def test_a_bare_number_below_a_pixel_level_is_refused(text, other):
    """8/255 as other libraries write it is no 0.0314/255: the error says how to write either."""
    with pytest.raises(UsageError) as caught:
        parse_eps(text, option="--train-eps")
    assert str(caught.value) == (
        f"--train-eps: {text.strip()}/255 is less than a pixel level; {other}to mean it, write {text.strip()}/255"
    )


@pytest.mark.parametrize(
    ("text", "eps"),
    [("0.5", 0.5), (" 3 ", 3.0), ("1/4", 0.25), ("128/255", 128 / 255), ("1e-3", 0.001), ("1000", 1000.0)],
)
def test_eps_of_another_norm_is_taken_as_written(text, eps):
    """For l2 a number is in the norm's own unit, with or without a fraction stroke."""
    assert eps == parse_eps(text, "l2")


@pytest.mark.parametrize(
    "text", ["0", "-0.5", "1000.1", "0/5", "8/0", "-1/-2", "nan", "inf", "", "half", "1e-400"]
)
def test_bad_eps_of_another_norm_is_refused_in_one_line(text):
    """What is no size in (0, 1000] is a usage error that repeats the value and names the norm."""
    with pytest.raises(UsageError) as caught:
        parse_eps(text, "l2")
    message = str(caught.value)
    assert repr(text) in message
    assert "must be a number in (0, 1000] for l2" in message
    assert len(message.splitlines()) == 1


def test_linf_is_the_norm_that_is_meant_without_one():
    """A size is read and shown as linf unless another norm is named."""
    assert parse_eps("3", "linf") == parse_eps("3")
    assert format_eps(3 / 255, "linf") == format_eps(3 / 255)


@pytest.mark.parametrize(
    "text",
    [
        "0", "0/255", "-1", "-8/255", "-8/-255", "256", "255.001", "256/255", "2/1", "abc", "", " ", "8/0",
        "8/", "/255", "8/255/2", "8/abc", "nan", "inf", "-inf", "8/nan", "8/inf", "inf/inf", "1e-400", "8,5",
    ],
)  # fmt: skip
def test_bad_eps_is_refused_in_one_line(text):
    """What is no size in (0, 255] is a usage error that repeats the value and says what is valid."""
    with pytest.raises(UsageError) as caught:
        parse_eps(text)
    message = str(caught.value)
    assert repr(text) in message
    assert "must be a number in (0, 255]" in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("eps", "norm", "shown"),
    [
        (8 / 255, "linf", "8/255"),
        (0.5 / 255, "linf", "0.5/255"),
        (1.0, "linf", "255/255"),
        (1e-4 / 255, "linf", "0.0001/255"),
        (0.5, "l2", "0.5"),
        (0.25, "l2", "0.25"),
    ],
)
def test_eps_is_shown(eps, norm, shown):
    """Linf sizes are shown over 255, others plain."""
    assert shown == format_eps(eps, norm)


def test_smallest_eps_is_not_shown_as_zero():
    """However small, an ε is never shown as 0/255: zero is not a valid ε."""
    assert format_eps(1e-9) != "0/255"


@pytest.mark.parametrize("beta", [0.01, 1.0, 25.0, 1e-9])
def test_beta_has_no_upper_bound(beta):
    """JSΔ can exceed 1, and so can a threshold on it."""
    assert beta == check_beta(beta)


@pytest.mark.parametrize("beta", [0.0, -0.1, math.inf, -math.inf, math.nan])
def test_bad_beta_is_refused(beta):
    """β outside (0, ∞) or NaN is a usage error that says what is valid."""
    with pytest.raises(UsageError, match=r"β .* must be a number above 0"):
        check_beta(beta)


def test_hash_is_the_same_in_every_store():
    """The hash is sha256 of canonical JSON: a golden value, written down by hand, that must never change."""
    by_hand = hashlib.sha256(b'[{"eps":0.5,"kind":"attack"},["aa","bb"]]').hexdigest()
    assert by_hand == config_hash({"kind": "attack", "eps": 0.5}, ["aa", "bb"])
    assert by_hand == config_hash({"eps": 0.5, "kind": "attack"}, ["aa", "bb"])


def test_hash_tells_parents_apart():
    """Other parents, or the same in another order, are another run."""
    hashes = {config_hash({"a": 1}, parents) for parents in ([], ["x"], ["x", "y"], ["y", "x"], ["xy"])}
    assert len(hashes) == 5


def test_hash_refuses_what_json_can_not_hold():
    """NaN never reaches a hash: it would not equal itself."""
    with pytest.raises(ValueError, match="JSON"):
        config_hash({"eps": math.nan}, [])


ATTACK_CHANGES = {
    "eps": 0.2, "steps": 7, "targets": "all", "seed": 1, "images": 5, "relative_step_size": 1.0,
    "random_start": False, "device": "cpu", "norm": "l2", "restarts": 2, "objective": "bug",
    "stop": "first-hit", "split": "baseline", "dtype": "float32",
    "attack_by": AttackBy("mine:fgsm", "1", {}, print),
}  # fmt: skip
TRAIN_CHANGES = {
    "dataset": "cifar10", "arch": "resnet8", "epochs": 2, "method": "sam", "width": 8, "batch_size": 7,
    "learning_rate": 0.3, "momentum": 0.5, "weight_decay": 0.0, "schedule": "constant", "crop_padding": 1,
    "flip": True, "dtype": "float32", "device": "cpu", "train_norm": "l2", "train_eps": 0.2,
    "train_steps": 3, "train_step_size": 0.3, "sam_rho": 0.7, "sam_adaptive": True,
}  # fmt: skip
# What a method must be told; the other methods take none of it.
METHOD_SETTINGS = {
    "standard": {},
    "adversarial": {"train_norm": "linf", "train_eps": 0.1, "train_steps": 5, "train_step_size": 0.05},
    "sam": {"sam_rho": 0.05},
}


@pytest.mark.parametrize(("field", "value"), ATTACK_CHANGES.items())
def test_attack_hash_sees_every_field(field, value):
    """Each setting of an attack changes its hash."""
    config = AttackConfig(eps=0.1)
    changed = dataclasses.replace(config, **{field: value})
    assert config_hash(config.canonical(), []) != config_hash(changed.canonical(), [])


@pytest.mark.parametrize(
    "change", [{"name": "mine:pgd"}, {"version": "2"}, {"arguments": {"n": 1}}, {"accept_eps": True}]
)
def test_attack_hash_sees_whose_attack_it_is(change):
    """Another name, version, argument or rule is another attack; the function itself is no part of it."""
    by = AttackBy("mine:fgsm", "1", {}, print)
    configs = [AttackConfig(eps=0.1, attack_by=each) for each in (by, dataclasses.replace(by, **change))]
    same = AttackConfig(eps=0.1, attack_by=dataclasses.replace(by, fn=len))
    hashes = [config_hash(config.canonical(), []) for config in (*configs, same)]
    assert hashes[0] != hashes[1]
    assert hashes[0] == hashes[2]


@pytest.mark.parametrize(("field", "value"), TRAIN_CHANGES.items())
def test_train_hash_sees_every_field(field, value):
    """Each setting of a training changes its hash."""
    method = next((name for name, fields in METHOD_FIELDS.items() if field in fields), "standard")
    config = TrainConfig("digits", "cnn-small", 1, method=method, **METHOD_SETTINGS[method])
    more = METHOD_SETTINGS[value] if field == "method" else {}
    changed = dataclasses.replace(config, **{field: value}, **more)
    assert config_hash(config.canonical(0), []) != config_hash(changed.canonical(0), [])


@pytest.mark.parametrize(("kind", "changes"), [(AttackConfig, ATTACK_CHANGES), (TrainConfig, TRAIN_CHANGES)])
def test_changes_cover_every_field(kind, changes):
    """A field that is added later must be tried in the tests above too."""
    assert {field.name for field in dataclasses.fields(kind)} - {"yes"} == set(changes)  # agrees to the rest


def test_kinds_and_seeds_have_hashes_of_their_own():
    """Another seed is another member, and no attack is mistaken for an evaluation."""
    config = TrainConfig("digits", "cnn-small", 1)
    assert config_hash(config.canonical(0), []) != config_hash(config.canonical(1), [])
    kinds = {config.canonical(0)["kind"], AttackConfig(eps=0.1).canonical()["kind"]}
    assert {"model", "attack", "evaluation"} == kinds | {EvaluationConfig().canonical()["kind"]}


@pytest.mark.parametrize(
    ("changes", "step_size"),
    [
        ({"eps": 8 / 255}, 2.5 * (8 / 255) / 100),
        ({"eps": 0.5, "norm": "l2", "steps": 20}, 2.5 * 0.5 / 20),
        ({"eps": 0.5, "norm": "l2", "steps": 1, "relative_step_size": 1.0}, 0.5),  # FGSM
    ],
)
def test_step_size_follows_from_eps_and_steps(changes, step_size):
    """The step is 2.5·ε/steps, or another share of ε/steps."""
    assert AttackConfig(**changes).step_size == pytest.approx(step_size, rel=1e-15)


@pytest.mark.parametrize(
    ("field", "choices"),
    [
        ("norm", ("linf", "l2")),
        ("objective", ("target", "margin", "bug", "feature")),
        ("stop", ("never", "first-hit")),
        ("dtype", ("auto", "float32", "bfloat16")),
        ("targets", ("random", "all", "next", "least-likely", "untargeted", "3")),
    ],
)
def test_what_an_attack_may_be_asked_for(field, choices):
    """Each choice is taken as it is; the first is the default."""
    assert choices == tuple(getattr(AttackConfig(eps=0.1, **{field: value}), field) for value in choices)
    assert choices[0] == getattr(AttackConfig(eps=0.1), field)


def test_lists_of_choices_fit_each_other():
    """The objectives that need surrogates are objectives, and every list starts with its default."""
    assert set(SURROGATE_OBJECTIVES) < set(OBJECTIVES)
    default = AttackConfig(eps=0.1)
    assert (NORMS[0], OBJECTIVES[0], DTYPES[0]) == (default.norm, default.objective, default.dtype)


@pytest.mark.parametrize(("norm", "largest"), [("linf", 1.0), ("l2", LARGEST_L2)])
def test_eps_has_a_limit_in_each_norm(norm, largest):
    """All of [0, 1] for linf; for l2 what no image is wider than."""
    assert largest == AttackConfig(eps=largest, norm=norm).eps
    with pytest.raises(UsageError, match=r"eps .* must be a number in \(0, "):
        AttackConfig(eps=math.nextafter(largest, math.inf), norm=norm)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("eps", 0.0), ("eps", -0.1), ("eps", 1.01), ("eps", math.nan), ("eps", math.inf),
        ("steps", 0), ("images", 0), ("images", -3), ("device", "tpu"),
    ],
)  # fmt: skip
def test_bad_attack_settings_are_refused(field, value):
    """An attack that cannot be is a usage error when its configuration is made."""
    with pytest.raises(UsageError, match=f"{field} .* must be "):
        AttackConfig(**{"eps": 0.1, field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("norm", "l7"), ("norm", "L2"), ("objective", "nonsense"), ("stop", "sometimes"),
        ("stop", "first_hit"), ("split", "nowhere"), ("dtype", "float16"), ("restarts", 0), ("restarts", -1), ("relative_step_size", 0.0),
        ("relative_step_size", -2.5), ("relative_step_size", math.nan), ("relative_step_size", math.inf),
    ],
)  # fmt: skip
def test_attack_settings_that_nobody_carries_out_are_refused(field, value):
    """What a row records must be what ran: values that the attack does not know are usage errors."""
    with pytest.raises(UsageError, match=f"{field} .* must be "):
        AttackConfig(**{"eps": 0.1, field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0), ("epochs", -1), ("width", 0), ("batch_size", 0), ("learning_rate", 0.0),
        ("learning_rate", -0.1), ("learning_rate", math.nan), ("learning_rate", math.inf), ("momentum", 1.0),
        ("momentum", -0.1), ("momentum", math.nan), ("weight_decay", -1e-4), ("weight_decay", math.nan),
        ("schedule", "cosine"), ("crop_padding", -1), ("dtype", "float16"), ("device", "tpu"),
    ],
)  # fmt: skip
def test_bad_training_settings_are_refused(field, value):
    """A training that cannot be is a usage error when its configuration is made."""
    with pytest.raises(UsageError, match=f"{field} .* must be "):
        TrainConfig(**{"dataset": "digits", "arch": "cnn-small", "epochs": 1, field: value})


@pytest.mark.parametrize(
    ("method", "field", "value"),
    [
        ("sam", "sam_rho", 0.0), ("sam", "sam_rho", -0.1), ("sam", "sam_rho", math.nan),
        ("sam", "sam_rho", math.inf), ("adversarial", "train_norm", "l1"), ("adversarial", "train_eps", 0.0),
        ("adversarial", "train_eps", 1.5), ("adversarial", "train_eps", math.nan),
        ("adversarial", "train_steps", 0), ("adversarial", "train_step_size", -0.1),
        ("adversarial", "train_step_size", math.nan),
    ],
)  # fmt: skip
def test_bad_settings_of_a_method_are_refused(method, field, value):
    """A radius, size or count that no method could obey is a usage error that says what is valid."""
    settings = {**METHOD_SETTINGS[method], field: value}
    with pytest.raises(UsageError, match=rf"{field} .* must be "):
        TrainConfig("digits", "cnn-small", 1, method=method, **settings)


@pytest.mark.parametrize("method", METHOD_SETTINGS)
@pytest.mark.parametrize(
    ("owner", "field"), [(own, name) for own, all_ in METHOD_FIELDS.items() for name in all_]
)
def test_settings_belong_to_their_method(method, owner, field):
    """A setting is refused by every other method, and missed by its own."""
    settings = dict(METHOD_SETTINGS[method])
    if method != owner:
        with pytest.raises(
            UsageError, match=rf"{field} .* belongs to --method {owner}, and this is '{method}'"
        ):
            TrainConfig("digits", "cnn-small", 1, method=method, **{**settings, field: TRAIN_CHANGES[field]})
    elif field in settings:
        del settings[field]
        with pytest.raises(
            UsageError, match=rf"--method {owner} needs {field}; give --{field.replace('_', '-')}"
        ):
            TrainConfig("digits", "cnn-small", 1, method=method, **settings)


def test_sam_is_not_adaptive_unless_asked():
    """SAM without a word on ASAM is plain SAM, and hashes like it."""
    silent, said = (
        TrainConfig("digits", "cnn-small", 1, method="sam", sam_rho=0.1, **more)
        for more in ({}, {"sam_adaptive": False})
    )
    assert silent == said


def test_standard_members_of_before_are_found_again():
    """The settings of the other methods leave a standard member's hash as it always was."""
    names = set(TrainConfig("digits", "cnn-small", 1).canonical(0))
    assert names & {field for fields in METHOD_FIELDS.values() for field in fields} == set()


def test_robust_accuracy_means_one_attack_for_each_data_set():
    """Every data set has its check: untargeted PGD in float32, so that methods compare everywhere."""
    assert set(ROBUST_CHECKS) == set(DEFAULT_RECIPES)
    facts = {
        name: (check.norm, check.eps * 255, check.steps, check.images)
        for name, check in ROBUST_CHECKS.items()
    }
    assert facts == {
        "digits": ("linf", 4, 20, None), "cifar10": ("linf", 8, 20, 1000), "svhn": ("linf", 8, 20, 1000),
        "mnist": ("linf", 76.5, 20, 1000), "fashion-mnist": ("linf", 25.5, 20, 1000),
        "kmnist": ("linf", 25.5, 20, 1000), "cifar100": ("linf", 8, 20, 1000),
    }  # fmt: skip
    assert {(check.targets, check.dtype) for check in ROBUST_CHECKS.values()} == {("untargeted", "float32")}


def test_configurations_are_frozen():
    """What was validated and hashed cannot be changed afterwards."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        AttackConfig(eps=0.1).eps = 0.2


@pytest.mark.parametrize(
    ("changes", "key"),
    [({"momentum": 2.0}, "momentum"), ({"sam_rho": 0.1}, "sam_rho"), ({"method": "sam"}, "")],
)
def test_an_error_carries_the_name_of_its_field(changes, key):
    """A recipe's reader finds the line by the field, not by the error's text."""
    with pytest.raises(UsageError) as caught:
        TrainConfig("digits", "cnn-small", epochs=1, **changes)
    assert caught.value.key == key


@pytest.mark.parametrize(
    "canonical",
    [
        lambda device: AttackConfig(eps=0.1, device=device).canonical(),
        lambda device: TrainConfig("digits", "cnn-small", 1, device=device).canonical(0),
        lambda device: TrainConfig("digits", "cnn-small", 1, device=device).as_recipe(),
        lambda device: ConstructionConfig("robust", 1, 0.1, device=device).canonical(),
    ],
)
def test_which_card_computes_is_no_part_of_a_run(canonical):
    """``cuda:1`` is hashed, and stored, as ``cuda``: the same run is found on whichever card."""
    assert canonical("cuda:0") == canonical("cuda:1") == canonical("cuda") != canonical("auto")


@pytest.mark.parametrize("device", ["cuda:0", "cuda:12"])
def test_a_card_has_no_part_in_a_name(device):
    """An ensemble is named by the kind of device at most."""
    recipe = get_recipe("digits")
    assert recipe.override(device=device).label == recipe.override(device="cuda").label == "digits-cuda"
