"""Renders a video: the picture with completed people put back, alone or to the right of the original.

Times, colours, sound and orientation are the input's. Only here are completed pixels stored with loss (H.264 where
there is an encoder for it), for looking at. The exact pixels are in the PNGs of the results folder.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np
from av.error import FFmpegError

from vrstc_jax.data.inputs.picture_sequence import FrameReader, open_frames
from vrstc_jax.data.inputs.sources import Source
from vrstc_jax.data.tracklets import Tracklet
from vrstc_jax.inference.results_folder import ResultsFolder
from vrstc_jax.report.video_writer import VideoWriter
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.storage import describe_error, require_writable_directory

_GAP = 4  # Columns between the two pictures; even, as everything in the video has to be.
_CAPTION_HEIGHT = 24
_WIDEST = 4096  # columns that many decoders and screens take
_OUTLINE = (255, 196, 0)
_Box = tuple[int, int, int, int]
Layout = Literal["both", "completed"]


@dataclass(frozen=True, eq=False)
class CompletedCrop:
    """One completed crop and where it is in the picture.

    Attributes:
      box: left, top, width, height in whole pixels of the picture.
      pixels: uint8 [height, width, 3], RGB.
      mask: bool [height, width]; only where true (hidden) are `pixels` put into the picture.
    """

    box: _Box
    pixels: np.ndarray
    mask: np.ndarray


Completed = Callable[[int], Sequence[CompletedCrop]] | Mapping[int, Sequence[CompletedCrop]]


def render_video(video: str | Path, output: str | Path, completed: Completed, *,
                 frame_rate: Fraction | None = None, outline: bool = False, layout: Layout = "both",
                 warn: Callable[[str], object] = print) -> int:
    """Writes a video of the completed picture, by default beside the original; returns its number of frames.

    Each frame has its own time, as in the input, and the input's sound is kept. Where the hidden parts of two people in
    a frame overlap, the later crop is seen. Frames that do not decode are left out; a video that breaks off is rendered
    as far as it decodes. The file appears when it is whole.

    Args:
      video: the video that the crops are of, or the folder of its pictures.
      output: the file to write; its suffix names the container (.mp4, .mkv, .mov, .avi).
      completed: from the frame's number (from 1) to what was completed in it: a function, such as
        `CompletedFolder`, or a mapping, in which frames may be missing.
      frame_rate: frames a second, in place of the frames' own times; the sound is then left out.
      outline: whether to draw, on the completed side, a thin box around people with hidden parts.
      layout: 'both', scaled to at most 4096 columns, or 'completed' for that picture alone, in its own size.
      warn: called with one line for sound that cannot be kept.

    Raises:
      InputError: the video does not decode, the output cannot be written or its suffix is of no container
        that takes the picture, or a completed picture is missing or damaged.
      ValueError: a crop's parts do not have the size of its box, or the box leaves the picture; or another layout.
    """
    video, output = Path(video), Path(output)
    if layout not in get_args(Layout):
        raise ValueError(f"layout must be one of {', '.join(get_args(Layout))}. Got {layout!r}.")
    if output.exists() and video.exists() and output.samefile(video):
        raise InputError(f"{output}: is the video itself; give another file to render to.")
    look_up = completed if callable(completed) else lambda number: completed.get(number, ())

    def draw(number: int, picture: np.ndarray) -> np.ndarray:
        crops = look_up(number)
        done = _outlined(put_back(picture, crops), crops if outline else ())
        return _even(done) if layout == "completed" else _side_by_side(picture, done)

    with _temporary(output) as temporary:
        with open_frames(video) as reader:
            _write_frames(reader, temporary, output, draw, frame_rate, warn)
        os.replace(temporary, output)
    return reader.frames_read


def require_renderable(output: str | Path) -> None:
    """Checks that a video can be rendered to `output`, before the work that it comes after.

    Raises:
      InputError: as `render_video` would for the output.
    """
    output = Path(output)
    if output.is_dir():
        raise InputError(f"{output}: is a folder; give the name of the video file to write.")
    require_writable_directory(output.absolute().parent)
    with _temporary(output) as temporary:
        VideoWriter(temporary, name=output).close()


def put_back(picture: np.ndarray, crops: Sequence[CompletedCrop]) -> np.ndarray:
    """A copy of the picture, uint8 [H, W, 3], with the hidden pixels of the crops laid over it.

    Raises:
      ValueError: a crop's parts do not have the size of its box, or the box leaves the picture.
    """
    result = picture.copy()
    for crop in crops:
        left, top, width, height = map(int, crop.box)  # Boxes of a tracklet are float.
        region = result[top:top + height, left:left + width] if min(left, top) >= 0 else result[:0]
        if not region.shape[:2] == crop.pixels.shape[:2] == crop.mask.shape == (height, width):
            raise ValueError(f"a completed crop must have its box's size and lie in the picture. Got box {crop.box}, "
                             f"pixels {crop.pixels.shape}, mask {crop.mask.shape}, picture {picture.shape}.")
        region[crop.mask] = crop.pixels[crop.mask]
    return result


class CompletedFolder:
    """The completed crops of a video by frame number: `folder(17)` is those of frame 17 with something hidden.

    Args:
      source: the video, whose tracklets have boxes and are complete in `results`.

    Raises:
      InputError: a tracklet has no boxes; when called: a picture is missing, damaged, or of another size than its box.
    """

    def __init__(self, source: Source, results: ResultsFolder) -> None:
        self._path = results.path
        self._of_frame: dict[int, list[tuple[Tracklet, int, _Box]]] = defaultdict(list)
        for tracklet in source.tracklets:
            if tracklet.boxes is None:
                raise InputError(f"{source.path}: only a video with boxes can be rendered; "
                                 f"tracklet {tracklet.name} has no boxes.")
            completed = results.completed(tracklet)
            for index, (number, *box) in enumerate(tracklet.boxes.astype(int).tolist()):
                self._of_frame[number].append((completed, index, tuple(box)))

    def __call__(self, number: int) -> list[CompletedCrop]:
        crops = []
        for tracklet, index, box in self._of_frame.get(number, ()):
            assert tracklet.masks is not None  # as `completed` gives it
            file = f"{tracklet.name}/{tracklet.frame_names[index]}.png"
            mask = self._checked(tracklet.masks[index], f"masks/{file}", box)
            if mask.any():
                crops.append(CompletedCrop(box, self._checked(tracklet.frames[index], file, box), mask))
        return crops

    def _checked(self, array: np.ndarray, file: str, box: _Box) -> np.ndarray:
        height, width = array.shape[:2]
        if (width, height) != box[2:]:
            raise InputError(f"{self._path}: {file} is {width}x{height}, but its box is {box[2]}x{box[3]}; "
                             "complete the video again.")
        return array


@contextmanager
def _temporary(output: Path) -> Iterator[Path]:
    """A file beside the output to write first, which is removed in the end; what fails is an InputError."""
    path = output.with_name(f".{output.stem}.partial{output.suffix}")  # The suffix names the container.
    try:
        yield path
    except (OSError, FFmpegError) as error:
        raise InputError(f"{output}: cannot be written ({describe_error(error)}); give another path.") from None
    finally:
        with suppress(OSError):  # There is no file at a path that cannot even be looked at.
            path.unlink(missing_ok=True)


def _write_frames(reader: FrameReader, temporary: Path, output: Path, draw: Callable[[int, np.ndarray], np.ndarray],
                  frame_rate: Fraction | None, warn: Callable[[str], object]) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    rate = Fraction(frame_rate or reader.frame_rate)
    has_sound = frame_rate is None and not reader.path.is_dir()
    with VideoWriter(temporary, name=output) as writer:
        for number, frame in reader:
            canvas = draw(number, reader.rgb(frame, exact=True))
            if reader.frames_read == 1:
                # An AVI can only have times that are multiples of one step.
                step = 1 / reader.time_steps if output.suffix.lower() == ".avi" else reader.time_base
                writer.start(canvas.shape, rate, step if frame_rate is None else 1 / rate, aspect=reader.aspect,
                             sound=reader.path if has_sound else None, warn=warn)
            writer.write(canvas, reader.time if frame_rate is None else (number - 1) / rate)
        writer.finish()


def _side_by_side(original: np.ndarray, completed: np.ndarray) -> np.ndarray:
    original, completed = _even(_scaled(original)), _even(_scaled(completed))
    gap = np.zeros((original.shape[0], _GAP, 3), np.uint8)
    pictures = np.concatenate([original, gap, completed], axis=1)
    caption = np.zeros((_CAPTION_HEIGHT, pictures.shape[1], 3), np.uint8)
    for text, left in (("original", 6), ("completed", original.shape[1] + _GAP + 6)):
        cv2.putText(caption, text, (left, _CAPTION_HEIGHT - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.5,
                    (235, 235, 235), 1, cv2.LINE_AA)
    return np.concatenate([caption, pictures])


def _scaled(picture: np.ndarray) -> np.ndarray:
    """The picture, made smaller if two of it and the gap are wider than `_WIDEST`."""
    height, width = picture.shape[:2]
    widest = (_WIDEST - _GAP) // 2
    if width <= widest:
        return picture
    return cv2.resize(picture, (widest, max(1, round(height * widest / width))), interpolation=cv2.INTER_AREA)


def _even(picture: np.ndarray) -> np.ndarray:
    """The picture with its edge repeated where a size is odd, which 4:2:0 colour does not take."""
    height, width = picture.shape[:2]
    return np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), "edge")


def _outlined(picture: np.ndarray, crops: Sequence[CompletedCrop]) -> np.ndarray:
    for crop in crops:
        left, top, width, height = map(int, crop.box)
        cv2.rectangle(picture, (left, top), (left + width - 1, top + height - 1), _OUTLINE, 1)
    return picture
