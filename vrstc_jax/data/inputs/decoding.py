"""Videos, decoded once from their beginning to their end, whatever becomes of them on the way."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from vrstc_jax.runtime.errors import InputError


class VideoReader:
    """One decoding pass: `for number, frame in reader`, numbers from 1; `reader.rgb(frame)` is its picture.

    A decoding error, or an end before the declared one, ends the pass like the video's last frame and is
    told in `broken`. A last frame that is there only in part is left out then.

    Attributes, the last two complete once the pass is over:
      frame_rate: frames a second.
      declared: how many frames the container says there are; None where it does not count them.
      picture_size: height and width, those of the first frame; None before it.
      frames_read: how many frames have come.
      broken: None, or one sentence that says where the video breaks off.

    Raises:
      InputError: no such file; nothing that decodes as a video.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.is_file():
            what = "a folder, not a video" if self.path.is_dir() else "no such file"
            raise InputError(f"{path}: {what}; give a video file.")
        try:
            self._container = av.open(str(self.path.resolve()))
        except (OSError, ValueError) as error:  # FFmpeg's errors are all one of the two.
            raise self._undecodable(error) from None
        if not self._container.streams.video:
            self._container.close()
            raise InputError(f"{path}: holds no video stream; give a video file.")
        stream = self._stream = self._container.streams.video[0]
        self.frame_rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
        self.declared = stream.frames or None
        self.picture_size = None
        self.frames_read = 0
        self.broken = None
        self._packets = 0
        self._error = None
        self._end = 0.0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._container.close()

    def __iter__(self) -> Iterator[tuple[int, av.VideoFrame]]:
        held = None  # A damaged frame is passed on only when another follows: the decoder mended it then.
        for frame in self._decode():
            if held is not None:
                yield self._count(held), held
                held = None
            if frame.is_corrupt:
                held = frame
            else:
                yield self._count(frame), frame
        if not self.frames_read:
            raise self._undecodable(self._error)
        if held is not None or self._error is not None or self._is_short():
            total = self.declared or f"about {round(self._duration() * self.frame_rate)}"
            self.broken = (f"{self.path}: the video breaks off; {self.frames_read} frames of {total} "
                           "were read.")

    def rgb(self, frame: av.VideoFrame) -> np.ndarray:
        """The frame's picture, uint8 [H, W, 3], RGB, upright, of the first frame's size."""
        picture = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90) % 4)
        if picture.shape[:2] != self.picture_size:
            height, width = self.picture_size
            wide = frame.reformat(width=width, height=height, format="rgb24")
            picture = wide.to_ndarray()
        return np.ascontiguousarray(picture)

    def _count(self, frame: av.VideoFrame) -> int:
        if self.picture_size is None:
            turned = round(frame.rotation / 90) % 2
            self.picture_size = (frame.width, frame.height) if turned else (frame.height, frame.width)
        self.frames_read += 1
        if frame.time is not None:
            self._end = max(self._end, float(frame.time + 1 / self.frame_rate))
        return self.frames_read

    def _decode(self) -> Iterator[av.VideoFrame]:
        """All frames until the end or the first error behind the first frame."""
        packets = self._container.demux(self._stream)
        started, early = False, None
        packet = self._next(packets)
        while packet is not None:
            following = self._next(packets)
            if packet.is_corrupt and (following is None or not following.size):
                self._error = self._error or av.error.InvalidDataError(0, "cut short")
                break
            try:
                frames = packet.decode()
            except (OSError, ValueError) as error:
                # Before the first frame a stream may only be joined in its middle; later on, the frames
                # behind a gap could no longer be numbered.
                if started:
                    self._error = error
                    break
                frames, early = [], error
            started = started or bool(frames)
            yield from frames
            packet = following
        if not started:
            self._error = self._error or early
        if self._error is not None:
            yield from self._flush()

    def _next(self, packets: Iterator[av.Packet]) -> av.Packet | None:
        try:
            packet = next(packets, None)
        except (OSError, ValueError) as error:
            self._error = error
            return None
        if packet is not None:
            self._packets += packet.size > 0
        return packet

    def _flush(self) -> list[av.VideoFrame]:
        """The frames that the decoder still holds back for reordering."""
        try:
            return self._stream.codec_context.decode(None)
        except (OSError, ValueError):
            return []

    def _is_short(self) -> bool:
        if self.declared:
            return self._packets < self.declared
        # Without a count the declared time has to do; it may be the sound's, which ends when it likes.
        slack = 1.0 if self._container.streams.audio else 0.0
        return self._end < self._duration() - slack - float(3 / self.frame_rate)

    def _duration(self) -> float:
        return (self._container.duration or 0) / av.time_base

    def _undecodable(self, error: Exception | None) -> InputError:
        reason = getattr(error, "strerror", None) or "no frame could be read"
        return InputError(f"{self.path}: does not decode as a video ({reason}); give another file.")
