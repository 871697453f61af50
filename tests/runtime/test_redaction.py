"""Redaction: addresses without their passwords."""

import pytest

from jsdelta_db.runtime.redaction import hide_password, redact


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://me:geheim@host:5/db", "postgresql://me:***@host:5/db"),
        ("postgresql+psycopg://me@host/db", "postgresql+psycopg://me@host/db"),
        ("postgresql://host/db?user=me&password=geheim&port=5", "postgresql://host/db?port=5"),
        ("postgresql:///db?host=/tmp&password=geheim", "postgresql:///db?host=/tmp"),
        ("postgresql://me:ge@he/i?m@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me@host/db?application_name=me@work", "postgresql://me@host/db"),
        ("mysql://me:geheim@host/db", "mysql://me:***@host/db"),
        ("https://geheim@host/path", "https://***@host/path"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("sqlite:////srv/me@work/jsdelta.db", "sqlite:////srv/me@work/jsdelta.db"),
        ("me:geheim@host", "***@host"),
        ("host=here password=geheim", "host=here password=***"),
        ("databricks://profile", "databricks://profile"),
        ("jsdelta.db", "jsdelta.db"),
    ],
)
def test_address_without_its_password(address, shown):
    """Whatever form an address has, its password is not shown; what has none stays as it is."""
    assert hide_password(address) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("no route to http://me:p%40ss@host/api", "no route to http://me:***@host/api"),
        ("said 'p@ss' and p%40ss", "said '***' and ***"),
        ("asked postgresql://you:other@there/db for a row", "asked postgresql://you:***@there/db for a row"),
        ('connection option "password=other"', 'connection option "password=***"'),
        ("12 of 30 failed at 10:30, see http://host:80/x", "12 of 30 failed at 10:30, see http://host:80/x"),
    ],
)
def test_text_without_passwords(text, shown):
    """A password goes as written and as meant, and so does what looks like one; other text stays."""
    assert redact(text, ["http://me:p%40ss@host", None, ""]) == shown


def test_short_password_does_not_garble_a_text():
    """A password of a letter or two is taken out of its address only."""
    assert redact("a cat at http://me:a@host", ["http://me:a@host"]) == "a cat at http://me:***@host"
