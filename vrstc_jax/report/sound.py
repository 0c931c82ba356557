"""Copies the sound of a video into another, as it is where the other's container takes it, and else as AAC."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
from av.audio.stream import AudioStream
from av.container import OutputContainer

from vrstc_jax.data.inputs.video_formats import open_container, origin
from vrstc_jax.runtime.storage import describe_error


class Sound:
    """The sound of a video file on its way into a container that is being written.

    Args:
      source: the video.
      target: gets a stream for each of the source's sound streams; before its first packet.
      warn: called with one line for sound that cannot be kept.
      before_zero: whether the target takes what an encoder puts before the time 0, which is not heard.
    """

    def __init__(self, source: Path, target: OutputContainer, warn: Callable[[str], object], *,
                 before_zero: bool) -> None:
        self._source, self._target, self._warn, self._before_zero = source, target, warn, before_zero
        self._input = open_container(source)
        self._origin = origin(self._input)
        self._copies: dict[int, AudioStream] = {}
        self._encoders: dict[int, AudioStream] = {}
        self._resamplers: dict[int, av.AudioResampler] = {}
        for stream in self._input.streams.audio:
            try:
                self._copies[stream.index] = target.add_stream_from_template(stream)
            except Exception:  # what a container does not take is a ValueError, and a damaged header anything
                self._add_encoder(stream)
        self._packets = self._demux()
        self._next = next(self._packets, None)

    def copy(self, *, until: Fraction | None = None) -> None:
        """Writes the sound up to a time in seconds; None: to its end."""
        while self._next is not None and (until is None or _time(self._next) - self._origin <= until):
            self._write(self._next)
            self._next = next(self._packets, None)
        if until is None:
            for index in list(self._encoders):
                self._encode(index, None)

    def close(self) -> None:
        """Closes the source."""
        self._input.close()

    def _add_encoder(self, stream: AudioStream) -> None:
        try:
            rate = stream.rate if stream.rate in (44100, 32000, 22050, 16000) else 48000
            encoder = cast(AudioStream, self._target.add_stream("aac", rate=rate))
            encoder.layout = "stereo" if stream.channels > 1 else "mono"
            encoder.codec_context.open(strict=False)  # for its frame size
            self._resamplers[stream.index] = av.AudioResampler(
                format=encoder.codec_context.format, layout=encoder.layout, rate=rate,
                frame_size=encoder.codec_context.frame_size)
            self._encoders[stream.index] = encoder
        except Exception as error:  # FFmpeg's errors are of many classes
            self._drop(stream.index, error)

    def _demux(self) -> Iterator[av.Packet]:
        """The packets of the streams that are kept, up to the first error."""
        streams = [stream for stream in self._input.streams.audio
                   if stream.index in self._copies or stream.index in self._encoders]
        if not streams:
            return
        try:
            for packet in self._input.demux(streams):
                if packet.size and packet.dts is not None:
                    yield packet
        except Exception as error:  # FFmpeg's errors are of many classes
            self._warn(f"{self._source}: its sound breaks off ({describe_error(error)}).")

    def _write(self, packet: av.Packet) -> None:
        index = packet.stream_index
        if index in self._encoders:
            frames = []
            with suppress(Exception):  # a damaged packet costs its own sound alone
                frames = packet.decode()
            for frame in frames:
                self._encode(index, cast(av.AudioFrame, frame))
        elif index in self._copies:
            shift = round(self._origin / Fraction(packet.time_base))
            packet.pts = None if packet.pts is None else packet.pts - shift
            packet.dts = None if packet.dts is None else packet.dts - shift
            if not self._before_zero and (packet.pts or 0) + (packet.duration or 0) <= 0 > (packet.pts or 0):
                return
            packet.stream = self._copies[index]
            self._mux(index, packet)

    def _encode(self, index: int, frame: av.AudioFrame | None) -> None:
        """Encodes a frame; None: what the resampler and the encoder hold."""
        try:
            if frame is not None and frame.pts is not None:
                frame.pts -= round(self._origin * frame.sample_rate)
            packets = [packet for part in self._resamplers[index].resample(frame)
                       for packet in self._encoders[index].encode(part)]
            if frame is None:
                packets += self._encoders[index].encode(None)
        except Exception as error:  # FFmpeg's errors are of many classes
            self._drop(index, error)
            return
        for packet in packets:
            self._mux(index, packet)

    def _mux(self, index: int, packet: av.Packet) -> None:
        try:
            self._target.mux(packet)
        except OSError:  # the disk is full, for example
            raise
        except Exception as error:  # a packet that the container does not take, such as one that goes back in time
            self._drop(index, error)

    def _drop(self, index: int, error: Exception) -> None:
        self._copies.pop(index, None)
        self._encoders.pop(index, None)
        self._warn(f"{self._source}: its sound is not kept from here on ({describe_error(error)}).")


def _time(packet: av.Packet) -> Fraction:
    assert packet.dts is not None
    return packet.dts * Fraction(packet.time_base)
