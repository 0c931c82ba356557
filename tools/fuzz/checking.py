"""Checks of what an accepted try wrote: each visible pixel is the input's, and no frame is missing or added."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

Pictures = dict[str, np.ndarray]
"""{tracklet/frame: uint8 [H, W, 3], RGB}."""


def completed(output: Path, expected: Mapping[str, np.ndarray] | Callable[[], Mapping[str, np.ndarray]], *,
              masks: Mapping[str, np.ndarray] | None = None,
              unknown: frozenset[str] = frozenset(), contents: bool = True) -> Callable[[], str | None]:
    """A check of a folder that `vrstc complete` wrote; see `tries.Try.check`.

    Args:
      expected: the input's frames, or what returns them.
      masks: the masks that were given, bool [H, W], by the same names.
      unknown: frames of which the content is not compared.
      contents: whether any is; FFmpeg's decoders conceal damage with what is in memory, not twice the same.
    """
    def check() -> str | None:
        frames = expected() if callable(expected) else expected
        found = {path.relative_to(output).with_suffix("").as_posix(): path for path in output.rglob("*.png")
                 if path.relative_to(output).parts[0] not in ("masks", "origin") and path.is_file()}
        if found.keys() != frames.keys():
            return f"frames that are missing or added: {sorted(found.keys() ^ frames.keys())[:5]}"
        rows = sum(len(json.loads(path.read_text())["frames"]) for path in (output / "scores").rglob("*.json")
                   if path.is_file())
        if rows != len(frames):
            return f"{rows} frames have scores, of {len(frames)}"
        for name, frame in frames.items():
            if name in unknown:
                continue
            picture = _read(found[name])
            mask = _read(output / "masks" / f"{name}.png")[..., 0] > 0
            if picture.shape != frame.shape or mask.shape != frame.shape[:2]:
                return f"{name}: {picture.shape} with a mask of {mask.shape}, not {frame.shape}"
            if contents and (wrong := int((picture != frame).any(-1)[~mask].sum())):
                return f"{name}: {wrong} visible pixels changed"
            if masks is not None and (mask != masks[name]).any():
                return f"{name}: the mask used is not the one given"
            origin = output / "origin" / f"{name}.png"
            # What is hidden entirely is left as it was.
            told = _read(origin, cv2.IMREAD_UNCHANGED)[..., 0] > 0 if origin.is_file() else np.zeros_like(mask)
            if told.shape != mask.shape or (told != (mask & ~mask.all())).any():
                return f"{name}: its origin is not that of the pixels which the mask hides"
        return None

    return check


def as_read(path: Path, spool: Path, **options: Any) -> Callable[[], Pictures]:
    """The frames of an input as the package reads them, for damaged files of which nobody else knows the content."""
    def read() -> Pictures:
        from vrstc_jax.data.inputs.sources import open_source

        source = open_source(path, spool=spool, **options)
        return {f"{tracklet.name}/{name}": tracklet.frames[index]
                for tracklet in source.tracklets for index, name in enumerate(tracklet.frame_names)}

    return read


def _read(path: Path, how: int = cv2.IMREAD_COLOR) -> np.ndarray:
    picture = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), how)
    if picture is None:
        raise ValueError(f"{path}: is no picture")
    return picture[..., ::-1]
