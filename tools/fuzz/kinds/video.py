"""Videos that are damaged, cut, or something else, and rendered videos."""

import random
from pathlib import Path

import av

from tools.fuzz import checking, mutation
from tools.fuzz.good import TRACKS, VIDEOS, Good
from tools.fuzz.tries import Try, command

_OTHERS = (b"", b"\x00" * 5000, b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", b"ffconcat version 1.0\nfile v.mp4\n",
           b"[Script Info]\nTitle: x\n", b"GIF89a\x01\x00\x01\x00", b"RIFF\x00\x00\x00\x00AVI LIST", b"\x1aE\xdf\xa3",
           b"\x00\x00\x00\x18ftypmp42", b"FLV\x01\x05", b"\x89PNG\r\n\x1a\n", b"OggS",
           b"YUV4MPEG2 W64 H48 F10:1\nFRAME\n",
           b"<?xml version='1.0'?><MPD/>", b"v=0\no=- 0 0 IN IP4 127.0.0.1\n", b"\x00\x00\x01\xb3", b"TG\x00" * 400,
           b"DKIF\x00\x00\x20\x00VP80", b"\x1b[31mANSI", b"YUV4MPEG2 W999999 H999999 F10:1\nFRAME\n")


def video(rng: random.Random, folder: Path, good: Good) -> Try:
    """A video with good boxes; bytes of it are damaged, it has another suffix, or it is something else."""
    name = rng.choice(sorted(VIDEOS))
    data, given, whole = good.videos[name], name, False
    match rng.choice(("good", "bytes", "bytes", "bytes", "bytes", "cut", "suffix", "other", "joined", "many",
                      "header")):
        case "good":
            whole = True
        case "bytes":
            data = mutation.damaged(rng, data)
        case "many":
            data = mutation.damaged(rng, data, most=40)
        case "header":
            at = rng.randrange(min(len(data), 1500))
            data = data[:at] + rng.randbytes(rng.choice((1, 2, 4, 8))) + data[at + 4:]
        case "cut":
            data = data[rng.choice((0, 0, 0, rng.randrange(len(data)))):rng.randrange(len(data))]
        case "suffix":
            given = "v" + rng.choice((".mp4", ".avi", ".txt", ".m3u8", ".png", "", ".jpg", ".yuv", ".ass", ".h264"))
        case "other":
            data = rng.choice((*_OTHERS, rng.randbytes(3000)))
        case "joined":
            data += rng.choice((data, good.videos[rng.choice(sorted(VIDEOS))], b"\x00" * 999))
    (folder / given).write_bytes(data)
    (folder / "b.txt").write_text("\n".join(good.boxes()))
    expected = {f"{track}/{index + 1:06d}": frame[top:top + height, left:left + width]
                for track, (left, top, width, height) in TRACKS.items()
                for index, frame in enumerate(good.decoded[name])}
    read = checking.as_read(folder / given, folder.parent / "tmp/spool", boxes=folder / "b.txt")
    return command("complete", given, "--boxes", "b.txt", "--output", "o", "--model", good.model_file, outputs=("o",),
                   check=checking.completed(folder / "o", expected) if whole else
                   checking.completed(folder / "o", read, contents=False))


def render(rng: random.Random, folder: Path, good: Good) -> Try:
    """A rendered video whose name, layout or input is odd; or the tracklets as a data set in an odd place."""
    name = rng.choice(sorted(VIDEOS))
    data = good.videos[name]
    if rng.random() < 0.3:
        data = mutation.damaged(rng, data)
    (folder / name).write_bytes(data)
    (folder / "b.txt").write_text("\n".join(good.boxes()))
    target = rng.choice(("r.mp4", "r.mp4", "r.mkv", "r.avi", "r.mov", "r.webm", "r.gif", "r.m3u8", "r.mpd", "r",
                         "r.txt", "r.png", "r%d.mp4", "r%03d.png", "-r.mp4", "r.wav", "sub/r.mp4", "o/r.mp4", "r.MP4",
                         "r.ts", "b.txt", name, "r.flv", "r.h264", f"{mutation.name(rng)[:60]}.mp4"))
    flags = [f"--render={target}"]
    if rng.random() < 0.3:
        flags += ["--layout", rng.choice(("both", "completed", "completed", "x", ""))]

    def count() -> str | None:
        with av.open(str(folder / target)) as container:
            found = sum(1 for _ in container.decode(container.streams.video[0]))
        frames = len(good.decoded[name])
        return None if found == frames or data != good.videos[name] else f"{found} frames rendered, not {frames}"

    return command("complete", name, "--boxes", "b.txt", "--output", "o", "--model", good.model_file, *flags,
                   outputs=("o", *((target.split("/")[0],) if target not in ("b.txt", name) else ())), check=count)
