"""Brings pictures into register by the motion of what both show, carried on into what one of them hides.

Pictures are uint8 [H, W, 3] of one size, masks bool [H, W], true = hidden. A motion, float32 [H, W, 2], says how many
pixels to the right and down of a place in one picture its place in the other one is.
"""

from functools import cache

import cv2
import numpy as np

SIZE = 128, 64
"""Rows and columns at which pictures of people are brought into register."""
_SMOOTH = 0.12  # of the height: how far around a place the motion of what is seen counts
_LEAST = 0.02  # seen around a place, as a share; with less, the motion there is that of all that is seen


def motion_between(picture: np.ndarray, mask: np.ndarray, other: np.ndarray, other_mask: np.ndarray) -> np.ndarray:
    """The motion from a picture to another one; smooth, and known where the pictures are hidden too.

    What is hidden in one is taken from the other before they are compared, so that nothing moves there, and counts
    for nothing. OpenCV's DIS flow (Kroeger et al. 2016) compares them.
    """
    seen = ~(mask | other_mask)
    if not seen.any():
        return np.zeros((*mask.shape, 2), np.float32)
    return _carried(flow_between(np.where(mask[..., None], other, picture),
                                 np.where(other_mask[..., None], picture, other)), seen)


def flow_between(picture: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The motion from a picture to another one, neither of which is hidden, by OpenCV's DIS flow."""
    return _flow_method().calc(_gray(picture), _gray(other), np.zeros((*picture.shape[:2], 2), np.float32))


def resized(motion: np.ndarray, height: int, width: int) -> np.ndarray:
    """A motion of pictures of another size, float32 [height, width, 2]."""
    scale = np.array([width / motion.shape[1], height / motion.shape[0]], np.float32)
    return cv2.resize(motion, (width, height), interpolation=cv2.INTER_LINEAR) * scale


def moved(picture: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """The picture or mask, uint8 or float32, with each place taken from where the motion leads."""
    height, width = motion.shape[:2]
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return cv2.remap(picture, columns + motion[..., 0], rows + motion[..., 1], cv2.INTER_LINEAR,
                     borderMode=cv2.BORDER_REPLICATE)


def _carried(flow: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Means of the flow of what is seen, weighted by nearness."""
    weights, sigma = seen.astype(np.float32), _SMOOTH * len(flow)
    near = cv2.GaussianBlur(weights, (0, 0), sigma)
    smooth = cv2.GaussianBlur(flow * weights[..., None], (0, 0), sigma) / (near + 1e-6)[..., None]
    smooth[near < _LEAST] = np.median(flow[seen], axis=0)
    return smooth


def _gray(picture: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY)


@cache
def _flow_method() -> cv2.DISOpticalFlow:
    return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
