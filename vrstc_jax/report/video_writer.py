"""Writes videos: H.264 in BT.709 (MPEG-4 in an AVI), every picture at its own time, with the sound of another file.

The same pictures give the same bytes on every machine that has the same encoder.
"""

from collections.abc import Callable
from contextlib import nullcontext, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self, cast

import av
import numpy as np
from av.container import OutputContainer
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation
from av.video.stream import VideoStream

from vrstc_jax.report.sound import Sound
from vrstc_jax.runtime.errors import InputError

CONTAINERS = ("3g2", "3gp", "asf", "avi", "f4v", "flv", "ipod", "matroska", "mov", "mp4", "nut")
"""FFmpeg's names of the containers that are written; others write several files, or keep no times."""
STARTS_BEFORE_ZERO = ("3g2", "3gp", "f4v", "ipod", "mov", "mp4")
"""Those of them that can hold what is decoded before the first time shown; others move all times."""

# Bytes would differ from run to run with macroblock-tree rate control, which reads padding that was never written, and
# with several threads, of which one in some hundred videos shows which was faster. By default colours are stored more
# coarsely than brightness, and differ by some levels.
_X264 = {"crf": "18", "preset": "veryfast", "threads": "1",
         "x264-params": "mbtree=0:threads=1:lookahead-threads=1:chroma-qp-offset=-6"}
_MPEG4 = {"flags": "+qscale", "global_quality": str(2 * 118), "threads": "1"}  # 118: FFmpeg's unit of this scale
_MPEG4_FINEST = 65535  # steps of time in a second that MPEG-4 can count
_AVI_FINEST = 1000  # an AVI has a chunk of 24 bytes for every step of time
_CONVERSION = (Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP
               | Interpolation.FULL_CHR_H_INT | Interpolation.BITEXACT)
_BT709, _BT601 = 1, 6  # in H.273, for primaries, transfer and matrix alike


class VideoWriter:
    """Writes one video: `start`, `write` for each picture, `finish`; closes its file at the end of `with`.

    Args:
      path: the file to write; its suffix names the container.
      name: the file's name in messages.

    Raises:
      InputError: no container of this suffix takes the pictures in one file.
    """

    def __init__(self, path: Path, *, name: Path) -> None:
        self._container, self._codec = _open(path, name)
        self._stream: VideoStream | None = None
        self._sound: Sound | None = None
        self._last = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        # After an error the end of the file may not be writable either; the first error is raised.
        with suppress(Exception) if kind else nullcontext():
            self.close()

    def close(self) -> None:
        """Closes the files."""
        if self._sound is not None:
            self._sound.close()
        self._container.close()

    def start(self, shape: tuple[int, ...], rate: Fraction, time_base: Fraction, *, aspect: Fraction = Fraction(1),
              sound: Path | None = None, warn: Callable[[str], object] = print) -> None:
        """Adds the streams.

        Args:
          shape: [height, width, …] of the pictures, both even.
          rate: frames a second, roughly.
          time_base: the unit of the times, in seconds.
          aspect: width of a pixel over its height.
          sound: a video whose sound is copied.
          warn: called with one line for sound that cannot be kept.
        """
        x264 = self._codec == "libx264"
        options = dict(_X264 if x264 else _MPEG4)
        container = self._container.format.name
        edited = container in STARTS_BEFORE_ZERO
        if not edited and container != "matroska":
            options["bf"] = "0"  # frames that are stored out of order are decoded before the time 0
        if container == "avi":
            time_base = max(time_base, Fraction(1, _AVI_FINEST))
        if not x264 and time_base.denominator > _MPEG4_FINEST:
            time_base = Fraction(1, 60000)
        stream = cast(VideoStream, self._container.add_stream(self._codec, rate=rate.limit_denominator(1001),
                                                              options=options))
        stream.height, stream.width = shape[:2]
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base, context.sample_aspect_ratio = time_base, aspect
        # MPEG-4 cannot say in every container what its colours are; players then assume BT.601.
        self._tag = _BT709 if x264 else _BT601
        context.color_primaries = context.color_trc = context.colorspace = self._tag
        context.color_range = ColorRange.MPEG
        self._stream, self._time_base = stream, time_base
        if sound is not None:
            self._sound = Sound(sound, self._container, warn, before_zero=edited)

    def write(self, picture: np.ndarray, time: Fraction) -> None:
        """Encodes a picture, uint8 [H, W, 3], RGB, shown from `time`, in seconds, which increases."""
        assert self._stream is not None
        image = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
            format="yuv420p", dst_colorspace=Colorspace.ITU709 if self._tag == _BT709 else Colorspace.ITU601,
            dst_color_range=ColorRange.MPEG, interpolation=_CONVERSION, threads=1)
        image.color_primaries, image.color_trc = ColorPrimaries(self._tag), ColorTrc(self._tag)
        self._last = max(round(time / self._time_base), self._last + 1)
        image.pts, image.time_base = self._last, self._time_base
        self._container.mux(self._stream.encode(image))
        if self._sound is not None:
            self._sound.copy(until=time)

    def finish(self) -> None:
        """Writes what the encoder still holds, and the rest of the sound."""
        if self._stream is not None:
            self._container.mux(self._stream.encode(None))
        if self._sound is not None:
            self._sound.copy()


def _open(path: Path, name: Path) -> tuple[OutputContainer, str]:
    """The container, open for writing, and the name of the codec to write with."""
    with suppress(ValueError):  # FFmpeg knows no container of this suffix
        # Without times of day and random numbers in the file.
        container = av.open(str(path.resolve()), "w", options={"fflags": "+bitexact"})
        if container.format.name in CONTAINERS:
            # Of H.264 in an AVI, FFmpeg reads the times wrong by a frame.
            for codec in ("mpeg4", "libx264") if container.format.name == "avi" else ("libx264", "mpeg4"):
                if codec in av.codecs_available and codec in container.supported_codecs:
                    return container, codec
        container.close()
    raise InputError(f"{name}: one video file cannot be written under this name; let it end in .mp4.")
