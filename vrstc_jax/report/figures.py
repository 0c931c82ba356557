"""What the report shows of completed tracklets: strips, and where attention looked."""

from collections.abc import Sequence

import cv2
import numpy as np

from vrstc_jax.data.tracklets import Tracklet
from vrstc_jax.evaluation.judging import Judged
from vrstc_jax.inference.complete import CompletedFrame, Completer
from vrstc_jax.inference.plan import Plan
from vrstc_jax.inference.results_folder import ResultsFolder
from vrstc_jax.report import AttentionPicture, Curve, Strip

STRIPS = 12  # in a report
STRIP_FRAMES = 12  # in a strip


def completed_strip(tracklet: Tracklet, result: dict, folder: ResultsFolder) -> Strip | None:
    """The longest hidden run of a completed tracklet with a frame before and after; None without one.

    Args:
      result: what `OutputFolder.write` gave of it.
    """
    hows = [row["how"] for row in result["frames"]]
    runs = _hidden_runs(hows)
    if not runs:
        return None
    first, end = max(runs, key=lambda run: run[1] - run[0])
    shown = range(max(0, first - 1), min(len(hows), end + 1))
    shown = [shown[i] for i in np.unique(np.linspace(0, len(shown) - 1, STRIP_FRAMES).astype(int))]
    rows = {"input": [tracklet.frames[i] for i in shown]}
    rows["mask"], rows["completion"] = (list(row) for row in zip(*(folder.read(tracklet, i) for i in shown)))
    if tracklet.truth is not None:
        rows["truth"] = [tracklet.truth[i] for i in shown]
    ways = {"spatial": "completed from the frame itself", "left": "left as it was"}
    notes = sorted({ways[hows[i]] for i in shown if hows[i] in ways})
    hidden = sum(how != "visible" for how in hows)
    caption = f"Tracklet {tracklet.name}: {hidden} of {len(hows)} frames hidden in part"
    return Strip("; ".join([caption, *notes]), rows, [tracklet.frame_names[i] for i in shown])


def _hidden_runs(hows):
    """(first, last + 1) of each run of frames that are not 'visible'."""
    hidden = np.concatenate([[False], np.array(hows) != "visible", [False]])
    edges = np.flatnonzero(hidden[1:] != hidden[:-1])
    return list(zip(edges[::2].tolist(), edges[1::2].tolist()))


def judged_strips(judged: Sequence[Judged], *, strips: int = 6) -> list[Strip]:
    """Strips of held-out runs or true occlusions: what was hidden, both completions, and the truth."""
    groups: dict[str, list[Judged]] = {}
    for frame in judged:
        groups.setdefault(frame.tracklet, []).append(frame)
    chosen = list(groups.values())
    chosen = chosen[::max(1, len(chosen) // strips)][:strips]
    result = []
    for run in chosen:
        run = run[:STRIP_FRAMES]
        hollow = [np.where(j.completed.mask[..., None], np.uint8(127), j.shown) for j in run]
        first = [j.completed.frame if j.completed.spatial is None else j.completed.spatial for j in run]
        result.append(Strip(f"Judged: tracklet {run[0].tracklet}", {
            "hidden": hollow, "spatial": first, "stcnet": [j.completed.frame for j in run],
            "truth": [j.truth for j in run]}, [j.frame_name for j in run]))
    return result


def attention_pictures(completer: Completer, tracklet: Tracklet, plan: Plan, index: int, *,
                       patches: int = 2) -> list[AttentionPicture]:
    """Where some hidden patches of a frame looked, in the nearest frame of each side."""
    frame = tracklet.frames[index]
    mask = plan.mask(index, frame)
    (before, first), (after, second) = completer.attention(tracklet, plan, index)
    height, width = first.shape[:2]
    size = completer.model.config.stcnet.patch_size
    rows, columns = np.nonzero(mask)
    pictures = []
    for share in np.linspace(0, 1, patches + 2)[1:-1]:
        row = int(np.quantile(rows, share))
        at = columns[rows == row]
        y, x = row / mask.shape[0], float(np.median(at)) / mask.shape[1]
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
    """Frames of a tracklet under each other, uint8 [H, W, 3]: seen, with the hidden part outlined; what the network
    is given; completed; and, where it is known, the truth."""
    rows = [[_outlined(tracklet.frames[d.index], d.mask) for d in done],
            [np.where(d.mask[..., None], np.uint8(128), tracklet.frames[d.index]) for d in done],
            [d.frame for d in done]]
    if tracklet.truth is not None:
        rows.append([tracklet.truth[d.index] for d in done])
    return np.concatenate([np.concatenate([_framed(picture, larger) for picture in row], axis=1) for row in rows])


def stacked(groups: Sequence[np.ndarray], *, gap: int = 12) -> np.ndarray:
    """Pictures of one width under each other, with white between."""
    white = np.full((gap, groups[0].shape[1], 3), 255, np.uint8)
    return np.concatenate([part for group in groups for part in (group, white)][:-1])


def _outlined(frame, mask):
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(np.ascontiguousarray(frame).copy(), contours, -1, (255, 210, 0), 1)


def _framed(picture, larger):
    picture = cv2.resize(picture, None, fx=larger, fy=larger, interpolation=cv2.INTER_CUBIC)
    return cv2.copyMakeBorder(picture, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=(255, 255, 255))


def training_curves(provenance: dict) -> list[Curve]:
    """The curves that a model's provenance keeps."""
    panels = {"cross_entropy": "re-ID network: cross-entropy", "accuracy": "re-ID network: accuracy",
              "reconstruction": "STCnet: reconstruction (L_r)", "psnr_spatial": "STCnet: PSNR in the hole, dB",
              "psnr_stcnet": "STCnet: PSNR in the hole, dB", "discriminator_global": "STCnet: discriminators",
              "discriminator_local": "STCnet: discriminators", "identity": "STCnet: identity (L_c)"}
    return [Curve(name, [p[0] for p in points], [p[1] for p in points], panels[name])
            for curves in provenance.get("curves", {}).values()
            for name, points in sorted(curves.items()) if name in panels]
