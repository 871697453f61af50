"""Consent to code: given by typing, kept for a name and its source, and asked for without importing anything."""

import json
import sys
from pathlib import Path

import pytest

from jsdelta_db.config import consent
from jsdelta_db.config.consent import give_consent, require_consent
from jsdelta_db.config.locations import config_folder
from jsdelta_db.errors import CodeError, UsageError

RUN = "raise AssertionError('imported')\n"  # a module that must not run


@pytest.fixture
def code(tmp_path, monkeypatch):
    """A folder that one stands in, with modules that must not be imported, and an empty memory."""
    folder = tmp_path / "code"
    for name in ("nets.py", "pack/__init__.py", "pack/inner.py", "space/deep/nets.py"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(RUN)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(consent, "_GIVEN", set())
    for name in ("nets", "pack", "pack.inner", "space", "space.deep"):  # another test may have had its own
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setenv("JSDELTA_CONFIG_DIR", str(tmp_path / "config"))
    return folder


def forget() -> None:
    """Begin like another process of the same user."""
    consent._GIVEN.clear()


NAMES = {
    "nets:make": "nets.py",
    "pack:make": "pack/__init__.py",
    "pack.inner:make": "pack/inner.py",
    "space.deep.nets:make": "space/deep/nets.py",
}


@pytest.mark.parametrize(("name", "file"), NAMES.items())
def test_code_that_nobody_typed_is_named_and_not_imported(name, file, code):
    """One line with the name, its file and the way to agree; neither the module nor a package above it has run."""
    with pytest.raises(CodeError) as caught:
        require_consent(name)
    assert str(caught.value) == (
        f"{name} ({code / file}) is code that only a row of the store names; read it, then add --trust-code "
        "to run it"
    )
    assert not {"nets", "pack", "pack.inner", "space", "space.deep"} & set(sys.modules)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("way", ["typed", "--trust-code"])
def test_consent_lasts_until_the_source_changes(way, name, code):
    """Agreed once, it holds for every later process; a source that changed asks again, and the old one back does not."""
    give_consent(name) if way == "typed" else require_consent(name, is_given=True)
    forget()
    require_consent(name)
    path = code / NAMES[name]
    path.write_text(RUN + "# changed\n")
    with pytest.raises(CodeError, match="has changed since you agreed to run it"):
        require_consent(name)
    path.write_text(RUN)
    require_consent(name)


def test_consent_is_for_the_packages_above_as_well(code):
    """What runs first when a module is imported is part of its source."""
    give_consent("pack.inner:make")
    forget()
    (code / "pack" / "__init__.py").write_text(RUN + "# changed\n")
    with pytest.raises(CodeError, match="has changed"):
        require_consent("pack.inner:make")


def test_consent_is_for_one_name(code):
    """Another callable of the same file is another thing."""
    give_consent("nets:make")
    with pytest.raises(CodeError, match="nets:other"):
        require_consent("nets:other")


def test_consent_is_kept_outside_of_every_store(code):
    """The record lies in the user's own folder, for nobody else to read."""
    give_consent("nets:make")
    assert list(json.loads((config_folder() / "trusted.json").read_text())) == ["nets:make"]
    assert config_folder().stat().st_mode & 0o077 == 0
    assert {path.name for path in code.iterdir()} == {"nets.py", "pack", "space"}


def test_without_a_folder_consent_holds_for_the_process(code, monkeypatch):
    """A home that cannot be written keeps nobody from working; the next process asks again."""
    (code.parent / "file").touch()
    monkeypatch.setenv("JSDELTA_CONFIG_DIR", str(code.parent / "file" / "config"))
    give_consent("nets:make")
    require_consent("nets:make")
    forget()
    with pytest.raises(CodeError):
        require_consent("nets:make")


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b'{"nets:make": "no list"}', b'{"nets:make": []}'])
def test_a_damaged_record_is_no_consent(content, code):
    """What cannot be read agrees to nothing, and is replaced by the next consent."""
    config_folder().mkdir()
    (config_folder() / "trusted.json").write_bytes(content)
    with pytest.raises(CodeError):
        require_consent("nets:make")
    give_consent("nets:make")
    forget()
    require_consent("nets:make")


@pytest.mark.parametrize(
    "name", ["no_such_module:make", "pack.missing:make", "nets.below:make", ":make", ".nets:make"]
)
def test_a_module_that_is_not_there_is_said_without_importing_its_package(name, code):
    """Looking for it runs nothing, not even with consent."""
    for is_given in (False, True):
        with pytest.raises(UsageError, match=r"no such module.*must be module:callable"):
            require_consent(name, is_given=is_given)
    assert "pack" not in sys.modules


def test_built_in_names_need_no_consent(code):
    """An architecture of ours is a name without a colon; torchvision, which we need anyway, has networks by name."""
    require_consent("cnn-small")
    require_consent("torchvision:resnet18")


def test_consent_to_a_file_is_for_its_content(code, tmp_path, monkeypatch):
    """A file is asked about like a module, by its whole path; nothing runs, and another content asks again."""
    name = f"{code / 'nets.py'}:make"
    with pytest.raises(CodeError) as caught:
        require_consent(name)
    assert str(caught.value).startswith(
        f"{name} ({code / 'nets.py'}) is code that only a row of the store names"
    )
    give_consent(name)
    forget()
    monkeypatch.chdir(tmp_path)
    require_consent(name)
    (code / "nets.py").write_text(RUN + "# changed\n")
    with pytest.raises(CodeError, match="has changed since you agreed to run it"):
        require_consent(name)


def test_a_file_that_was_moved_is_found_in_the_current_folder(code, tmp_path, monkeypatch):
    """On another machine its path means nothing: the file beside the user is taken, if its content is the same."""
    name = f"{code / 'nets.py'}:make"
    give_consent(name)
    forget()
    (code / "nets.py").rename(tmp_path / "nets.py")
    with pytest.raises(
        UsageError, match=r"nets.py:make is not there; run the command in the folder that holds"
    ):
        require_consent(name)
    monkeypatch.chdir(tmp_path)
    require_consent(name)
    (tmp_path / "nets.py").write_text(RUN + "# another\n")
    with pytest.raises(CodeError, match="has changed"):
        require_consent(name)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"JSDELTA_CONFIG_DIR": "/a", "XDG_CONFIG_HOME": "/b"}, "/a"),
        ({"XDG_CONFIG_HOME": "/b"}, "/b/jsdelta"),
        ({"XDG_CONFIG_HOME": "relative"}, "/users/somebody/.config/jsdelta"),
        ({}, "/users/somebody/.config/jsdelta"),
    ],
)
def test_the_folder_is_where_the_platform_keeps_settings(variables, expected, monkeypatch):
    """Our own variable, then the platform's, then the home."""
    for name in ("JSDELTA_CONFIG_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    for name, value in ({"HOME": "/users/somebody"} | variables).items():
        monkeypatch.setenv(name, value)
    assert config_folder() == Path(expected)
