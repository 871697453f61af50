"""Pictures of samples: what is shown, and that nothing on the page covers anything else."""

from itertools import combinations

import numpy as np
import pytest
from matplotlib.text import Text

from jsdelta_db.plots.samples import Opinion, SamplePicture, choose_display, draw_samples


def opinions(count, name="seed"):
    return [Opinion(f"{name} {i}", 0.9, 0.2 + 0.1 * (i % 3), 0.0, 1.0, js=0.5) for i in range(count)]


def picture(x, x_adv, **changes):
    settings = {
        "name": "image 12345", "source_label": "automobile", "target_label": "airplane", "success": True,
        "confidence": 1.0, "js_delta": 1.234, "opinions": opinions(4), **changes,
    }  # fmt: skip
    return SamplePicture(x=np.float32(x), x_adv=np.float32(x_adv), **settings)


def grey(low, high, change=0.0):
    """An 8×8 image that uses low..high, and the same with one pixel changed."""
    x = np.linspace(low, high, 64, dtype=np.float32).reshape(1, 8, 8)
    x_adv = x.copy()
    x_adv[0, 0, 0] += change
    return x, x_adv


def drawn_texts(figure):
    """All words on the page; panels without axes hide their ticks' labels."""
    figure.draw_without_rendering()
    hidden = {
        id(text)
        for panel in figure.axes
        if not panel.axison
        for axis in (panel.xaxis, panel.yaxis)
        for text in axis.findobj(Text)
    }
    texts = {
        id(text): text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()
    }
    return [text for key, text in texts.items() if key not in hidden]


@pytest.mark.parametrize(
    ("low", "high", "change", "contrast", "magnification"),
    [
        (0.0, 1.0, 8 / 255, 1.0, 15),
        (0.0, 1.0, 1 / 255, 1.0, 127),
        (0.0, 1.0, 0.8, 1.0, 1),  # never made smaller
        (0.0, 1.0, 0.0, 1.0, 1),  # no change at all
        (0.4375, 0.5625, 3 / 255, 8.0, 42),
        (0.5, 0.5, 0.0, 1.0, 1),  # a blank image has no contrast to stretch
    ],
)
def test_display(low, high, change, contrast, magnification):
    """Low contrast is stretched to [0, 1]; the change is magnified by whole numbers until it fills [0, 1]."""
    display = choose_display([picture(*grey(low, high, change))])
    assert (display.contrast, display.magnification) == (pytest.approx(contrast), magnification)


def test_shown_values():
    """Both images keep their order of brightness within [0, 1]; where nothing changed is mid-grey."""
    sample = picture(*grey(0.4375, 0.5625, 3 / 255))
    display = choose_display([sample])
    shown = np.concatenate([display.image(sample.x).ravel(), display.image(sample.x_adv).ravel()])
    change = display.change(sample.x_adv.astype(np.float64) - sample.x)
    assert (shown.min(), shown.max()) == (pytest.approx(0.0), pytest.approx(1.0))
    assert display.image(sample.x).shape == (8, 8, 3)
    assert change[1:].tolist() == [[[0.5] * 3] * 8] * 7
    assert 0.95 < change[0, 0, 0] <= 1.0


@pytest.mark.parametrize(
    ("js_delta", "success", "verdict"),
    [
        (0.0999, True, "bug"),
        (0.1, True, "feature"),
        (1.7, True, "feature"),
        (None, True, "no baseline"),
        (0.0, False, "not successful"),
    ],
)
def test_verdict(js_delta, success, verdict):
    """A bug is strictly below β; what did not succeed or has no baseline is neither bug nor feature."""
    assert picture(*grey(0, 1), js_delta=js_delta, success=success).verdict(0.1) == verdict


@pytest.mark.parametrize(
    ("count", "evaluators", "name", "shape"),
    [
        (8, 4, "seed", (3, 32, 32)),
        (3, 2, "an-external-network-of-long-name", (1, 8, 8)),
        (2, 12, "s", (3, 16, 24)),
    ],
    ids=["eight rows", "long names", "twelve evaluators"],
)
def test_no_text_covers_another(count, evaluators, name, shape):
    """Every word lies on the page, and none overlaps another."""
    x = np.random.default_rng(0).random(shape, dtype=np.float32)
    sample = picture(x, np.clip(x + 0.01, 0, 1), opinions=opinions(evaluators, name))
    figure = draw_samples(
        [sample] * count, title="cifar10, linf ε = 8/255, standard resnet18, " * 2, beta=0.10
    )
    boxes = [(text.get_text(), text.get_window_extent()) for text in drawn_texts(figure)]
    covered = [(one[0], other[0]) for one, other in combinations(boxes, 2) if one[1].overlaps(other[1])]
    page = figure.bbox
    outside = [
        text for text, box in boxes if not (page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0)
    ]
    assert len(boxes) > count * evaluators
    assert (covered, outside) == ([], [])


def test_each_evaluator_is_named_with_its_js():
    """A panel names its evaluators and writes the js of each; names too long lose their middle."""
    said = [Opinion("seed 3", 1, 1, 0, 0, js=0.125), Opinion("resnet-of-mine-number-2", 1, 1, 0, 0, js=0.75)]
    figure = draw_samples([picture(*grey(0, 1, 0.1), opinions=said)], title="t", beta=0.05)
    words = {text.get_text() for text in drawn_texts(figure)}
    assert {"seed 3", "resnet-of…number-2", "0.125", "0.750", "JSΔ = 1.234", "feature at β = 0.05"} <= words
    assert {"automobile", "airplane", "100%", "change × 5", "image 12345"} <= words
