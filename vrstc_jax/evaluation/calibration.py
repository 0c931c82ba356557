"""Whether probabilities are what they say, and the scale and shift of logits that makes them so (Platt 1999).

Of the pixels that are called hidden with a probability of 0.3, three in ten should be.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

_BINS = 15
_PULL = 1e-7  # half of it is the weight of the squared distance from (1, 0)
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

    After Platt 1999. Where probabilities tell the shares apart without error, no scale would be large enough; a slight
    pull towards (1, 0) keeps the numbers finite.

    Returns:
      (1.0, 0.0) where nothing can be learned: all shares are 0, or all 1.
    """
    p = np.clip(np.ravel(probabilities).astype(float), _LEAST, 1 - _LEAST)
    shares, logits = np.ravel(shares).astype(float), np.log(p / (1 - p))
    if not 0 < shares.mean() < 1:
        return 1.0, 0.0
    columns, count, start = np.stack([logits, np.ones_like(logits)]), len(logits), np.array([1.0, 0.0])

    def loss(found: np.ndarray) -> tuple[float, np.ndarray]:
        z = found @ columns
        pull = _PULL * (found - start)
        # log(1 + e^z) − z share is the cross-entropy of a logit z.
        return (float((np.logaddexp(0, z) - z * shares).mean() + pull @ (found - start) / 2),
                columns @ (expit(z) - shares) / count + pull)

    def curvature(found: np.ndarray) -> np.ndarray:
        said = expit(found @ columns)
        return (columns * (said * (1 - said))) @ columns.T / count + _PULL * np.eye(2)

    scale, shift = minimize(loss, start, jac=True, hess=curvature, method="trust-exact", options={"gtol": 1e-9}).x
    return float(scale), float(shift)
