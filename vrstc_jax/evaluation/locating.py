"""How well hidden bands are found, against masks that say what is hidden."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vrstc_jax.ops.regions import hidden_share
from vrstc_jax.runtime.text_tables import text_table

HIDDEN_SHARE = 1 / 3
"""A band counts as hidden where at least this share of it is."""


@dataclass(frozen=True)
class LocatingScore:
    """What a threshold finds.

    Attributes:
      tau: the threshold.
      precision: of the bands called hidden, the share that are; NaN where none is called so.
      recall: of the hidden bands, the share that is called so; NaN where none is hidden.
      called, hidden, bands: numbers of bands.
      average_precision: over all thresholds: the mean of the precisions at the hidden bands, by score.
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
        """Of precision and recall; not a number where nothing is called or nothing hidden."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total > 0 else float("nan")


def judge_locating(scores: Sequence[np.ndarray], masks: Sequence[Sequence[np.ndarray]], tau: float, *,
                   share: float = HIDDEN_SHARE) -> LocatingScore:
    """Compares scores [T, 3] of tracklets with their masks, bool [H_t, W_t] each, true = hidden.

    Raises:
      ValueError: there are no scores, or not a mask for each frame.
    """
    if not len(scores) or any(len(s) != len(m) for s, m in zip(scores, masks, strict=True)):
        raise ValueError("there must be tracklets, and a mask for each row of scores.")
    truth = np.concatenate([[hidden_share(mask) for mask in of_tracklet] for of_tracklet in masks]) >= share
    values = np.concatenate(list(scores))
    called = values < tau
    both = (called & truth).sum()
    with np.errstate(invalid="ignore"):
        precision, recall = np.divide(both, [called.sum(), truth.sum()])
    return LocatingScore(float(tau), float(precision), float(recall), int(called.sum()), int(truth.sum()),
                         truth.size, _average_precision(values.ravel(), truth.ravel()))


def _average_precision(values, truth):
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
