"""Whether probabilities are what they say, and the scale and shift of logits that makes them so (Platt 1999).

Of the pixels that are called hidden with a probability of 0.3, three in ten should be.
"""

from dataclasses import dataclass

import numpy as np

_BINS = 15
_ROUNDS = 40  # of Newton's method; it converges in some ten
_LEAST = 1e-6  # of a probability, so that its logit is finite


@dataclass(frozen=True, eq=False)
class Reliability:
    """How often what is said with each probability is true.

    Attributes:
      said: float [K], the mean probability of each bin that is not empty.
      true: float [K], the share of it that is true.
      weights: float [K], the share of all pixels.
    """

    said: np.ndarray
    true: np.ndarray
    weights: np.ndarray

    @property
    def error(self) -> float:
        """The expected calibration error: the mean distance between what is said and what is true."""
        return float((self.weights * np.abs(self.said - self.true)).sum())


def reliability(probabilities: np.ndarray, shares: np.ndarray, *, bins: int = _BINS) -> Reliability:
    """The reliability of probabilities, float [N], of which shares [N] are true, in bins of equal width."""
    probabilities, shares = np.ravel(probabilities).astype(float), np.ravel(shares).astype(float)
    which = np.minimum((probabilities * bins).astype(int), bins - 1)
    counts = np.bincount(which, minlength=bins)
    there = counts > 0
    said, true = (np.bincount(which, values, bins)[there] / counts[there] for values in (probabilities, shares))
    return Reliability(said, true, counts[there] / max(1, counts.sum()))


def platt(probabilities: np.ndarray, shares: np.ndarray) -> tuple[float, float]:
    """The (scale, shift) of the logits of probabilities [N] with the least cross-entropy to the shares [N].

    Returns:
      (1.0, 0.0) where nothing can be learned: all shares are 0, or all 1.
    """
    p = np.clip(np.ravel(probabilities).astype(float), _LEAST, 1 - _LEAST)
    shares, logits = np.ravel(shares).astype(float), np.log(p / (1 - p))
    if not 0 < shares.mean() < 1:
        return 1.0, 0.0
    columns, found = np.stack([logits, np.ones_like(logits)]), np.array([1.0, 0.0])
    for _ in range(_ROUNDS):
        said = 1 / (1 + np.exp(-found @ columns))
        slope = columns @ (said - shares)
        curve = (columns * (said * (1 - said))) @ columns.T + 1e-9 * np.eye(2)
        step = np.linalg.solve(curve, slope)
        found -= step
        if np.abs(step).max() < 1e-9:
            break
    return float(found[0]), float(found[1])
