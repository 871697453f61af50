"""Models in use: their stored logits."""

import hashlib

import numpy as np
import pytest

from jsdelta_db.errors import CheckpointError
from jsdelta_db.workbench import models
from jsdelta_db.workbench.models import load_logits


@pytest.mark.parametrize(("most", "is_mapped"), [(1 << 26, False), (100, True)])
def test_many_logits_are_mapped(tmp_path, most, is_mapped, monkeypatch):
    """Few are read, many are mapped; both are what was stored, and an altered file is refused."""
    monkeypatch.setattr(models, "MOST_READ", most)
    stored = np.random.default_rng(0).normal(0, 1, (30, 5)).astype(np.float32)
    path = tmp_path / "logits.npy"
    np.save(path, stored)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    found = load_logits(path, sha256)
    assert np.array_equal(found, stored)
    assert any(isinstance(each, np.memmap) for each in (found, found.base)) == is_mapped
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError):
        load_logits(path, sha256)
