"""Opens video files: only the containers and codecs listed here, and only from this machine's file systems.

FFmpeg also opens playlists and lists of other files, fetches what they name, and draws text files as ANSI art. Of a
file that somebody else made, none of this is wanted.
"""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.error import ArgumentError

from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.storage import describe_error

CONTAINERS = ("asf", "av1", "avi", "dhav", "dv", "flv", "gif", "h264", "hevc", "ivf", "m4v", "matroska", "mjpeg",
              "mov", "mpeg", "mpegts", "mpegvideo", "mxf", "nut", "obu", "ogg", "vc1", "yuv4mpegpipe")
"""FFmpeg's names of the containers that are read; 'mov' is MP4 too, 'matroska' WebM, 'mpegvideo' raw MPEG-1 and 2."""

_VIDEO_CODECS = (
    "av1", "libdav1d", "cfhd", "cinepak", "dnxhd", "dvvideo", "ffv1", "ffvhuff", "flashsv", "flashsv2", "flv", "gif",
    "h261", "h263", "h263i", "h263p", "h264", "hevc", "huffyuv", "indeo3", "indeo5", "jpeg2000", "lagarith", "libvpx",
    "libvpx-vp9", "magicyuv", "mjpeg", "mjpegb", "mpeg1video", "mpeg2video", "mpeg4", "mpegvideo", "msmpeg4",
    "msmpeg4v1", "msmpeg4v2", "msrle", "msvideo1", "png", "prores", "qtrle", "rawvideo", "snow", "svq1", "svq3",
    "theora", "tscc", "tscc2", "camtasia", "utvideo", "v210", "v410", "vc1", "vp3", "vp6", "vp6a", "vp6f", "vp7", "vp8",
    "vp9", "vvc", "wmv1", "wmv2", "wmv3", "yuv4", "zmbv")
_SOUND_CODECS = ("aac", "ac3", "alac", "amrnb", "amrwb", "eac3", "flac", "libopus", "libvorbis", "mp1", "mp1float",
                 "mp2", "mp2float", "mp3", "mp3float", "opus", "vorbis", "wmav1", "wmav2", "wmapro",
                 "adpcm_ima_wav", "adpcm_ms", "pcm_alaw", "pcm_f32le", "pcm_mulaw", "pcm_s16be", "pcm_s16le",
                 "pcm_s24le", "pcm_s32le", "pcm_u8")
# PyAV 18 refuses files with metadata in another encoding than UTF-8 unless it is asked not to; later ones never do.
_METADATA: dict[str, Any] = {"metadata_errors": "replace"} if av.__version__.startswith("18.") else {}
_LARGEST_PICTURE = 2**26  # pixels; a damaged header may declare pictures that no memory holds
_LATEST_START = 1  # second; a later start is the time of a clock, as in broadcasts and live recordings


def open_container(path: Path) -> InputContainer:
    """Opens a video file with at least one video stream of a listed codec.

    Raises:
      InputError: no such file; not a video, or of a container or codec that is not listed.
    """
    if not path.is_file():
        what = "a folder, not a video" if path.is_dir() else "no such file"
        raise InputError(f"{path}: {what}; give a video file.")
    try:
        # The absolute path: FFmpeg would take what precedes a colon for a protocol.
        container = av.open(str(path.resolve()), **_METADATA, options={
            "protocol_whitelist": "file", "format_whitelist": ",".join(CONTAINERS),
            "codec_whitelist": ",".join(_VIDEO_CODECS + _SOUND_CODECS)})
    except Exception as error:  # FFmpeg's errors are of many classes, some of them only FFmpegError
        raise undecodable(path, error) from None
    try:
        if not container.streams.video:
            raise InputError(f"{path}: holds no video stream; give a video file.")
        # None: FFmpeg has no decoder for the stream's codec.
        context = container.streams.video[0].codec_context
        if context is None or context.name not in _VIDEO_CODECS:
            codec = f"the codec {context.name}" if context else "an unknown codec"
            raise InputError(f"{path}: its pictures are in {codec}, which is not read here; convert it to H.264.")
        context.options = {"max_pixels": str(_LARGEST_PICTURE)}
    except BaseException:
        container.close()
        raise
    return container


def origin(container: InputContainer) -> Fraction:
    """What to subtract from times in a container, in seconds: its start, where that is the time of a clock."""
    start = Fraction(container.start_time or 0, av.time_base)
    return start if start < 0 or start > _LATEST_START else Fraction(0)


def undecodable(path: Path, error: Exception | None) -> InputError:
    """The error for a file that is not a video, or of which nothing decodes."""
    if isinstance(error, ArgumentError):  # the container is not listed
        return InputError(f"{path}: is no kind of video that is read here; give MP4, MOV, MKV, WebM, AVI, MPEG or FLV.")
    reason = describe_error(error) if error else "no frame could be read"
    return InputError(f"{path}: does not decode as a video ({reason}); give another file.")
