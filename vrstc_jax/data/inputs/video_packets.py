"""Which packets of a video were lost, by its container's list of them and by the times of what was decoded."""

import heapq
import os
from pathlib import Path

import av
from av.container import InputContainer

_CHUNK_HEADER = 8  # bytes before a chunk's data in an AVI
# Codecs of which every packet is a frame to show, h264 where it is not interlaced; VP8 has some that only help others.
_EACH_PACKET_SHOWS = ("av1", "libdav1d", "ffv1", "h264", "hevc", "mjpeg", "mpeg4", "vp9", "libvpx-vp9")
_PLACEHOLDER = 16  # bytes; MPEG-4 may put two frames in one packet, and a shorter packet after it
# Containers that may begin in the middle, with frames that depend on what came before.
_RECORDED_FROM_ANYWHERE = ("mpegts", "mpeg", "mpegvideo", "h264", "hevc", "m4v", "obu", "vc1", "mjpeg")


class Packets:
    """Which packets were decoded to a frame, by their times, and which were lost."""

    def __init__(self, container: InputContainer, path: Path) -> None:
        stream = container.streams.video[0]
        self.count = 0  # of packets with data, and in an AVI also of those left out for dropped frames
        self._mp4 = "mp4" in container.format.name.split(",")
        # An AVI's list of packets; one that is cut has none.
        self._avi = container.format.name == "avi"
        entries = stream.index_entries if self._avi else ()
        self._reorders = stream.codec_context.has_b_frames
        self._rank: dict[int, int] = {entry.pos + _CHUNK_HEADER: rank for rank, entry in enumerate(entries)}
        self._whole = self._avi and _riff_is_whole(path)
        self._next = 0  # the rank of the next packet
        self._unlisted = False
        self._began = False
        self._origin: int | None = None  # the time of the first key frame
        self._waiting: list[int] = []  # a heap of the times of packets that have given no frame yet
        self._failed: set[int] = set()
        # Packets that give no frame and no error are lost, unless the codec has some that only help others.
        self._codec = stream.codec_context.name
        self._each_shows = self._codec in _EACH_PACKET_SHOWS
        self._shown = container.format.name not in _RECORDED_FROM_ANYWHERE
        self._hidden = self._damaged = False
        self._untimed = 0  # lost packets without a time, since the last frame

    def submit(self, packet: av.Packet) -> None:
        """Notes a packet that is about to be decoded."""
        if not packet.size:
            return
        self.count += 1
        if self._avi:
            self._submit_listed(packet)
        # What precedes the first key frame depends on frames that the file does not have.
        if not self._began:
            # A damaged packet does not look like a key frame.
            self._began, self._origin = packet.is_keyframe or self._shown, self.time_of(packet)
        time = self.time_of(packet)
        if not self._began or time is None or time < (self._origin or 0) or packet.is_discard:
            return
        if self._codec != "mpeg4" or packet.size >= _PLACEHOLDER:
            heapq.heappush(self._waiting, time)

    def time_of(self, decoded: av.Packet | av.VideoFrame) -> int | None:
        """The time of a frame, or that the frame of a packet will have, in the stream's unit; None if unknown."""
        if self._avi:  # has decoding times alone, from which FFmpeg guesses the others
            return None if self._reorders else decoded.dts
        return decoded.pts

    def _submit_listed(self, packet: av.Packet) -> None:
        if packet.dts is not None:  # counts chunks, of which those for dropped frames are empty
            self.count = max(self.count, packet.dts + 1)
        rank = self._rank.get(-1 if packet.pos is None else packet.pos)
        if rank is None:
            self._unlisted = True
        else:
            self._untimed += max(0, rank - self._next)
            self._damaged = self._damaged or rank > self._next
            self._next = rank + 1

    def fail(self, packet: av.Packet) -> None:
        """Notes that a packet, the last one submitted, did not decode."""
        if self._began and packet.size:
            self._damaged = True
            time = self.time_of(packet)
            if time is None:
                self._untimed += 1
            else:
                self._failed.add(time)

    def lost_before(self, frame: av.VideoFrame) -> int:
        """How many frames were lost since the last frame and before this one."""
        undecoded, pts = [], self.time_of(frame)
        if self._codec == "h264" and frame.interlaced_frame:
            self._each_shows = False  # the two fields of a frame may be two packets
        while pts is not None and self._waiting and self._waiting[0] <= pts:
            undecoded.append(heapq.heappop(self._waiting))
        lost = self._lost([time for time in undecoded if time != pts])
        self._shown = True
        return lost

    def lost_at_end(self) -> int:
        """How many frames were lost after the last frame."""
        return self._lost(self._waiting)

    def _lost(self, undecoded: list[int]) -> int:
        untimed, self._untimed = self._untimed, 0
        if not self._damaged and not (self._each_shows and self._shown):
            self._hidden = self._hidden or bool(undecoded)
            return untimed
        # A decoder may report an error late, or leave out what depends on a lost frame without an error.
        lost = self._failed.intersection(undecoded) if self._hidden and not self._each_shows else undecoded
        return untimed + len(lost)

    def are_listed(self) -> bool:
        """Whether the container lists its packets, so that it is known which ones are gone."""
        return self._mp4 or (self._avi and not self._unlisted)

    def are_fewer(self, declared: int) -> bool:
        """Whether packets are missing, where the container declares this many of them."""
        # Chunks for dropped frames may be the last.
        whole = self._whole and not self._unlisted and self._next == len(self._rank)
        return self.count < declared and not whole


def _riff_is_whole(path: Path) -> bool:
    """Whether a file of the RIFF family has the size that it declares."""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8)[4:], "little")
        return file.seek(0, os.SEEK_END) >= size + 8
