"""What is hidden in a tracklet, and which of its frames show everything (section 3.2 of the paper).

This module holds the one rule that compares scores with τ: a band is hidden where its score is below τ, and a frame
is visible where none of its bands is hidden. With masks, a frame is visible where its mask hides no pixel.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vrstc_jax.ops.regions import BANDS, bands_mask


def hidden_bands(scores: np.ndarray, tau: float) -> np.ndarray:
    """Which bands are hidden: scores [..., 3] below τ, bool [..., 3]. A score equal to τ is visible."""
    return np.asarray(scores < tau)


def visible_frames(scores: np.ndarray, tau: float) -> np.ndarray:
    """Which frames have no hidden band: scores [T, 3] to bool [T]."""
    return np.logical_not(hidden_bands(scores, tau).any(axis=1))


@dataclass(frozen=True, eq=False)
class Plan:
    """What to complete in a tracklet of T frames, and what to complete it from.

    Attributes:
      visible: bool [T], the frames that nothing hides; hidden frames are completed from these.
      scores: float [T, 3], the bands' agreement with the tracklet; NaN where masks were given.
      mask: (index, frame [H_t, W_t, 3]) to bool [H_t, W_t], true = hidden.
      warnings: what was odd about the tracklet, one sentence each.
    """

    visible: np.ndarray
    scores: np.ndarray
    mask: Callable[[int, np.ndarray], np.ndarray]
    warnings: tuple[str, ...] = ()

    @classmethod
    def from_scores(cls, scores: np.ndarray, tau: float) -> "Plan":
        """Hides the bands whose score is below τ.

        Where all three are, the band with the best score is kept visible if that score is above 0, so that the
        spatial generator has something to start from. At 0 or below (the occlusion head: half of the band is
        hidden) the frame is hidden entirely. Either way it is no visible frame.

        Args:
          scores: float [T, 3], in [−1, 1], from `Locator.scores`.
          tau: the threshold τ.
        """
        hidden = hidden_bands(scores, tau)
        best = scores.argmax(axis=1)
        spared = hidden.all(axis=1) & (scores.max(axis=1, initial=-1) > 0)
        hidden[spared, best[spared]] = False
        return cls(visible_frames(scores, tau), scores,
                   lambda index, frame: bands_mask(hidden[index], *frame.shape[:2]))

    @classmethod
    def from_masks(cls, masks: Sequence[np.ndarray]) -> "Plan":
        """Hides what the masks hide: T arrays bool [H_t, W_t], true = hidden. Each is read once here."""
        visible = np.array([not mask.any() for mask in masks], bool)
        return cls(visible, np.full((len(masks), BANDS), np.nan, np.float32), lambda index, frame: masks[index])

    def hiding(self, run: Sequence[int], hidden: np.ndarray) -> "Plan":
        """The same plan with the bands `hidden`, bool [3], and no others hidden in the frames of `run`."""
        visible = self.visible.copy()
        visible[list(run)] = False

        def mask(index: int, frame: np.ndarray) -> np.ndarray:
            return bands_mask(hidden, *frame.shape[:2]) if index in run else self.mask(index, frame)

        return replace(self, visible=visible, mask=mask)
