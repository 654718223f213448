"""Real data: photographs cut into a batch of crops."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_sample_images

from .jobs import Array
from .shapes import Case

CROP = 224


def case(batch: int) -> Case:
    """Describe a batch of crops, channels-last."""
    return Case(f"photos {batch}x3x{CROP}x{CROP}", "last", (batch, CROP, CROP, 3), -1, photos=True)


def fill(out: Array) -> None:
    """Cut scikit-learn's two sample images (427 x 640, values 0..255) into crops, evenly along a diagonal."""
    images = load_sample_images().images
    for i, crop in enumerate(out):
        image = images[i % len(images)]
        along = i / max(1, len(out) - 1)
        top, left = (int(along * (extent - CROP)) for extent in image.shape[:2])
        np.copyto(crop, image[top : top + CROP, left : left + CROP])
