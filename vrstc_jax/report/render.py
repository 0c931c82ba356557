"""Renders a video: the original on the left, on the right the picture with completed people put back.

Only here are completed pixels stored with loss (H.264 where there is an encoder for it), for looking at. The exact
pixels are in the PNGs of the results folder.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import cv2
import numpy as np
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream

from vrstc_jax.data.inputs.sources import Source
from vrstc_jax.data.inputs.video import VideoReader
from vrstc_jax.data.tracklets import Tracklet
from vrstc_jax.inference.results_folder import ResultsFolder
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.storage import require_writable_directory

_GAP = 4  # Columns between the two pictures; even, as everything in the video has to be.
_CAPTION_HEIGHT = 24
_OUTLINE = (255, 196, 0)
_Box = tuple[int, int, int, int]


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
                 frame_rate: Fraction | None = None, outline: bool = False) -> int:
    """Writes a video of the original beside the completed picture; returns its number of frames.

    Where the hidden parts of two people in a frame overlap, the later crop is seen. A damaged video is rendered up to
    the first frame that cannot be decoded. The file appears when it is whole.

    Args:
      video: the video that the crops are of.
      output: the file to write; its suffix names the container (.mp4, .mkv, .mov, .avi).
      completed: from the frame's number (from 1) to what was completed in it: a function, such as
        `CompletedFolder`, or a mapping, in which frames may be missing.
      frame_rate: frames a second; None: the video's own.
      outline: whether to draw, on the completed side, a thin box around people with hidden parts.

    Raises:
      InputError: the video does not decode, the output cannot be written or its suffix is of no container
        that takes the picture, or a completed picture is missing or damaged.
      ValueError: a crop's parts do not have the size of its box, or the box leaves the picture.
    """
    video, output = Path(video), Path(output)
    if output.exists() and video.exists() and output.samefile(video):
        raise InputError(f"{output}: is the video itself; give another file to render to.")
    look_up = completed if callable(completed) else lambda number: completed.get(number, ())
    with _temporary(output) as temporary:
        with VideoReader(video) as reader:
            count = _write_frames(reader, temporary, output, look_up, frame_rate, outline)
        os.replace(temporary, output)
    return count


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
        _open_output(temporary, output)[0].close()


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
        raise InputError(f"{output}: cannot be written ({error.strerror}); give another path.") from None
    finally:
        with suppress(OSError):  # There is no file at a path that cannot even be looked at.
            path.unlink(missing_ok=True)


def _write_frames(reader: VideoReader, temporary: Path, output: Path, look_up: Callable[[int], Sequence[CompletedCrop]],
                  frame_rate: Fraction | None, outline: bool) -> int:
    # MPEG-4 cannot count time in finer steps than 1/65535 s.
    rate = Fraction(frame_rate or reader.frame_rate).limit_denominator(1001)
    container, codec = _open_output(temporary, output)
    with container:
        stream = None
        for number, frame in reader:
            picture = reader.rgb(frame)
            crops = look_up(number)
            canvas = _side_by_side(picture, _outlined(put_back(picture, crops), crops if outline else ()))
            if stream is None:
                stream = _add_stream(container, codec, rate, canvas.shape)
            image = av.VideoFrame.from_ndarray(canvas, format="rgb24")
            image.pts, image.time_base = number - 1, 1 / rate
            container.mux(stream.encode(image))
        if stream is not None:  # a reader that finds no frame has raised
            container.mux(stream.encode(None))
    return reader.frames_read


def _open_output(temporary: Path, output: Path) -> tuple[OutputContainer, str]:
    """The container, open for writing, and the name of the codec to write with."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with suppress(ValueError):  # FFmpeg knows no container of this suffix.
        container = av.open(str(temporary.resolve()), "w")
        for codec in ("libx264", "mpeg4"):
            if codec in av.codecs_available and codec in container.supported_codecs:
                return container, codec
        container.close()
    raise InputError(f"{output}: a video cannot be written under this name; let it end in .mp4.")


def _add_stream(container: OutputContainer, codec: str, rate: Fraction, shape: tuple[int, ...]) -> VideoStream:
    # Macroblock-tree rate control reads padding that was never written, so bytes would differ from run to run.
    options = ({"crf": "20", "preset": "veryfast", "x264-params": "mbtree=0"} if codec == "libx264" else
               {"qscale": "3"})
    stream = cast(VideoStream, container.add_stream(codec, rate=rate, options=options))
    stream.height, stream.width = shape[:2]
    stream.pix_fmt = "yuv420p"
    return stream


def _side_by_side(original: np.ndarray, completed: np.ndarray) -> np.ndarray:
    height, width = original.shape[:2]
    # 4:2:0 colour needs even sizes; the edge is repeated where the picture's is odd.
    padding = ((0, height % 2), (0, width % 2), (0, 0))
    original, completed = np.pad(original, padding, "edge"), np.pad(completed, padding, "edge")
    gap = np.zeros((original.shape[0], _GAP, 3), np.uint8)
    pictures = np.concatenate([original, gap, completed], axis=1)
    caption = np.zeros((_CAPTION_HEIGHT, pictures.shape[1], 3), np.uint8)
    for text, left in (("original", 6), ("completed", original.shape[1] + _GAP + 6)):
        cv2.putText(caption, text, (left, _CAPTION_HEIGHT - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.5,
                    (235, 235, 235), 1, cv2.LINE_AA)
    return np.concatenate([caption, pictures])


def _outlined(picture: np.ndarray, crops: Sequence[CompletedCrop]) -> np.ndarray:
    for crop in crops:
        left, top, width, height = map(int, crop.box)
        cv2.rectangle(picture, (left, top), (left + width - 1, top + height - 1), _OUTLINE, 1)
    return picture
