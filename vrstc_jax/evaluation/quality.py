"""Scores of completions, and the simple fillings that completion has to beat.

Everything here works on the host, frame by frame, at the crop's own resolution. Pictures are uint8 [H, W, 3], RGB;
masks are bool [H, W], true where the person was hidden: the hole. Scores compare a completion with the truth over the
hole alone, so that a large visible part cannot raise them; an empty hole raises ValueError.
"""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from vrstc_jax.runtime.text_tables import text_table

PSNR_CAP = 100.0
"""Upper bound in dB: a perfect hole would be infinite and make every average infinite. For comparison, one value of a
million that is wrong by one grey level is 108 dB."""

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


def copy_nearest(frame: np.ndarray, mask: np.ndarray, previous: np.ndarray | None, following: np.ndarray | None,
                 distances: tuple[int, int]) -> np.ndarray:
    """Fills the hole with the same pixels of the nearer neighbour, or of the previous one if both are equally near.

    Args:
      frame, mask: the frame and its hole.
      previous, following: the nearest visible frames before and after, of any size (they are resized to the
        frame's), or None. With neither there is nothing to copy, and `telea` fills the hole.
      distances: the two neighbours' distances in frames; that of a missing one is ignored.

    Returns:
      uint8 [H, W, 3]; visible pixels are the frame's own, bit for bit.
    """
    nearer = following if previous is None or (following is not None and distances[1] < distances[0]) else previous
    return telea(frame, mask) if nearer is None else _fill(frame, mask, _resized_to(frame, nearer))


def mean_of_neighbours(frame: np.ndarray, mask: np.ndarray, previous: np.ndarray | None,
                       following: np.ndarray | None) -> np.ndarray:
    """Fills the hole with the average of the two neighbours, halves rounded up.

    Arguments and result as of `copy_nearest`. With one neighbour, its pixels; with neither, `telea`.
    """
    neighbours = [_resized_to(frame, n) for n in (previous, following) if n is not None]
    if not neighbours:
        return telea(frame, mask)
    total = np.sum(neighbours, axis=0, dtype=np.uint16)
    return _fill(frame, mask, np.asarray((total + len(neighbours) // 2) // len(neighbours), np.uint8))


def telea(frame: np.ndarray, mask: np.ndarray, radius: float = 3) -> np.ndarray:
    """Fills the hole from its rim, by OpenCV's inpainting after Telea 2004; `radius` is in pixels.

    A frame that is all hole becomes black.
    """
    # Blackened first, so that nothing of the hidden pixels leaks in.
    hollow = np.where(mask[..., None], np.uint8(0), frame)
    return _fill(frame, mask, cv2.inpaint(hollow, mask.astype(np.uint8), radius, cv2.INPAINT_TELEA))


class ScoreTable:
    """Scores of several methods, frame by frame, and their averages.

    Every frame has the same weight, whatever the size of its hole. `distance` is the number of frames to the nearest
    visible frame; None where there was none.
    """

    def __init__(self):
        self._scores: dict[str, dict[int | None, list[tuple[float, float, float]]]] = {}

    def add(self, method: str, *, distance: int | None, l1: float, psnr: float, ssim: float) -> None:
        """Records one frame completed by `method`."""
        distance = None if distance is None else int(distance)
        self._scores.setdefault(method, {}).setdefault(distance, []).append((l1, psnr, ssim))

    def overall(self) -> dict[str, dict[str, float]]:
        """method -> {'l1', 'psnr' (dB), 'ssim', 'frames'}: averages over its frames, and their number.

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


def overall_rows(overall: Mapping[str, Mapping]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of a table of `ScoreTable.overall`."""
    return ["", "L1", "PSNR dB", "SSIM", "frames"], [
        [method, f"{s['l1']:.4f}", f"{s['psnr']:.2f}", f"{s['ssim']:.4f}", str(s["frames"])]
        for method, s in overall.items()]


def distance_rows(near: Mapping[int | None, Mapping[str, Mapping]], methods: Sequence[str], *, missing: str = "-",
                  ) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of a table of the PSNR in `ScoreTable.by_distance`; `missing` where a method has no frame.

    The last row counts frames.
    """
    columns = ["PSNR dB by distance", *("none" if distance is None else str(distance) for distance in near)]
    rows = [[method, *(f"{s[method]['psnr']:.2f}" if method in s else missing for s in near.values())]
            for method in methods]
    return columns, [*rows, ["frames", *(str(max(s["frames"] for s in each.values())) for each in near.values())]]


def _averages(scores: list[tuple[float, float, float]]) -> dict[str, float]:
    return {**dict(zip(("l1", "psnr", "ssim"), np.mean(scores, axis=0).tolist())), "frames": len(scores)}


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


def _resized_to(frame: np.ndarray, neighbour: np.ndarray) -> np.ndarray:
    """The neighbour at the frame's size: area-averaged where it gets smaller, bilinear where larger."""
    if neighbour.shape == frame.shape:
        return neighbour
    # By area, where `ops.pictures.resize` goes by sides: published scores of the fillings were measured so.
    way = cv2.INTER_AREA if frame.size < neighbour.size else cv2.INTER_LINEAR
    return cv2.resize(neighbour, frame.shape[1::-1], interpolation=way)


def _fill(frame: np.ndarray, mask: np.ndarray, filling: np.ndarray) -> np.ndarray:
    return np.where(mask[..., None], filling, frame)
