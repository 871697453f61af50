"""Names as tables print them: ``digits``, ``digits@db99e8ec``, ``0@a8dbb2cc``, ``mine:fgsm(n=1)@1f0c5b``."""

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeAlias

from jsdelta_db.errors import UnknownNameError
from jsdelta_db.store.naming import ANY_PREFIX, SHORTEST_PREFIX, ambiguous, get_match, match_ensembles

Label: TypeAlias = tuple[str, str]  # name and uid
AT = "@"  # between both; no name has it
OF_ENSEMBLES = ("judged_by", "attacked_ensemble")


class Judge(Protocol):
    """A model as an evaluator."""

    @property
    def uid(self) -> str:
        """Its uid."""

    @property
    def title(self) -> str:
        """Its name, or its seed."""


def find_label_uids(key: str, text: str, labels: Sequence[Label]) -> set[str]:
    """Return the uids that a label means: all of a name, which need not be unique, or one by its uid's start.

    Raises:
        UnknownNameError: there is none.
        UsageError: the start of several uids.
    """
    bare = [(name.partition(AT)[0], uid) for name, uid in labels]
    name, at, prefix = text.rpartition(AT)
    if at:
        found = {uid for known, uid in bare if known == name and uid.startswith(prefix)}
    else:
        found = _find_bare(key, text, bare)
    if not found:
        what = "ensemble" if key in OF_ENSEMBLES else key
        raise UnknownNameError(what, text, dict.fromkeys(name for name, _ in labels))
    return found


def _find_bare(key: str, text: str, labels: Iterable[Label]) -> set[str]:
    named = [(name, uid, (name, uid)) for name, uid in labels]
    if key in OF_ENSEMBLES:
        found = match_ensembles(text, named, shortest=ANY_PREFIX)
    else:
        exact = [row for name, _, row in named if name == text]
        is_uid = len(text) >= SHORTEST_PREFIX
        found = exact or [row for _, uid, row in named if is_uid and uid.startswith(text)]
    if len(found) > 1 and found[0][0] != text:
        raise ambiguous("ensemble" if key in OF_ENSEMBLES else key, text, (uid for _, uid in found))
    return {uid for _, uid in found}


def find_uid(key: str, prefix: str, uids: Iterable[str]) -> str:
    """Return the one uid that a prefix names.

    Raises:
        UnknownNameError: none.
        UsageError: several.
    """
    known = list(uids)
    return get_match(key, prefix, ((None, uid, uid) for uid in known), known, shortest=ANY_PREFIX)


def is_judged_by(text: str, judges: Sequence[Judge]) -> bool:
    """Tell whether a text names one of the judges, or all of them in their order."""
    if any(_is_judge(text, judge) for judge in judges):
        return True
    names = text.split()
    return len(names) == len(judges) and all(map(_is_judge, names, judges))


def _is_judge(text: str, judge: Judge) -> bool:
    name, at, prefix = text.rpartition(AT)
    if at:
        return judge.title == name and judge.uid.startswith(prefix)
    return judge.title == text or (len(text) >= SHORTEST_PREFIX and judge.uid.startswith(text))


def is_call(text: str, recorded: str) -> bool:
    """Tell whether a text names somebody's attack, without its arguments and version."""
    return text in (recorded.partition("(")[0], recorded.rpartition(AT)[0])
