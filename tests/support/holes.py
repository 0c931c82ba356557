"""Made-up pictures, and holes in them."""

import numpy as np


def picture(rng, height, width):
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def band(height, width, top, bottom):
    mask = np.zeros((height, width), bool)
    mask[top:bottom] = True
    return mask
