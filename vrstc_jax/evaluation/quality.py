"""Scores of completions.

Everything here works on the host, frame by frame, at the crop's own resolution. Pictures are uint8 [H, W, 3], RGB;
masks are bool [H, W], true where the person was hidden: the hole. Scores compare a completion with the truth over the
hole alone, so that a large visible part cannot raise them; an empty hole raises ValueError.
"""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from vrstc_jax.ops.registration import moved
from vrstc_jax.runtime.text_tables import text_table

PSNR_CAP = 100.0
"""Upper bound in dB: a perfect hole would be infinite and make every average infinite. For comparison, one value of a
million that is wrong by one grey level is 108 dB."""

_LEAST = 1e-6
_FLAT = 1e-3  # grey levels: a truth with less of a gradient has no edge
_SSIM_C1, _SSIM_C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def l1(completed: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """Mean absolute difference over the hole's pixels and channels, on a scale where white is 1."""
    return float(np.abs(_hole_differences(completed, truth, mask)).mean() / 255)


def psnr(completed: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """Peak signal-to-noise ratio over the hole's pixels and channels, in dB; at most `PSNR_CAP`."""
    mean_square = np.square(_hole_differences(completed, truth, mask)).mean()
    if mean_square == 0:
        return PSNR_CAP
    return min(PSNR_CAP, float(10 * np.log10(255**2 / mean_square)))


def ssim(completed: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """Structural similarity in [-1, 1]: its map over the whole frame, averaged over the hole.

    After Wang et al. 2004: a Gaussian window of 11 pixels, sigma 1.5, K1 0.01, K2 0.03, per channel and then averaged;
    covariances divide by the window's weight, as in that paper. Frames are padded by reflection (… b a | a b …), so
    that crops narrower than the window need no special rule.
    """
    _check(completed, truth, mask)
    x, y = completed.astype(np.float64), truth.astype(np.float64)
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    variance_x = _window_mean(x * x) - mean_x**2
    variance_y = _window_mean(y * y) - mean_y**2
    covariance = _window_mean(x * y) - mean_x * mean_y
    similarity = ((2 * mean_x * mean_y + _SSIM_C1) * (2 * covariance + _SSIM_C2)
                  / ((mean_x**2 + mean_y**2 + _SSIM_C1) * (variance_x + variance_y + _SSIM_C2)))
    return float(similarity[mask].mean())


def sharpness(completed: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float | None:
    """How steep the completion's edges are beside the truth's: the ratio of the mean lengths of their gradients over
    the hole, 1 where both are alike and below 1 where the completion is blurred; None where the truth has no edge.

    Gradients are Sobel's, of grey levels.
    """
    _check(completed, truth, mask)
    there, wanted = (float(_steepness(picture)[mask].mean()) for picture in (completed, truth))
    return there / wanted if wanted > _FLAT else None


def flicker(before: np.ndarray, now: np.ndarray, motion: np.ndarray, mask: np.ndarray) -> float:
    """How much a completion changes from one frame to the next beside what moves: the mean absolute difference over
    the hole's pixels and channels, on a scale where white is 1.

    Args:
      before, now: a frame's completion and the next one's, of one size.
      motion: float32 [H, W, 2], from each place of the next frame to that of the first, best of the true frames.
      mask: the next frame's hole.
    """
    return l1(now, moved(before, motion), mask)


class ScoreTable:
    """Scores of several methods, frame by frame, and their averages.

    Every frame has the same weight, whatever the size of its hole. `distance` is the number of frames to the nearest
    visible frame; None where there was none.
    """

    def __init__(self):
        self._scores: dict[str, dict[int | None, list[dict[str, float]]]] = {}

    def add(self, method: str, *, distance: int | None, **scores: float | None) -> None:
        """Records one frame completed by `method`, with scores of any of `COLUMNS`; None where there is none."""
        distance = None if distance is None else int(distance)
        known = {name: score for name, score in scores.items() if score is not None}
        self._scores.setdefault(method, {}).setdefault(distance, []).append(known)

    def overall(self) -> dict[str, dict[str, float]]:
        """method -> {'l1', 'psnr' (dB), 'ssim', …, 'frames'}: averages of each score over the frames that have it, and
        the number of frames.

        Of cosines with the true crop's features, `cosine` and the hidden crop's own, `hidden_cosine`, comes `way`: how
        far of the way from the hidden crop to the true one a completion has come, in per cent.

        Methods keep the order in which they were first added.
        """
        return {method: _averages([score for frames in distances.values() for score in frames])
                for method, distances in self._scores.items()}

    def by_distance(self) -> dict[int | None, dict[str, dict[str, float]]]:
        """distance -> the result of `overall` over the frames at that distance; nearest first, None last."""
        found = {distance for distances in self._scores.values() for distance in distances}
        return {distance: {method: _averages(distances[distance])
                           for method, distances in self._scores.items() if distance in distances}
                for distance in sorted(found, key=lambda d: (d is None, d or 0))}

    def as_dict(self) -> dict[str, dict]:
        """{'overall': …, 'by_distance': …}, the form of reports and metrics files."""
        return {"overall": self.overall(), "by_distance": self.by_distance()}

    def format(self) -> str:
        """A plain-text table for the terminal: overall, then PSNR by distance."""
        overall, near = self.overall(), self.by_distance()
        if not overall:
            return "no frames were judged"
        return text_table(*overall_rows(overall)) + "\n\n" + text_table(*distance_rows(near, list(overall)))


COLUMNS = {"l1": ("L1", ".4f"), "psnr": ("PSNR dB", ".2f"), "ssim": ("SSIM", ".4f"), "sharpness": ("sharp", ".2f"),
           "flicker": ("flicker", ".4f"), "perceptual": ("perceptual", ".3f"), "way": ("way %", ".1f")}
"""Of each score, the head of its column and how it is written."""


def overall_rows(overall: Mapping[str, Mapping]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of a table of `ScoreTable.overall`; columns that no method has a score for are left out."""
    there = {name: how for name, how in COLUMNS.items() if any(name in scores for scores in overall.values())}
    return ["", *(head for head, _ in there.values()), "frames"], [
        [method, *(f"{scores[name]:{how}}" if name in scores else "-" for name, (_, how) in there.items()),
         str(scores["frames"])] for method, scores in overall.items()]


def distance_rows(near: Mapping[int | None, Mapping[str, Mapping]], methods: Sequence[str], *, missing: str = "-",
                  ) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of a table of the PSNR in `ScoreTable.by_distance`; `missing` where a method has no frame.

    The last row counts frames.
    """
    columns = ["PSNR dB by distance", *("none" if distance is None else str(distance) for distance in near)]
    rows = [[method, *(f"{s[method]['psnr']:.2f}" if method in s else missing for s in near.values())]
            for method in methods]
    return columns, [*rows, ["frames", *(str(max(s["frames"] for s in each.values())) for each in near.values())]]


def _averages(scores: list[dict[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for score in scores for name in score)
    means = {name: float(np.mean([score[name] for score in scores if name in score])) for name in names}
    if "cosine" in means:
        hidden = means["hidden_cosine"]
        means["way"] = 100 * (means["cosine"] - hidden) / max(1 - hidden, _LEAST)
    return {**means, "frames": len(scores)}


def _check(completed: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> None:
    if completed.shape != truth.shape or completed.shape[:2] != mask.shape or mask.dtype != bool:
        raise ValueError("completion and truth must be [H, W, 3] and the mask bool [H, W]. Got "
                         f"{completed.shape}, {truth.shape} and {mask.dtype} {mask.shape}.")
    if not mask.any():
        raise ValueError("the mask is empty: a frame in which nothing was hidden has no score.")


def _hole_differences(completed: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> np.ndarray:
    _check(completed, truth, mask)
    return completed[mask].astype(np.float64) - truth[mask]


def _window_mean(values: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(values, (11, 11), 1.5, borderType=cv2.BORDER_REFLECT)


def _steepness(picture: np.ndarray) -> np.ndarray:
    grey = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY).astype(np.float32)
    return np.hypot(*(cv2.Sobel(grey, cv2.CV_32F, *order) for order in ((1, 0), (0, 1))))
