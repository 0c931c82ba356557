"""Compares what is located pixel by pixel with what is known to be hidden: pixels, bands, frames."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from vrstc_jax.evaluation.locating import HIDDEN_SHARE, f1_of
from vrstc_jax.ops.regions import hidden_share
from vrstc_jax.runtime.text_tables import text_table

_MOSTLY = 0.5  # of a tracklet's frames
_SIDE = 0.75  # of a crop's columns; what covers fewer comes from the side


@dataclass(frozen=True, eq=False)
class LocatedFrame:
    """What was found in one frame, and what is true.

    Attributes:
      found: share of the truth's covered pixels that is repainted; NaN where nothing is covered.
      beside: share of the other pixels that is repainted.
      called, covered: bool [3], the bands of which a third or more is repainted, and covered.
      share: of the person, that is said to be hidden.
      overlap: intersection and union, in pixels, of what is repainted and what is covered.
      hidden: the same of the person's hidden part; (0, 0) where that is not known.
      clean: nothing covers the crop.
      from_side: what covers the crop leaves columns free.
    """

    found: float
    beside: float
    called: np.ndarray
    covered: np.ndarray
    share: float
    overlap: tuple[int, int]
    hidden: tuple[int, int]
    clean: bool
    from_side: bool


def compare_frame(repainted: np.ndarray, covered: np.ndarray, share: float, *, hidden: np.ndarray | None = None,
                  silhouette: np.ndarray | None = None) -> LocatedFrame:
    """Compares one frame.

    Args:
      repainted: bool [H, W], what was located.
      covered: the same of the truth, also where it covers the background.
      share: of the person, that is said to be hidden.
      hidden: bool [H, W], the located hidden part of the person; None: unknown.
      silhouette: the whole person; None: unknown.
    """
    parts = (0, 0)
    if hidden is not None and silhouette is not None:
        truth = silhouette & covered
        parts = int((hidden & truth).sum()), int((hidden | truth).sum())
    free = ~covered
    return LocatedFrame(
        found=float(repainted[covered].mean()) if covered.any() else float("nan"),
        beside=float(repainted[free].mean()) if free.any() else 0.0,
        called=hidden_share(repainted) >= HIDDEN_SHARE, covered=hidden_share(covered) >= HIDDEN_SHARE, share=share,
        overlap=(int((repainted & covered).sum()), int((repainted | covered).sum())), hidden=parts,
        clean=not covered.any(), from_side=bool(covered.any() and covered.any(0).mean() < _SIDE))


@dataclass(frozen=True)
class PixelScore:
    """How well hidden parts are found, over many frames; NaN where no frame is of that kind.

    Attributes:
      frames: how many.
      found, beside: mean over the frames in which something is covered (`LocatedFrame`).
      needless: share of the frames that nothing covers in which something is repainted.
      precision, recall: of bands.
      overlap: intersection over union of all that is repainted and all that is covered.
      hidden_overlap: the same of the person's hidden parts.
      auc: of telling frames with a hidden band from frames that nothing covers, by the share said to be hidden.
    """

    frames: int
    found: float
    beside: float
    needless: float
    precision: float
    recall: float
    overlap: float
    hidden_overlap: float
    auc: float

    @property
    def f1(self) -> float:
        """As `f1_of`."""
        return f1_of(self.precision, self.recall)


def pixel_score(frames: Sequence[LocatedFrame]) -> PixelScore:
    """The score of frames."""
    covered = [frame for frame in frames if not frame.clean]
    clean = [frame for frame in frames if frame.clean]
    called = np.array([frame.called for frame in frames], bool).reshape(-1, 3)
    truth = np.array([frame.covered for frame in frames], bool).reshape(-1, 3)
    both = (called & truth).sum()
    return PixelScore(
        len(frames), found=_mean([frame.found for frame in covered]), beside=_mean([frame.beside for frame in covered]),
        needless=_mean([float(frame.overlap[1] > 0) for frame in clean]),
        precision=_ratio(both, called.sum()), recall=_ratio(both, truth.sum()),
        overlap=_ratio(*np.sum([frame.overlap for frame in frames], 0)) if frames else float("nan"),
        hidden_overlap=_ratio(*np.sum([frame.hidden for frame in frames], 0)) if frames else float("nan"),
        auc=auc([frame.share for frame in covered if frame.covered.any()], [frame.share for frame in clean]))


def by_kind(tracklets: Sequence[Sequence[LocatedFrame]]) -> dict[str, PixelScore]:
    """Scores of all frames, and of those of some kinds, each with the frames that nothing covers."""
    frames = [frame for of_tracklet in tracklets for frame in of_tracklet]
    clean = [frame for frame in frames if frame.clean]
    mostly = [frame for of_tracklet in tracklets for frame in of_tracklet
              if np.mean([each.covered.any() for each in of_tracklet]) > _MOSTLY]
    bands = [frame.covered.sum() for frame in frames]
    kinds = {"all": frames, "from the side": [*clean, *(f for f in frames if f.from_side)],
             **{f"{count} of 3 bands": [*clean, *(f for f, hidden in zip(frames, bands) if hidden == count)]
                for count in (1, 2, 3)},
             "tracklets mostly hidden": mostly}
    # A kind that has nothing beside the frames that nothing covers is left out.
    return {kind: pixel_score(of_kind) for kind, of_kind in kinds.items()
            if kind == "all" or any(not frame.clean for frame in of_kind)}


def format_pixel_scores(scores: dict[str, PixelScore]) -> str:
    """A plain-text table for the terminal: shares in percent."""
    def percent(value: float) -> str:
        return "-" if np.isnan(value) else f"{100 * value:.1f}"

    def number(value: float) -> str:
        return "-" if np.isnan(value) else f"{value:.3f}"

    return text_table(
        ["frames of", "", "found %", "beside %", "needless %", "precision", "recall", "F1", "IoU", "hidden IoU", "AUC"],
        [[kind, row.frames, percent(row.found), percent(row.beside), percent(row.needless), number(row.precision),
          number(row.recall), number(row.f1), number(row.overlap), number(row.hidden_overlap), number(row.auc)]
         for kind, row in scores.items()])


def auc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """The chance that a number of the first kind is above one of the second, ties counted half; NaN without either."""
    if not len(positive) or not len(negative):
        return float("nan")
    ranks, count = rankdata(np.concatenate([positive, negative])), len(positive)
    return float((ranks[:count].sum() - count * (count + 1) / 2) / (count * len(negative)))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")
