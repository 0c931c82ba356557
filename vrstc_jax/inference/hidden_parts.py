"""From probabilities to masks: which frames of a tracklet something hides in part, and what is repainted there.

A frame is repainted where more of the person is hidden than doubt explains, and only what hides them: of the occluders
in the crop, those parts that touch the hidden person. An occluder does not blink, so in a frame beside hidden ones less
is enough.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from vrstc_jax import config as configs
from vrstc_jax.models.locating.network import AMODAL, HIDDEN, OCCLUDER
from vrstc_jax.ops.pictures import resize
from vrstc_jax.ops.regions import BANDS, hidden_share


@dataclass(frozen=True, eq=False)
class HiddenParts:
    """What is hidden in a tracklet of T frames, on the network's grid [h, w]; bits are packed along the last axis.

    Attributes:
      repainted: uint8 [T, h, w / 8], what hides the person; empty in frames that are left as they are.
      whole: the same of the whole person, hidden parts too (amodal).
      hidden: the same of the person's hidden part.
      shares: float32 [T], how much of the person is hidden.
      scores: float32 [T, 3], 1 − 2p for the share p of each band that is probably covered.
    """

    repainted: np.ndarray
    whole: np.ndarray
    hidden: np.ndarray
    shares: np.ndarray
    scores: np.ndarray

    def mask(self, index: int, height: int, width: int) -> np.ndarray:
        """What is repainted in a frame, bool [height, width]."""
        return _enlarged(self.repainted[index], height, width)

    def amodal(self, index: int, height: int, width: int) -> np.ndarray:
        """The whole person in a frame, bool [height, width]."""
        return _enlarged(self.whole[index], height, width)

    def modal(self, index: int, height: int, width: int) -> np.ndarray:
        """What is seen of the person in a frame, bool [height, width]."""
        return self.amodal(index, height, width) & ~_enlarged(self.hidden[index], height, width)

    @property
    def touched(self) -> np.ndarray:
        """The frames that are repainted, bool [T]."""
        return np.asarray(self.repainted.any((1, 2)))


def hidden_parts(probabilities: Iterable[np.ndarray], rule: configs.Locating = configs.Locating(), *,
                 causal: bool = False) -> HiddenParts:
    """What is hidden, from the probabilities of a tracklet's frames.

    Args:
      probabilities: float32 [h, w, 3] of each frame, as `PixelLocator.probabilities` yields them.
      rule: what it takes to call something hidden.
      causal: whether a frame is judged by earlier ones alone: less is enough after a hidden frame, not before one.
    """
    repainted, whole, hidden, shares, scores = [], [], [], [], []
    for maps in probabilities:
        mask = _what_hides(maps, rule)
        repainted.append(np.packbits(mask, axis=-1))
        whole.append(np.packbits(maps[..., AMODAL] > 0.5, axis=-1))
        hidden.append(np.packbits(maps[..., HIDDEN] > rule.probability, axis=-1))
        shares.append(_share(maps, mask))
        scores.append(1 - 2 * hidden_share(maps[..., OCCLUDER]))
    if not repainted:
        none = np.zeros((0, 1, 1), np.uint8)
        return HiddenParts(none, none, none, np.zeros(0, np.float32), np.zeros((0, BANDS), np.float32))
    shares = np.array(shares, np.float32)
    masks = np.stack(repainted)
    masks[~(_held_so_far(shares, rule) if causal else _held(shares, rule))] = 0
    return HiddenParts(masks, np.stack(whole), np.stack(hidden), shares, np.array(scores, np.float32))


def _what_hides(maps: np.ndarray, rule: configs.Locating) -> np.ndarray:
    """The parts of the occluders that touch the hidden person, with the uncertain pixels around them."""
    likely = maps[..., OCCLUDER] > rule.probability
    about = (maps[..., OCCLUDER] > rule.probability * (1 - rule.edge)).astype(np.uint8)
    _, labels = cv2.connectedComponents(about, connectivity=8)
    touching = np.unique(labels[likely & (maps[..., HIDDEN] > rule.probability)])
    return np.isin(labels, touching[touching > 0])


def _share(maps: np.ndarray, mask: np.ndarray) -> float:
    """The expected share of the person that is hidden by what is in the mask."""
    return float((maps[..., HIDDEN] * mask).sum() / max(1.0, maps[..., AMODAL].sum()))


def _held(shares: np.ndarray, rule: configs.Locating) -> np.ndarray:
    """The frames that are repainted: of each run of frames above the lower bound, those with one above the other."""
    _, runs = cv2.connectedComponents((shares >= rule.least_beside).astype(np.uint8)[:, None], connectivity=8)
    runs = runs[:, 0]
    return (runs > 0) & np.isin(runs, runs[shares >= rule.least])


def _held_so_far(shares: np.ndarray, rule: configs.Locating) -> np.ndarray:
    """The same, of each run from the first frame above the upper bound on."""
    held = np.zeros(len(shares), bool)
    for index, share in enumerate(shares):
        held[index] = share >= after(rule, bool(index and held[index - 1])).least
    return held


def after(rule: configs.Locating, hidden: bool) -> configs.Locating:
    """The rule for a frame of which only the one before is known: whether something is hidden in that."""
    return replace(rule, least=rule.least_beside) if hidden else rule


def _enlarged(bits: np.ndarray, height: int, width: int) -> np.ndarray:
    """Packed bits [h, w / 8] to bool [height, width]."""
    mask = np.unpackbits(bits, axis=-1)
    if not mask.any():
        return np.zeros((height, width), bool)
    return resize(mask.astype(np.float32), height, width) >= 0.5
