"""Samples changed in one place, and looked at as ``jsdelta score`` does."""

import numpy as np

from jsdelta_db.samples.foreign import SampleArrays, check_samples

N = 4  # samples


def check(arrays, dataset, **options):
    """Look at arrays the way ``jsdelta score`` does."""
    samples = arrays if isinstance(arrays, SampleArrays) else SampleArrays(**arrays)
    return check_samples(samples, dataset, **{"library": "tool", **options})


def changed(given, **changes):
    """Replace arrays; None leaves one out, a function changes it."""
    arrays = {name: np.copy(array) for name, array in given.items()}
    for name, change in changes.items():
        if change is None:
            del arrays[name]
        else:
            arrays[name] = change(arrays[name]) if callable(change) else change
    return arrays


def put(place, value):
    """Return a function that sets one element."""

    def change(array):
        array[place] = value
        return array

    return change


def save(path, **arrays):
    """Save arrays as .npz and return where."""
    np.savez(path, **arrays)
    return path
