"""Where a training's images are: on the device where they fit, else streamed, with the same result."""

import copy
from types import SimpleNamespace

import pytest
import torch

from jsdelta_db.compute.models import build_model
from jsdelta_db.compute.training import Training, images, loop, train
from jsdelta_db.compute.training.images import Kept, Streamed, place_images
from tests.compute.training.test_loop import CONFIG, CPU, digits, few_digits  # noqa: F401 fixtures

CARD = torch.device("cuda", 0)


class Uploaded:
    """Stands for a tensor of 1,000 bytes, and keeps where it was sent."""

    nbytes = 1000

    def __init__(self) -> None:
        self.sent: list[torch.device] = []

    def to(self, device):
        """Keep the device."""
        self.sent.append(device)
        return self


class Split(SimpleNamespace):
    """A split of such images."""

    def __len__(self) -> int:
        return 10


@pytest.mark.parametrize(
    ("free", "kind", "said"),
    [(2000, Kept, "kept on cuda:0"), (1999, Streamed, "streamed to cuda:0 in batches")],
)
def test_half_of_the_free_memory_decides(free, kind, said, monkeypatch):
    """What fits into it is sent at once and whole; a byte more, and nothing is sent yet. One line says which."""
    monkeypatch.setattr(images, "free_bytes", lambda device: free)
    split, lines = Split(images=Uploaded(), labels=Uploaded()), []
    assert type(place_images(split, CARD, lines.append)) is kind
    assert split.images.sent == ([CARD] if kind is Kept else [])
    assert [said in line for line in lines] == [True]


def test_on_a_cpu_images_stay_where_they_are(few_digits):  # noqa: F811
    """No copy, and no word."""
    split = few_digits.splits["train"]
    placed = place_images(split, CPU, lambda line: pytest.fail(line))
    assert placed.images.data_ptr() == split.images.data_ptr()


def test_streamed_batches_are_the_kept_ones(few_digits, monkeypatch):  # noqa: F811
    """Equal history and equal weights, to the last bit."""
    training = Training(few_digits, CONFIG, 3, CPU, torch.float32)
    network = build_model(CONFIG.arch, few_digits, width=CONFIG.width, seed=3)
    other = copy.deepcopy(network)
    kept = train(network, training)
    took = []

    class Watched(Streamed):
        def take(self, rows):
            took.append(len(rows))
            return super().take(rows)

    monkeypatch.setattr(loop, "place_images", lambda split, device, tell: Watched(split, device))
    assert train(other, training) == kept
    assert sum(took) == CONFIG.epochs * 160
    pairs = zip(network.state_dict().values(), other.state_dict().values(), strict=True)
    assert all(torch.equal(one, same) for one, same in pairs)
