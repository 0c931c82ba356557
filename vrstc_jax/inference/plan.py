"""Decides which parts of a tracklet are hidden, and which frames are visible (section 3.2 of the paper).

τ is applied here and nowhere else: a band is hidden if its score is below τ, and a frame is visible if none of its
bands is hidden. With masks, those given or those located pixel by pixel, a frame is visible if its mask hides no pixel.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vrstc_jax.inference.hidden_parts import HiddenParts
from vrstc_jax.ops.regions import BANDS, bands_mask
from vrstc_jax.runtime.errors import InputError

_NEARLY_ALL = 0.75  # of a tracklet's pixels; so little of a person is seldom left in all frames


def hidden_bands(scores: np.ndarray, tau: float) -> np.ndarray:
    """Which bands are hidden, bool [..., 3]: those of scores [..., 3] below τ. A score equal to τ is visible.

    Raises:
      InputError: τ or a score is not a number, of which neither could be said.
    """
    if np.isnan(tau) or np.isnan(scores).any():
        raise InputError(f"Of scores that are not numbers nobody can say what is hidden (tau {tau}); use another "
                         "model, or give masks.")
    return np.asarray(scores < tau)


def visible_frames(scores: np.ndarray, tau: float) -> np.ndarray:
    """Which frames have no hidden band: scores [T, 3] to bool [T]."""
    return np.logical_not(hidden_bands(scores, tau).any(axis=1))


@dataclass(frozen=True, eq=False)
class Plan:
    """The hidden pixels of a tracklet of T frames, and the frames to complete them from.

    Attributes:
      visible: bool [T], the frames without a hidden pixel, from which the others are completed.
      scores: float [T, 3], the bands' agreement with the tracklet; NaN where masks were given.
      mask: (index, frame [H_t, W_t, 3]) to bool [H_t, W_t], true = hidden.
      warnings: irregularities of the tracklet, one sentence each.
      parts: where hidden parts were located pixel by pixel, all that was found; else None.
    """

    visible: np.ndarray
    scores: np.ndarray
    mask: Callable[[int, np.ndarray], np.ndarray]
    warnings: tuple[str, ...] = ()
    parts: HiddenParts | None = None

    @classmethod
    def from_parts(cls, parts: HiddenParts) -> "Plan":
        """Hides what covers the person (`hidden_parts.hidden_parts`)."""
        return cls(~parts.touched, parts.scores, lambda index, frame: parts.mask(index, *frame.shape[:2]), parts=parts)

    @classmethod
    def from_scores(cls, scores: np.ndarray, tau: float) -> "Plan":
        """Hides the bands whose score is below τ.

        If all three bands of a frame are below τ, its best band is kept where that band's score is above 0: the spatial
        generator needs pixels to start from. (A score of the occlusion head above 0 means that less than half of the
        band is hidden.) Either way the frame is not in `visible`: no other frame is completed from it.

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
        """Hides what the masks hide: T arrays bool [H_t, W_t], true = hidden. It reads all of them.

        It warns of masks that seem to be the wrong ones: that hide nothing in any frame, or nearly everything.
        """
        shares = np.array([mask.mean() for mask in masks], float)
        warnings = []
        if not shares.any() and len(masks):
            warnings.append(f"Its masks hide nothing in any of its {len(masks)} frames; they are to be white where the "
                            "person is hidden.")
        elif len(masks) and shares.mean() > _NEARLY_ALL:
            warnings.append(f"Its masks hide {100 * shares.mean():.0f} % of its pixels; they are to be white where the "
                            "person is hidden, and black where not: are they inverted?")
        return cls(shares == 0, np.full((len(masks), BANDS), np.nan, np.float32), lambda index, frame: masks[index],
                   tuple(warnings))

    def hiding(self, run: Sequence[int], hidden: np.ndarray) -> "Plan":
        """The same plan with the bands `hidden`, bool [3], and no others hidden in the frames of `run`."""
        # No frame of the run may serve to complete another one of it.
        visible = self.visible.copy()
        visible[list(run)] = False

        def mask(index: int, frame: np.ndarray) -> np.ndarray:
            return bands_mask(hidden, *frame.shape[:2]) if index in run else self.mask(index, frame)

        return replace(self, visible=visible, mask=mask)
