"""Compares the bands that are located as hidden with masks of the hidden parts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vrstc_jax.inference.plan import Plan, hidden_bands
from vrstc_jax.ops.regions import BANDS, hidden_share
from vrstc_jax.runtime.text_tables import text_table

HIDDEN_SHARE = 1 / 3
"""A band counts as hidden if at least this share of its pixels is."""


@dataclass(frozen=True)
class LocatingScore:
    """Precision and recall of a threshold that finds hidden bands.

    Attributes:
      tau: the threshold.
      precision: hidden share of the bands below the threshold; NaN where none is below.
      recall: share of the hidden bands that is below the threshold; NaN where none is hidden.
      called, hidden, bands: numbers of bands: below the threshold, hidden, all.
      average_precision: over all thresholds, the mean of the precisions at each hidden band, by ascending score.
    """

    tau: float
    precision: float
    recall: float
    called: int
    hidden: int
    bands: int
    average_precision: float

    @property
    def f1(self) -> float:
        """As `f1_of`."""
        return f1_of(self.precision, self.recall)


def f1_of(precision: float, recall: float) -> float:
    """The harmonic mean of precision and recall; NaN where either is NaN or both are 0."""
    total = precision + recall
    return 2 * precision * recall / total if total > 0 else float("nan")


def called_bands(plan: Plan, frames: Sequence[np.ndarray], tau: float) -> np.ndarray:
    """The bands of a tracklet that a plan calls hidden, bool [T, 3]: those with scores below τ, or, where it was
    located pixel by pixel, those of which a third or more is repainted."""
    if plan.parts is None:
        return hidden_bands(plan.scores, tau)
    shares = [hidden_share(plan.mask(index, frame)) for index, frame in enumerate(frames)]
    return np.reshape(shares, (-1, BANDS)) >= HIDDEN_SHARE


def judge_locating(scores: Sequence[np.ndarray], masks: Sequence[Sequence[np.ndarray]], tau: float, *,
                   share: float = HIDDEN_SHARE, called: Sequence[np.ndarray] | None = None) -> LocatingScore:
    """Compares the bands with scores below τ with those that masks hide.

    Args:
      scores: of each tracklet, float [T, 3] (`Locator.scores`).
      masks: of each tracklet, T arrays bool [H_t, W_t], true = hidden.
      tau: the threshold τ, applied by `inference.plan.hidden_bands`.
      share: a band counts as hidden if at least this share of its pixels is.
      called: of each tracklet, bool [T, 3], the bands to take as called hidden in place of those below τ.

    Raises:
      ValueError: there are no scores, or not a mask for each frame.
    """
    if not len(scores) or any(len(s) != len(m) for s, m in zip(scores, masks, strict=True)):
        raise ValueError("there must be tracklets, and a mask for each row of scores.")
    truth = np.concatenate([[hidden_share(mask) for mask in of_tracklet] for of_tracklet in masks]) >= share
    values = np.concatenate(list(scores))
    found = hidden_bands(values, tau) if called is None else np.concatenate(list(called))
    both = (found & truth).sum()
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN, as documented
        precision, recall = np.divide(both, [found.sum(), truth.sum()])
    return LocatingScore(float(tau), float(precision), float(recall), int(found.sum()), int(truth.sum()),
                         truth.size, _average_precision(values.ravel(), truth.ravel()))


def _average_precision(values: np.ndarray, truth: np.ndarray) -> float:
    """Average precision of scores [n], low where hidden, given the hidden bands, bool [n]; NaN where none is hidden."""
    hits = truth[np.argsort(values, kind="stable")]
    if not hits.any():
        return float("nan")
    return float((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean())


def format_locating(rows: Sequence[LocatingScore]) -> str:
    """A plain-text table for the terminal."""
    table = text_table(["tau", "precision", "recall", "F1", "called", "hidden", "bands"], [
        [f"{row.tau:.4f}", f"{row.precision:.3f}", f"{row.recall:.3f}", f"{row.f1:.3f}", row.called, row.hidden,
         row.bands] for row in rows])
    return f"{table}\naverage precision over all thresholds: {rows[0].average_precision:.3f}"
