"""Names of constructed data sets: one that failed does not keep its name from others."""

import pytest

from jsdelta_db.errors import UsageError
from jsdelta_db.pipeline.datasets.plan import _find_row
from jsdelta_db.store.constants import CONSTRUCTED
from jsdelta_db.store.creating import open_for_writing
from jsdelta_db.store.schema import FAILED, PENDING
from tests.stores import add_dataset


@pytest.fixture
def session(tiny_copy):
    """A session of a store with a data set that failed and one that is in work."""
    store = open_for_writing(tiny_copy.db_url)
    with store.transaction() as session:
        for name, status in (("broken", FAILED), ("stopped", PENDING)):
            add_dataset(session, name=name, kind=CONSTRUCTED, status=status, config_hash=name)
        yield session
    store.close()


def test_a_failed_construction_does_not_block_its_name(session):
    """The name is free, and the failed row is found by its hash whatever name is given now."""
    assert _find_row(session, "another", "broken") is None
    assert _find_row(session, "broken", "new").name == "broken"
    with pytest.raises(
        UsageError, match=r"--name 'stopped' is taken by another construction \(.*, pending\)"
    ):
        _find_row(session, "another", "stopped")
    with pytest.raises(UsageError, match="--name 'stopped' is taken"):
        _find_row(session, "broken", "stopped")
