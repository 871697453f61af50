"""Attacks found by name, and what tells an edited one apart."""

import functools
import sys

import pytest

from jsdelta_db.compute.attacks.callables import find_attack, wrap_function
from jsdelta_db.config.attack_by import as_facts
from jsdelta_db.errors import UsageError
from jsdelta_db.runtime.files import sha256_of_file
from tests import somebodys

SOURCE = """
import functools
import torch


def attack(model, x, *rest):
    return x


@functools.wraps(attack)
def decorated(*given):
    return attack(*given)


class Attack:
    def __call__(self, model, x, *rest):
        return x


instance = Attack()
number = 3
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A file of somebody's in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    path = tmp_path / "jsdelta_test_attack.py"
    path.write_text(SOURCE)
    yield path
    sys.modules.pop("jsdelta_test_attack", None)


@pytest.mark.parametrize("attribute", ["attack", "decorated"])
def test_the_version_is_the_source_files_hash(attribute, mine):
    """By module and by file it is the same source, also beneath a decorator of another file."""
    by_module = find_attack(f"jsdelta_test_attack:{attribute}", {})
    by_file = find_attack(f"{mine}:{attribute}", {})
    assert by_module.version == by_file.version == f"sha256:{sha256_of_file(mine)}"
    assert by_file.name == f"jsdelta_test_attack.py:{attribute}"


def test_an_edited_file_is_another_attack(mine):
    """Whatever changes in the file changes the configuration."""
    before = find_attack(f"{mine}:attack", {})
    mine.write_text(SOURCE.replace("return x", "return x + 0"))
    after = find_attack(f"{mine}:attack", {})
    assert before.name == after.name
    assert before.canonical() != after.canonical()


def test_what_has_no_source_needs_a_version(mine):
    """An object may hold more than its file says; then the user names the version, which the call never sees."""
    with pytest.raises(UsageError, match="--set version=1"):
        find_attack("jsdelta_test_attack:instance", {})
    by = find_attack("jsdelta_test_attack:instance", {"version": 2, "n": 1})
    assert (by.version, by.arguments) == ("2", {"n": 1})


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("attack", "must be module:callable"),
        ("jsdelta_test_attack:gone", "no attribute 'gone'"),
        ("jsdelta_test_nowhere:attack", "No module named"),
        ("nowhere.py:attack", "no such file"),
        ("jsdelta_test_attack:number", "is a int"),
        ("torchattacks:PGD", "pip install torchattacks"),
        ("art:PGD", "pip install adversarial-robustness-toolbox"),
    ],
)
def test_a_name_of_nothing_is_refused(name, says, mine):
    """One line says what is wrong with it."""
    with pytest.raises(UsageError, match=says) as caught:
        find_attack(name, {})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "fn", [functools.partial(somebodys.fgsm, factor=2.0), lambda *given: somebodys.fgsm(*given)]
)
def test_a_function_that_is_more_than_its_file_needs_a_version(fn):
    """Two closures of one line are two attacks."""
    with pytest.raises(UsageError, match="version"):
        wrap_function(fn, {})
    assert wrap_function(fn, {"version": "a"}).version == "a"


def test_a_function_is_what_its_name_finds():
    """A caller's function and the name of it are one attack."""
    assert wrap_function(somebodys.fgsm, {}) == find_attack("tests.somebodys:fgsm", {})


def test_arguments_must_be_json():
    """What a row cannot hold would not be hashed."""
    with pytest.raises(UsageError, match="numbers, texts, flags or lists"):
        wrap_function(somebodys.fgsm, {"factor": object()})


def test_no_function_at_all():
    """What cannot be called is refused."""
    with pytest.raises(UsageError, match="must be a function"):
        wrap_function(3, {})


def test_facts_tell_attacks_apart():
    """The text of a recorded attack names all that is hashed; who accepts any ε is named by its uid."""
    by = find_attack("tests.somebodys:fgsm", {"factor": 2, "a": "b"}).canonical()
    text, accepts = as_facts(by, "0123")
    assert text == f"tests.somebodys:fgsm(a=b, factor=2)@{by['version'][7:19]}"
    assert accepts is None
    assert as_facts({**by, "accept_eps": True}, "0123") == (text, "0123")
    assert as_facts(None, "0123") == (None, None)
