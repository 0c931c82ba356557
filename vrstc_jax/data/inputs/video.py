"""Decodes a video in one pass, from the first frame to the last that is intact."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import av
import cv2
import numpy as np
from av.error import InvalidDataError
from av.video.reformatter import Interpolation

from vrstc_jax.data.inputs.video_formats import open_container, origin, undecodable
from vrstc_jax.data.inputs.video_packets import Packets

_REGULAR = 10  # gaps between frames that show a regular rate
_EXACT = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.BITEXACT
_RATE_TOLERANCE = 0.01  # by which a header's frame rate may differ from that of the time stamps


class VideoReader:
    """One decoding pass: `for number, frame in reader`, numbers from 1; `reader.rgb(frame)` is the frame's picture.

    A frame that does not decode keeps its number, so that boxes fit the frames after it. The pass ends, and sets
    `broken`, before the declared end where the file is cut, or where the frames after some damage cannot be numbered.
    A partly decoded last frame is then left out.

    Attributes (`frame_rate`, `frames_read`, `last_number`, `lost` and `broken` are final when the pass is over):
      path: the file.
      frame_rate: frames per second, of the header; in the end of the time stamps, where the header differs from them.
      time_steps: steps in a second of which the times are multiples, nearly: the frame rate where it is constant.
      time_base: the unit of the frames' times in seconds.
      time: when the last frame that was yielded is shown, in seconds; increases from frame to frame.
      aspect: width of a pixel over its height, upright; 1 where it is unknown.
      declared: the container's number of frames; None where it does not count them.
      picture_size: (height, width) of the first frame in pixels, upright; (0, 0) before it.
      frames_read: the number of decoded frames.
      last_number: the last frame's number.
      lost: numbers of frames that do not decode, with others after them.
      broken: None, or one sentence that says where the video breaks off.
      notes: irregularities, one sentence each.

    Raises:
      InputError: no such file; nothing that decodes as a video.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._container = open_container(self.path)
        stream = self._stream = self._container.streams.video[0]
        # Raw streams have no rate; 25 is what FFmpeg assumes for them.
        self.frame_rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
        # FFmpeg's base rate is of the shortest gaps; it differs from the average where frames come irregularly.
        self.time_steps = self.frame_rate if stream.average_rate == stream.base_rate else Fraction(1000)
        self.time_base = Fraction(stream.time_base or 1 / self.frame_rate)
        self.time = Fraction(-1)
        self.aspect = Fraction(1)
        self.declared: int | None = stream.frames or None
        self.picture_size = (0, 0)
        self.frames_read = self.last_number = 0
        self.lost: list[int] = []
        self.broken: str | None = None
        self.notes: list[str] = []
        self._origin = origin(self._container)
        self._packets = Packets(self._container, self.path)
        self._times: list[float] = []
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
            lost = self._packets.lost_before(frame)
            if lost and not self._can_number(frame, lost):
                self._error = self._error or InvalidDataError(0, "damaged")
                break
            if held is not None:
                yield self._count(held, 0), held
                held = None
            if frame.is_corrupt and not lost:
                held = frame
            else:
                yield self._count(frame, lost), frame
        if not self.frames_read:
            raise undecodable(self.path, self._error)
        if held is not None or self._error is not None or self._packets.lost_at_end() or self._is_short():
            total = self.declared or f"about {round(self._duration() * self.frame_rate)}"
            self.broken = f"{self.path}: the video breaks off; {self.frames_read} frames of {total} were read."
        if not self._packets.are_listed():
            self._note_gap()
        self.frame_rate = _rate_of_times(self.frame_rate, self._times)

    def rgb(self, frame: Any, *, exact: bool = False) -> np.ndarray:
        """The picture of a yielded frame: uint8 [H, W, 3], RGB, upright, of the first frame's size.

        Args:
          exact: whether to round to the nearest value; FFmpeg is faster without, and up to 2 levels darker.

        Raises:
          InputError: the frame has a form that is not converted to RGB.
        """
        try:
            pixels = frame.to_ndarray(format="rgb24", interpolation=_EXACT if exact else None)
        except Exception as error:  # FFmpeg's errors are of many classes
            raise undecodable(self.path, error) from None
        picture = upright(pixels, _display_matrix(frame))
        if picture.shape[:2] != self.picture_size:
            picture = cv2.resize(picture, self.picture_size[::-1], interpolation=cv2.INTER_AREA)
        return np.ascontiguousarray(picture)

    def _count(self, frame: av.VideoFrame, lost: int) -> int:
        if not self.frames_read:
            self.aspect = Fraction(self._stream.sample_aspect_ratio or 1) or Fraction(1)
            self.picture_size = (frame.height, frame.width)
            if _is_turned(_display_matrix(frame)):
                self.aspect, self.picture_size = 1 / self.aspect, (frame.width, frame.height)
        self.lost += range(self.last_number + 1, self.last_number + 1 + lost)
        self.frames_read += 1
        self.last_number += 1 + lost
        self._end = max(self._end, float((self._pts(frame) or 0) * self.time_base + 1 / self.frame_rate))
        self._advance(frame, 1 + lost)
        return self.last_number

    def _advance(self, frame: av.VideoFrame, frames: int) -> None:
        """Sets `time` to that of a frame, which is this many frames after the last."""
        step, first = frames / self.frame_rate, self.frames_read == 1
        time = Fraction(0) if first else self.time + step
        pts = self._pts(frame)
        if pts is not None:
            time = pts * self.time_base - self._origin
            if not first and time < self.time - 1:  # a broadcast's clock that starts again
                self._origin += time - self.time - step
                time = self.time + step
            elif not first:
                time = max(time, self.time + self.time_base)
            self._times.append(float(time))
        self.time = time

    def _pts(self, frame: av.VideoFrame) -> int | None:
        time = self._packets.time_of(frame)
        return frame.pts if time is None else time

    def _can_number(self, frame: av.VideoFrame, lost: int) -> bool:
        """Whether the number of frames lost before this one is certain."""
        if self._packets.are_listed():
            return True
        # Where nothing lists the packets, more of them than those that failed may be gone. Times tell.
        pts = self._pts(frame)
        if len(self._times) < 2 or pts is None:
            return not self.frames_read and pts is not None
        gap = float(pts * self.time_base - self._origin) - self._times[-1]
        return gap < (lost + 1.5) * np.diff(self._times).max()

    def _note_gap(self) -> None:
        """Notes a hole in times that are regular otherwise: the container cannot tell whether frames are missing."""
        gaps = np.diff(self._times)
        if len(gaps) >= _REGULAR and not self.lost:
            wide = gaps > 1.6 * np.median(gaps)
            regular = np.abs(gaps / np.median(gaps) - 1) < 0.2
            if wide.any() and (wide | regular).all() and wide.sum() < len(gaps) / _REGULAR:
                first = int(np.flatnonzero(wide)[0])
                self.notes.append(f"{self.path}: {gaps[first]:.2f} s lie between frames {first + 1} and {first + 2}, "
                                  f"and {np.median(gaps):.2f} s between others; if frames are missing there, boxes "
                                  "after them do not fit.")

    def _decode(self) -> Iterator[av.VideoFrame]:
        """All frames that decode, in the order in which they are shown."""
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
            self._packets.submit(packet)
            try:
                frames = packet.decode()
            except Exception as error:  # FFmpeg's errors are of many classes
                # Errors before the first frame are normal for a stream recorded from its middle.
                self._packets.fail(packet)
                frames, early = [], early or error
            started = started or bool(frames)
            yield from frames
            packet = following
        if not started:
            self._error = self._error or early
        if self._error is not None or early is not None:
            yield from self._flush()

    def _next(self, packets: Iterator[av.Packet]) -> av.Packet | None:
        try:
            return next(packets, None)
        except Exception as error:  # FFmpeg's errors are of many classes
            self._error = error
            return None

    def _flush(self) -> list[av.VideoFrame]:
        """The frames that the decoder still holds for reordering."""
        try:
            return self._stream.codec_context.decode(None)
        except Exception:  # the error that ended the pass counts, not this one
            return []

    def _is_short(self) -> bool:
        # Counts packets: a packet of an intact video may decode to no frame.
        if self.declared:
            return self._packets.are_fewer(self.declared)
        # Without a frame count the declared duration decides; it may be that of the sound, which may end later.
        slack = 1.0 if self._container.streams.audio else 0.0
        return self._end < self._duration() - slack - float(3 / self.frame_rate)

    def _duration(self) -> float:
        return (self._container.duration or 0) / av.time_base


def upright(picture: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """Turns and mirrors a stored picture [H, W, …] as players do.

    Args:
      matrix: a, b, c, d of the container's display matrix: what is at (x, y) is shown at (ax + cy, bx + dy), up to a
        shift. Of a rotation by another angle, the nearest multiple of 90° is taken.
    """
    a, b, c, d = matrix
    if _is_turned(matrix):
        picture, a, d = picture.swapaxes(0, 1), c, b
    return picture[::-1 if d < 0 else 1, ::-1 if a < 0 else 1]


def _is_turned(matrix: tuple[int, int, int, int]) -> bool:
    a, b, c, d = matrix
    return abs(b) + abs(c) > abs(a) + abs(d)


def _display_matrix(frame: av.VideoFrame) -> tuple[int, int, int, int]:
    """a, b, c, d of `upright`; phones and cameras store their orientation as this."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return 1, 0, 0, 1
    a, b, _, c, d = np.frombuffer(data, np.int32, 5).tolist()
    return a, b, c, d


def _rate_of_times(header: Fraction, times: list[float]) -> Fraction:
    """The frame rate of the header, or that of the times where they clearly have another one."""
    gaps = np.diff(times)
    gaps = gaps[gaps > 0]
    if not gaps.size:
        return header
    # The median of a video with dropped frames is its rate; the mean of one with varying times is.
    mean = 1 / gaps.mean()
    # A header may count the time that the last frame is shown, which is not among the gaps.
    agrees = (abs(mean / float(header) - 1) < _RATE_TOLERANCE + 1 / len(times)
              or abs(1 / np.median(gaps) / float(header) - 1) < _RATE_TOLERANCE)
    if agrees:
        return header
    return Fraction(mean).limit_denominator(1001)
