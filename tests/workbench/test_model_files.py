"""Files of stored models: read only if they are what their rows say."""

import numpy as np
import pytest
from sqlalchemy import select

from jsdelta_db.compute.data import load
from jsdelta_db.errors import CheckpointError
from jsdelta_db.store.schema import Model, ModelLogits
from jsdelta_db.store.session import open_store
from jsdelta_db.workbench import model_files
from jsdelta_db.workbench.model_files import check_weights, read_logits


@pytest.fixture
def rows(tiny_copy):
    """The rows of a model and of its logits on the attack split."""
    store = open_store(tiny_copy.db_url)
    with store.read_session() as session:
        model = session.scalars(select(Model).order_by(Model.id)).first()
        logits = session.scalars(select(ModelLogits).filter_by(model_id=model.id, split="attack")).one()
    store.close()
    return model, logits


def test_logits_are_those_of_the_whole_split(tiny_copy, rows):
    """One row an image, one column a label; they are right as often as the model's row says."""
    model, stored = rows
    logits = read_logits(tiny_copy, stored)
    labels = load("digits", tiny_copy.data_dir).splits["attack"].labels.numpy()
    assert (logits.shape, logits.dtype) == ((600, 10), np.float32)
    assert (logits.argmax(1) == labels).mean() == model.clean_accuracy


@pytest.mark.parametrize("change", ["altered", "missing"])
def test_files_that_are_not_what_rows_say_are_refused(change, tiny_copy, rows):
    """A byte more or no file at all: one line names it and what to do."""
    model, stored = rows
    check_weights(tiny_copy, model)
    for uri, read, advice in (
        (stored.uri, lambda: read_logits(tiny_copy, stored), "restore the file from a backup"),
        (model.checkpoint_uri, lambda: check_weights(tiny_copy, model), "or train other members"),
        (model.checkpoint_uri, lambda: check_weights(tiny_copy, model, "then this"), "then this"),
    ):
        path = tiny_copy.root / uri
        if change == "altered":
            path.write_bytes(path.read_bytes() + b" ")
        else:
            path.unlink(missing_ok=True)
        with pytest.raises(CheckpointError, match=f"{uri} is missing or altered; .*{advice}"):
            read()


@pytest.mark.parametrize(("most", "is_mapped"), [(1 << 26, False), (100, True)])
def test_many_logits_are_mapped(most, is_mapped, tiny_copy, rows, monkeypatch):
    """Few are read, many are mapped; both are the same, and an altered file is refused."""
    _, stored = rows
    whole = read_logits(tiny_copy, stored)
    monkeypatch.setattr(model_files, "MOST_READ", most)
    found = read_logits(tiny_copy, stored)
    assert np.array_equal(found, whole)
    assert any(isinstance(each, np.memmap) for each in (found, found.base)) == is_mapped
    path = tiny_copy.root / stored.uri
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError):
        read_logits(tiny_copy, stored)
