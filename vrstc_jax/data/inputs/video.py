"""Decodes a video in one pass, from the first frame to the last that is intact."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Self

import av
import numpy as np
from av.error import InvalidDataError

from vrstc_jax.runtime.errors import InputError


class VideoReader:
    """One decoding pass: `for number, frame in reader`, numbers from 1; `reader.rgb(frame)` is the frame's picture.

    A decoding error, or an end before the declared one, ends the iteration and sets `broken`. A partly decoded last
    frame is then left out.

    Attributes (`frames_read` and `broken` are final when the pass is over):
      frame_rate: frames per second.
      declared: the container's number of frames; None where it does not count them.
      picture_size: (height, width) of the first frame in pixels; (0, 0) before it.
      frames_read: the number of decoded frames.
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
        except (OSError, ValueError) as error:  # All of FFmpeg's errors are one of the two.
            raise self._undecodable(error) from None
        if not self._container.streams.video:
            self._container.close()
            raise InputError(f"{path}: holds no video stream; give a video file.")
        stream = self._stream = self._container.streams.video[0]
        # Raw streams have no rate; 25 is what FFmpeg assumes for them.
        self.frame_rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
        self.declared: int | None = stream.frames or None
        self.picture_size = (0, 0)
        self.frames_read = 0
        self.broken: str | None = None
        self._packets = 0
        self._error: Exception | None = None
        self._end = 0.0  # seconds

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def __iter__(self) -> Iterator[tuple[int, av.VideoFrame]]:
        # A damaged frame is yielded only when another follows: the decoder has then concealed the damage.
        held = None
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
            self.broken = f"{self.path}: the video breaks off; {self.frames_read} frames of {total} were read."

    def rgb(self, frame: av.VideoFrame) -> np.ndarray:
        """The frame's picture, uint8 [H, W, 3], RGB, upright, of the first frame's size."""
        # Phones store a rotation as metadata; boxes refer to the upright picture.
        picture = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90) % 4)
        if picture.shape[:2] != self.picture_size:
            height, width = self.picture_size
            picture = frame.reformat(width=width, height=height, format="rgb24").to_ndarray()
        return np.ascontiguousarray(picture)

    def _count(self, frame: av.VideoFrame) -> int:
        if not self.frames_read:
            turned = round(frame.rotation / 90) % 2
            self.picture_size = (frame.width, frame.height) if turned else (frame.height, frame.width)
        self.frames_read += 1
        if frame.time is not None:
            self._end = max(self._end, float(frame.time + 1 / self.frame_rate))
        return self.frames_read

    def _decode(self) -> Iterator[av.VideoFrame]:
        """All frames until the end, or until the first error after the first frame."""
        packets = self._container.demux(self._stream)
        started, early = False, None
        packet = self._next(packets)
        while packet is not None:
            # Reads one packet ahead: a corrupt last packet means that the file was cut there, but a corrupt one in the
            # middle may be decodable.
            following = self._next(packets)
            if packet.is_corrupt and (following is None or not following.size):
                self._error = self._error or InvalidDataError(0, "cut short")
                break
            try:
                frames = packet.decode()
            except (OSError, ValueError) as error:
                # Errors before the first frame are normal for a stream recorded from its middle. A later error ends
                # the pass: frames after a gap could not be numbered, so boxes would not fit them.
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
        """The frames that the decoder still holds for reordering."""
        try:
            return self._stream.codec_context.decode(None)
        except (OSError, ValueError):
            return []

    def _is_short(self) -> bool:
        # Counts packets: a packet of an intact video may decode to no frame.
        if self.declared:
            return self._packets < self.declared
        # Without a frame count the declared duration decides; it may be that of the sound, which may end later.
        slack = 1.0 if self._container.streams.audio else 0.0
        return self._end < self._duration() - slack - float(3 / self.frame_rate)

    def _duration(self) -> float:
        return (self._container.duration or 0) / av.time_base

    def _undecodable(self, error: Exception | None) -> InputError:
        reason = getattr(error, "strerror", None) or "no frame could be read"
        return InputError(f"{self.path}: does not decode as a video ({reason}); give another file.")
