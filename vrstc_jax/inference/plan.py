"""What is hidden in a tracklet, and what may be looked at: the one rule for what is hidden (section 3.2)."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from vrstc_jax.ops.regions import bands_mask


@dataclass(eq=False)
class Plan:
    """What is hidden in a tracklet, and what may be looked at.

    Attributes:
      mask: (index, frame) to bool [H_t, W_t], true = hidden; None or all false where nothing is.
      usable: bool [T], the frames to complete from.
      scores: float [T, 3], NaN where nothing was located.
      warnings: what was odd, one sentence each.
    """

    mask: Callable[[int, np.ndarray], np.ndarray | None]
    usable: np.ndarray
    scores: np.ndarray
    warnings: list[str] = field(default_factory=list)


def plan_from_scores(scores: np.ndarray, tau: float) -> Plan:
    """Hides the bands whose score [T, 3] is below τ (section 3.2).

    Where that is all three, nothing would be left to go by; so the best one stays as it is, unless it is hidden for
    the most part too: a score of 0 or less, a head's for half of it.
    """
    hidden = scores < tau
    best = scores.argmax(1)
    spared = hidden.all(1) & (scores.max(1, initial=-1) > 0)
    hidden[spared, best[spared]] = False
    usable = ~(scores < tau).any(1)
    return Plan(lambda index, frame: bands_mask(hidden[index], *frame.shape[:2]), usable, scores)
