"""Redaction: addresses of stores and servers without passwords, for people, logs and MLflow.

Text that other libraries wrote goes through :func:`redact` before anyone sees it. Works on text alone: an
address that no parser accepts must not show its password either.
"""

import re
from collections.abc import Iterable, Iterator
from urllib.parse import parse_qsl, unquote

HIDDEN = "***"
SHOWN_IN_QUERY = ("host", "port")  # a socket's address; everything else in a query may be secret
SECRET_KEY = re.compile(r"pass|pwd|token|secret|key", re.IGNORECASE)
SHORTEST_SECRET = 4  # characters: removing shorter ones would only garble the text
QUERY = re.compile(r"[\w.-]+=[^&]*(&[\w.-]+=[^&]*)*")
IN_TEXT = re.compile(r"(?P<scheme>\w[\w+.-]*)://(?P<user>[^\s:/@'\"]*):[^\s/'\"]+@")
KEY_VALUE = re.compile(r"(?P<key>\b\w*(?:pass|pwd|token|secret)\w*)\s*=\s*[^\s&;'\"]+", re.IGNORECASE)


def hide_password(address: str) -> str:
    """Return an address without its password.

    On a web server a user without a password is a token, and hidden, too.
    """
    scheme, found, rest = address.partition("://")
    if not found:
        after = address.rpartition("@")[2]
        return KEY_VALUE.sub(rf"\g<key>={HIDDEN}", address if after == address else f"{HIDDEN}@{after}")
    if scheme.startswith("sqlite"):
        return address  # a file, whatever its name holds
    userinfo, place = _split(rest)
    place, _, query = place.partition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    shown = "&".join(f"{key}={value}" for key, value in pairs if key in SHOWN_IN_QUERY)
    return f"{scheme}://{_hide_user(scheme, userinfo)}{place}{'?' if shown else ''}{shown}"


def redact(text: str, addresses: Iterable[str | None]) -> str:
    """Return a text without the passwords of these addresses and whatever else looks like one."""
    for address in filter(None, addresses):
        text = text.replace(address, hide_password(address))
        for secret in _secrets(address):
            text = text.replace(secret, HIDDEN)
    text = IN_TEXT.sub(rf"\g<scheme>://\g<user>:{HIDDEN}@", text)
    return KEY_VALUE.sub(rf"\g<key>={HIDDEN}", text)


def _split(rest: str) -> tuple[str, str]:
    """Return user with password, and place; a password may contain an unquoted @, / or ?."""
    before, _, query = rest.partition("?")
    if rest.startswith("/"):  # a file or a socket
        return "", rest
    if QUERY.fullmatch(query):
        userinfo, _, place = before.rpartition("@")
        return userinfo, f"{place}?{query}"
    userinfo, _, place = rest.rpartition("@")
    return userinfo, place


def _hide_user(scheme: str, userinfo: str) -> str:
    if not userinfo:
        return ""
    user, colon, _ = userinfo.partition(":")
    if not colon:
        return f"{HIDDEN if scheme.startswith('http') else user}@"
    return f"{user}:{HIDDEN}@"


def _secrets(address: str) -> Iterator[str]:
    """Yield an address's passwords as written and unquoted, the longest first."""
    rest = address.partition("://")[2]
    userinfo, place = _split(rest)
    user, colon, password = userinfo.partition(":")
    given = [password if colon else user if address.startswith("http") else ""]
    given += [value for key, value in parse_qsl(place.partition("?")[2]) if SECRET_KEY.search(key)]
    both = {*given, *map(unquote, given)}
    yield from sorted((each for each in both if len(each) >= SHORTEST_SECRET), key=len, reverse=True)
