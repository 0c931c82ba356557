"""Figures of completed tracklets: strips, attention pictures, rows of frames, training curves."""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from vrstc_jax.data.tracklets import Tracklet
from vrstc_jax.evaluation.judging import Judged
from vrstc_jax.inference.completer import CompletedFrame, Completer
from vrstc_jax.inference.origin import IMAGINED, Origin
from vrstc_jax.inference.plan import Plan
from vrstc_jax.inference.results_folder import ResultsFolder
from vrstc_jax.report import AttentionPicture, Curve, Strip
from vrstc_jax.report.images import runs

STRIPS = 12  # in a report
STRIP_FRAMES = 12  # in a strip
_FAR = 50  # frames
_GREEN, _BLUE, _RED = (np.array(colour, np.float32) for colour in ((40, 200, 80), (50, 90, 255), (255, 40, 40)))


def completed_strip(tracklet: Tracklet, result: Mapping[str, Any], folder: ResultsFolder) -> Strip | None:
    """A strip of the tracklet's longest run of frames with hidden pixels; None if there is no such frame.

    It includes the frame before the run and the frame after. If these are more than `STRIP_FRAMES`, it shows that many
    of them, evenly spaced.

    Args:
      result: what `ResultsFolder.read_scores` gives of the tracklet, which is complete in `folder`.
    """
    hows = [row["how"] for row in result["frames"]]
    hidden = runs(np.array(hows) != "visible")
    if not hidden:
        return None
    first, end = max(hidden, key=lambda run: run[1] - run[0])
    first, end = max(0, first - 1), min(len(hows), end + 1)
    shown = (first + np.unique(np.linspace(0, end - first - 1, STRIP_FRAMES).astype(int))).tolist()
    rows = {"input": [tracklet.frames[i] for i in shown]}
    rows["mask"], rows["completion"] = (list(row) for row in zip(*(folder.read(tracklet, i) for i in shown)))
    origins = [folder.read_origin(tracklet, i) for i in shown]
    if any(origin and origin.imagined < 1 for origin in origins):
        rows["origin"] = [picture if origin is None else origin_picture(picture, origin)
                          for picture, origin in zip(rows["completion"], origins)]
    if tracklet.truth is not None:
        rows["truth"] = [tracklet.truth[i] for i in shown]
    ways = {"spatial": "completed from the frame itself", "left": "left as it was"}
    notes = sorted({ways[hows[i]] for i in shown if hows[i] in ways})
    count = sum(how != "visible" for how in hows)
    caption = f"Tracklet {tracklet.name}: {count} of {len(hows)} frames hidden in part"
    return Strip("; ".join([caption, *notes]), rows, [tracklet.frame_names[i] for i in shown])


def origin_picture(completed: np.ndarray, origin: Origin) -> np.ndarray:
    """A completed frame in grey, with what was seen in other frames in green, in blue where these are far, and what
    was imagined in red."""
    grey = cv2.cvtColor(np.ascontiguousarray(completed), cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32)
    frames = origin.frames
    far = np.clip(np.log(np.maximum(1, np.abs(frames - origin.index))) / np.log(_FAR), 0, 1)[..., None]
    seen = (1 - far) * _GREEN + far * _BLUE
    colour = np.where(frames[..., None] == IMAGINED, _RED, seen)
    mixed = np.where(origin.mask[..., None], 0.5 * grey + 0.5 * colour, grey)
    return mixed.round().astype(np.uint8)


def judged_strips(judged: Sequence[Judged], *, strips: int = 6) -> list[Strip]:
    """Strips of judged frames: what was hidden, both generators' completions, and the truth.

    Args:
      strips: the largest number of tracklets shown; they are taken at equal steps.
    """
    groups: dict[str, list[Judged]] = {}
    for frame in judged:
        groups.setdefault(frame.tracklet, []).append(frame)
    result = []
    for group in list(groups.values())[::max(1, len(groups) // strips)][:strips]:
        run = group[:STRIP_FRAMES]
        # The hole is shown grey, as its pixels are not given to the networks.
        hollow = [np.where(j.completed.mask[..., None], np.uint8(127), j.shown) for j in run]
        spatial = [j.by_networks.frame if j.by_networks.spatial is None else j.by_networks.spatial for j in run]
        rows = {"hidden": hollow, "spatial": spatial, "stcnet": [j.by_networks.frame for j in run]}
        if any(j.completed is not j.by_networks for j in run):
            rows["completed"] = [j.completed.frame for j in run]
        rows["truth"] = [j.truth for j in run]
        result.append(Strip(f"Judged: tracklet {run[0].tracklet}", rows, [j.frame_name for j in run]))
    return result


def attention_pictures(completer: Completer, tracklet: Tracklet, plan: Plan, index: int, *,
                       patches: int = 2) -> list[AttentionPicture]:
    """Where some hidden patches of a frame looked, in the nearest frame of each side; none where it could not look.

    Args:
      index: of a frame that is completed by the attention; its hidden patches are taken at equal steps from above.
      patches: how many pictures.

    Raises:
      ValueError: nothing is hidden in the frame.
    """
    frame = tracklet.frames[index]
    mask = plan.mask(index, frame)
    if not mask.any():
        raise ValueError("attention is shown for frames with hidden pixels. Got frame "
                         f"{tracklet.frame_names[index]} of tracklet {tracklet.name}, in which all is visible.")
    attended = completer.attention(tracklet, plan, index)
    if attended is None:
        return []
    (before, first), (after, second) = attended
    height, width = first.shape[:2]
    size = completer.model.config.stcnet.patch_size
    rows, columns = np.nonzero(mask)
    pictures = []
    for share in np.linspace(0, 1, patches + 2)[1:-1]:
        row = int(np.quantile(rows, share))
        # The middle of the hidden part in this row, in 0..1, and the cell of the attention's map that holds it.
        y, x = row / mask.shape[0], float(np.median(columns[rows == row])) / mask.shape[1]
        i, j = min(int(y * height), height - 1), min(int(x * width), width - 1)
        pictures.append(AttentionPicture(
            caption=f"Tracklet {tracklet.name}, frame {tracklet.frame_names[index]}",
            frame=np.where(mask[..., None], np.uint8(127), frame), position=((i + 0.5) / height, (j + 0.5) / width),
            patch=(size / height, size / width),
            neighbours=[tracklet.frames[before[0]], tracklet.frames[after[0]]],
            weights=[first[i, j, 0], second[i, j, 0]],
            names=(f"previous, {tracklet.frame_names[before[0]]}", f"next, {tracklet.frame_names[after[0]]}")))
    return pictures


def completion_rows(tracklet: Tracklet, done: Sequence[CompletedFrame], *, larger: int = 2) -> np.ndarray:
    """A picture of completed frames, uint8 [H, W, 3], with one column for each frame.

    The rows, from the top, are the input with its hidden part outlined, the input with its hidden part grey (as the
    network gets it), the completion, and the truth if the tracklet has it.

    Args:
      larger: the factor by which frames are enlarged.
    """
    rows = [[_outlined(tracklet.frames[d.index], d.mask) for d in done],
            [np.where(d.mask[..., None], np.uint8(128), tracklet.frames[d.index]) for d in done],
            [d.frame for d in done]]
    if tracklet.truth is not None:
        rows.append([tracklet.truth[d.index] for d in done])
    return np.concatenate([np.concatenate([_framed(picture, larger) for picture in row], axis=1) for row in rows])


def stacked(groups: Sequence[np.ndarray], *, gap: int = 12) -> np.ndarray:
    """Stacks pictures, uint8 [H, W, 3] of one width, with `gap` white pixels between."""
    white = np.full((gap, groups[0].shape[1], 3), 255, np.uint8)
    return np.concatenate([part for group in groups for part in (group, white)][:-1])


def _outlined(frame: np.ndarray, mask: np.ndarray) -> np.ndarray:
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(np.ascontiguousarray(frame).copy(), contours, -1, (255, 210, 0), 1)


def _framed(picture: np.ndarray, larger: int) -> np.ndarray:
    picture = cv2.resize(picture, None, fx=larger, fy=larger, interpolation=cv2.INTER_CUBIC)
    return cv2.copyMakeBorder(picture, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=(255, 255, 255))


def training_curves(provenance: Mapping[str, Any]) -> list[Curve]:
    """The training curves in a model's provenance, each in its panel; those without a panel are left out."""
    panels = {"cross_entropy": "re-ID network: cross-entropy", "accuracy": "re-ID network: accuracy",
              "reconstruction": "STCnet: reconstruction (L_r)", "psnr_spatial": "STCnet: PSNR in the hole, dB",
              "psnr_stcnet": "STCnet: PSNR in the hole, dB", "discriminator_global": "STCnet: discriminators",
              "discriminator_local": "STCnet: discriminators", "identity": "STCnet: identity (L_c)"}
    return [Curve(name, [p[0] for p in points], [p[1] for p in points], panels[name])
            for curves in provenance.get("curves", {}).values()
            for name, points in sorted(curves.items()) if name in panels]
