"""Names in an import: text that a terminal would obey stays out."""

import pytest

from jsdelta_db.errors import StoreError
from tests.exchange.moving import bring, workspace_at
from tests.reading import ask, tell


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE ensemble SET name = 'a' || char(10) || 'b'",
        "UPDATE attack SET library = char(27) || '[2J'",
        "UPDATE model SET method = char(8238) || 'sam'",
        "UPDATE dataset SET classes = replace(classes, '\"0\"', '\"' || '\\u001b' || '\"')",
    ],
    ids=["newline", "escape", "bidi", "class name"],
)
def test_names_that_cannot_be_shown_are_refused_before_the_first_row(change, tiny_copy, tmp_path):
    """One line that names the row; the store is as it was."""
    tell(tiny_copy, change)
    workspace = workspace_at(tmp_path / "new")
    with pytest.raises(StoreError) as caught:
        bring(workspace, tiny_copy.root)
    assert str(caught.value).isprintable()
    assert str(caught.value).endswith("printable characters; nothing was imported")
    assert ask(workspace, "SELECT count(*) FROM dataset") == [(0,)]
