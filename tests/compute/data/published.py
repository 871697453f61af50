"""Known data sets' files in their real formats, with few images, whose md5 torchvision is told to expect."""

import gzip
import hashlib
import pickle
import struct

import numpy as np
import scipy.io

CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
CIFAR100_CLASSES = tuple(f"class_{i}" for i in range(100))
IN_GREY = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "kmnist": "KMNIST"}
TRAIN_A_CLASS = 20  # of the sets in grey and of CIFAR-100


def md5_of(path):
    """Return a file's md5."""
    return hashlib.md5(path.read_bytes()).hexdigest()


def write_batch(path, labels, key):
    """Write a pickle as CIFAR's, and return its raw content."""
    data = np.random.default_rng(len(path.name)).integers(0, 256, (len(labels), 3072), dtype=np.uint8)
    batch = {"data": data, key: list(labels)}
    path.write_bytes(pickle.dumps(batch, protocol=2))
    return batch


def write_cifar10(folder, per_batch=20):
    """Write CIFAR-10's files, and return each file's md5."""
    root = folder / "cifar-10-batches-py"
    root.mkdir(parents=True)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        write_batch(root / name, [i % 10 for i in range(per_batch)], "labels")
    (root / "batches.meta").write_bytes(pickle.dumps({"label_names": list(CIFAR10_CLASSES)}, protocol=2))
    return {path.name: md5_of(path) for path in root.iterdir()}


def write_cifar100(folder):
    """Write CIFAR-100's files, and return each file's md5."""
    root = folder / "cifar-100-python"
    root.mkdir(parents=True)
    for name, n in (("train", 100 * TRAIN_A_CLASS), ("test", 200)):
        write_batch(root / name, [i % 100 for i in range(n)], "fine_labels")
    meta = {"fine_label_names": list(CIFAR100_CLASSES), "coarse_label_names": ["a"] * 20}
    (root / "meta").write_bytes(pickle.dumps(meta, protocol=2))
    return {path.name: md5_of(path) for path in root.iterdir()}


def expect_cifar(monkeypatch, reader, digests):
    """Let torchvision expect these files of CIFAR."""
    for attribute in ("train_list", "test_list"):
        names = [name for name, _ in getattr(reader, attribute)]
        monkeypatch.setattr(reader, attribute, [[name, digests[name]] for name in names])
    monkeypatch.setattr(reader, "meta", {**reader.meta, "md5": digests[reader.meta["filename"]]})


def write_svhn(folder):
    """Write SVHN's files, and return the md5 of each part."""
    draws = np.random.default_rng(0)
    digests = {}
    for part, n in (("train", 200), ("test", 30)):
        path = folder / f"{part}_32x32.mat"
        labels = 1 + np.arange(n, dtype=np.uint8)[:, None] % 10  # SVHN writes the digit 0 as 10
        scipy.io.savemat(path, {"X": draws.integers(0, 256, (32, 32, 3, n), dtype=np.uint8), "y": labels})
        digests[part] = md5_of(path)
    return digests


def idx(array):
    """Return an array of bytes in the IDX format: a magic number, the sizes big-endian, the values."""
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_in_grey(folder):
    """Write the four files of MNIST and its like, unpacked beside packed; return each packed file's md5."""
    folder.mkdir(parents=True)
    draws = np.random.default_rng(0)
    digests = {}
    for part, n in (("train", 10 * TRAIN_A_CLASS), ("t10k", 30)):
        contents = {
            "images-idx3": draws.integers(0, 256, (n, 28, 28), dtype=np.uint8),
            "labels-idx1": np.arange(n, dtype=np.uint8) % 10,
        }
        for kind, array in contents.items():
            path = folder / f"{part}-{kind}-ubyte"
            path.write_bytes(idx(array))
            packed = path.with_name(path.name + ".gz")
            packed.write_bytes(gzip.compress(idx(array), mtime=0))
            digests[packed.name] = md5_of(packed)
    return digests
