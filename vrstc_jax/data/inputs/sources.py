"""The one entrance for what people give: a video with boxes, or a folder of pictures.

Everything about the input that can be checked before work begins is checked here, so that a command that
fails fails before it has written anything.
"""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

from vrstc_jax.data.inputs.folders import read_folder
from vrstc_jax.data.inputs.video import read_boxes, read_video
from vrstc_jax.data.tracklets import Tracklet
from vrstc_jax.runtime.errors import InputError


@dataclass(frozen=True, eq=False)
class Source:
    """Tracklets and where they came from.

    Attributes:
      tracklets: as `read_video` or `read_folder` give them, with warnings of their own.
      kind: 'video' or 'folder'.
      path: the video file or the top folder.
      warnings: what was odd about the source as a whole, one sentence each.
      picture_size: a video's height and width in pixels; None for folders.
      frame_rate: a video's frames a second; None for folders.
      frames_read: how many frames of a video could be decoded; None for folders.
    """

    tracklets: list[Tracklet]
    kind: Literal["video", "folder"]
    path: Path
    warnings: tuple[str, ...] = ()
    picture_size: tuple[int, int] | None = None
    frame_rate: Fraction | None = None
    frames_read: int | None = None


def open_source(path: str | Path, *, boxes: str | Path | None = None, masks: str | Path | None = None,
                truth: str | Path | None = None, pattern: str | None = None,
                spool: str | Path | None = None) -> Source:
    """The tracklets of a video file or of a folder of pictures.

    Args:
      path: a video, or a folder.
      boxes: for a video, where the people are: MOTChallenge text (see `read_boxes`).
      masks, truth: folders beside it (see `read_video`, `read_folder`); None: hidden parts are to be
        located, the truth is not known.
      pattern: for a folder, how its levels lie, such as 'person/camera/tracklet/frame' (see `read_folder`).
      spool: for a video, the folder in which its crops wait; None: a temporary one.

    Raises:
      InputError: anything about the input that cannot be used, in one line.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; give a video or a folder of pictures.")
    if path.is_dir():
        if boxes is not None:
            raise InputError(f"{path}: is a folder of pictures, and the boxes {boxes} go with a video; "
                             "give the video, or leave the boxes out.")
        return Source(read_folder(path, pattern=pattern, masks=masks, truth=truth), "folder", path)
    if pattern is not None:
        raise InputError(f"{path}: is a file, and the pattern {pattern!r} goes with a folder of pictures; "
                         "leave it out.")
    if boxes is None:
        raise InputError(f"{path}: a video needs boxes that say where the people are; "
                         "give them with --boxes FILE (MOTChallenge text).")
    video = read_video(path, read_boxes(boxes), spool=spool, masks=masks, truth=truth)
    return Source(video.tracklets, "video", path, video.warnings, video.picture_size, video.frame_rate,
                  video.frames_read)
