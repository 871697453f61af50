"""Display of images in figures: stretched where they use little of [0, 1]."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

QUIET_COLOR = "#6b6b6b"
LOW_CONTRAST = 0.5  # of [0, 1]: images that use less of it are stretched for display


@dataclass(frozen=True, slots=True)
class Display:
    """Contrast and magnification, the same for all samples of a figure so that rows can be compared.

    Attributes:
        low, high: pixel values shown as black and white.
        magnification: of the change, around mid-grey.
    """

    low: float
    high: float
    magnification: int

    @classmethod
    def of(cls, images: Sequence[NDArray[np.floating]], changes: Sequence[NDArray[np.floating]]) -> "Display":
        """Return the display of a figure's images and changes, ``(c, h, w)`` each.

        Low contrast is stretched to all of [0, 1]; changes are magnified until the largest fills it.
        """
        low, high = min(float(each.min()) for each in images), max(float(each.max()) for each in images)
        if not 0.0 < high - low < LOW_CONTRAST:
            low, high = 0.0, 1.0
        largest = max((float(np.abs(each).max()) for each in changes), default=0.0)
        # A float's rounding must not take one off the factor.
        return cls(low, high, max(1, int(0.5 / largest + 1e-3)) if largest > 0.0 else 1)

    @property
    def contrast(self) -> float:
        """Factor by which the images are stretched; 1 for not at all."""
        return 1.0 / (self.high - self.low)

    def image(self, pixels: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return pixels ``(c, h, w)`` as they are shown, ``(h, w, 3)``."""
        return _as_rgb((pixels.astype(np.float64) - self.low) * self.contrast)

    def change(self, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return a change ``(c, h, w)`` as it is shown, ``(h, w, 3)``: mid-grey where there is none."""
        return _as_rgb(0.5 + self.magnification * pixels)


def _as_rgb(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn ``(c, h, w)`` into ``(h, w, 3)``; any other number of channels than 3 is shown as their mean."""
    shown = pixels if len(pixels) == 3 else np.repeat(pixels.mean(0, keepdims=True), 3, axis=0)
    return np.moveaxis(shown, 0, -1)
