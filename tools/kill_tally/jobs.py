"""The commands that are killed, what each leaves, and how far one had come."""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from tools.kill_tally.server import Child, Commands
from vrstc_jax.data.images import write_png
from vrstc_jax.data.walkers import WalkerConfig, make_tracklets, people
from vrstc_jax.runtime.errors import InputError

_FRAMES, _SIZE = 8, (40, 20)
_RESULTS = (".png", ".safetensors", ".mp4", ".array_record-00000-of-00001")  # of which each run leaves the same bytes

Left = dict[str, str | None]
"""{path: digest} of what a command leaves to its user; None for a file that differs from run to run."""


@dataclass(frozen=True)
class Job:
    """A command of `vrstc`, with its outputs in the directory in which it runs.

    Attributes:
      name: in the tally.
      words: of the command.
      internal: beginnings of the paths that are for going on alone.
      phases: (pattern of a path, what the command does once it exists), in the order in which they come to be.
    """

    name: str
    words: tuple[str, ...]
    internal: tuple[str, ...]
    phases: tuple[tuple[str, str], ...]

    def phase(self, directory: Path) -> str:
        """What the command did when it ended or was killed."""
        found = "before its first file"
        for pattern, phase in self.phases:
            if any(directory.glob(pattern)):
                found = phase
        return found

    def left(self, directory: Path) -> Left:
        """What the command left to its user; hidden files too, which it should not leave."""
        return {name: hashlib.sha256((directory / name).read_bytes()).hexdigest()
                for name in files(directory) if not name.startswith(("log", *self.internal))}


@dataclass(frozen=True)
class Whole:
    """What undisturbed runs of a job did.

    Attributes:
      left: to the user.
      seconds: of a run.
      files: how many files, those that are renamed later too, it was seen to write.
    """

    left: Left
    seconds: float
    files: int

    def problems(self, left: Left, *, partly: bool = False) -> list[str]:
        """How what is there differs from what should be there.

        Args:
          partly: whether files may still be missing.
        """
        found = [f"{name} is another" for name, digest in self.left.items()
                 if digest is not None and left.get(name, digest) != digest]
        if not partly:
            found += [f"{name} is missing" for name in self.left.keys() - left.keys()]
            found += [f"{name} is left over" for name in left.keys() - self.left.keys()]
        return sorted(found)


def files(directory: Path) -> Iterator[str]:
    """The relative paths of all files in a directory; those that vanish meanwhile are left out."""
    for folder, _, names in os.walk(directory):
        for name in names:
            yield os.path.relpath(os.path.join(folder, name), directory)


def whole(job: Job, commands: Commands, work: Path) -> Whole:
    """Runs a job undisturbed in two new directories; what it leaves is kept in a file for the next time.

    Raises:
      InputError: a run failed, or the two left different results.
    """
    kept = work / f"{job.name}.json"
    if kept.exists():
        return Whole(**json.loads(kept.read_text()))
    runs = []
    for again in range(2):
        directory, began = work / f"{job.name}{again}", time.monotonic()
        child, seen = commands.start(job.words, directory), set()
        while child.code() is None:
            seen |= set(files(directory))
            time.sleep(0.01)
        if child.wait():
            raise InputError(f"{directory}: a run that nothing disturbed ended with {child.wait()}; see its log.")
        # Of the second run: as those to be killed, it finds the programs that the first one compiled.
        runs.append((job.left(directory), time.monotonic() - began, len(seen)))
    (first, *_), (second, seconds, count) = runs
    differing = [name for name in first.keys() | second.keys() if first.get(name) != second.get(name)]
    if first.keys() != second.keys() or any(name.endswith(_RESULTS) or "/scores/" in name for name in differing):
        raise InputError(f"{work}: two undisturbed runs of {job.name} left different results ({differing[0]}); there "
                         "is nothing to compare with.")
    found = Whole({name: None if name in differing else digest for name, digest in second.items()}, seconds, count)
    kept.write_text(json.dumps(vars(found), indent=1))
    return found


def jobs(work: Path) -> dict[str, Job]:
    """{name: job}, on walkers that are written to WORK/frames, and a video of them."""
    frames, video, boxes = work / "frames", work / "clip.mkv", work / "boxes.txt"
    if not boxes.exists():
        _write_inputs(frames, video, boxes)
    training = (("*work/tracklets.unfinished", "storing frames"), ("*work/reid", "training the re-ID network"),
                ("*work/scores.npz", "located"), ("*work/stcnet", "training STCnet"))
    completing = ("run.json", "claimed"), ("work/spool", "cutting out crops"), ("masks", "completing"), (
        "report.html", "reported")
    return {job.name: job for job in (
        Job("complete", ("complete", str(frames), "--output", "done", "--dataset", "set"), ("done/work/",),
            (*((f"done/{file}", phase) for file, phase in completing), ("set.unfinished", "writing the data set"),
             ("set", "data set written"))),
        Job("video", ("complete", str(video), "--boxes", str(boxes), "--output", "done", "--render", "done.mp4"),
            ("done/work/",), (*((f"done/{file}", phase) for file, phase in completing),
                              (".done.partial.mp4", "rendering"), ("done.mp4", "rendered"))),
        Job("fit", ("fit", str(frames), "--size", "smoke", "--steps", "4", "--reid-steps", "4", "--output",
                    "model.safetensors"), ("model.safetensors.work/",), (
                        *training, ("model.safetensors", "model written"))),
        Job("demo", ("demo", "--size", "smoke", "--output", "demo"), ("demo/work/", "demo/completed/work/"), (
            ("demo/first.png", "first picture"), *((f"demo/{file}", phase) for file, phase in training),
            ("demo/model.safetensors", "judging"), ("demo/completed/masks", "completing"),
            ("demo/ranked.png", "ranked"), ("demo/report.html", "reported"))))}


def _write_inputs(frames: Path, video: Path, boxes: Path) -> None:
    height, width = _SIZE
    look = WalkerConfig(height=height, width=width, frames=_FRAMES)
    walkers = make_tracklets(people("test", 2), cameras=2, config=look)
    for tracklet in walkers:
        for name, frame in zip(tracklet.frame_names, tracklet.frames):
            write_png(frames / tracklet.name / f"{name}.png", frame)
    rows = []
    with av.open(str(video), "w") as output:
        stream = output.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = height + 8, len(walkers) * (width + 4), "bgr0"
        for number in range(_FRAMES):
            picture = np.full((stream.height, stream.width, 3), 128, np.uint8)
            for track, tracklet in enumerate(walkers):
                left = track * (width + 4)
                picture[4:4 + height, left:left + width] = tracklet.frames[number]
                rows.append(f"{number + 1},{track + 1},{left},4,{width},{height}\n")
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="bgr0")))
        output.mux(stream.encode(None))
    boxes.write_text("".join(rows))  # last: it marks the inputs as whole


def wait_for(child: Child, directory: Path, *, seconds: float, count: int | None) -> bool:
    """Waits until a command has run for so many seconds, or if `count` is given, until it wrote that many files.

    Returns:
      Whether it came to that before its end.
    """
    began, seen = time.monotonic(), set()
    while child.code() is None:
        if count is None and time.monotonic() - began >= seconds:
            return True
        if count is not None:
            seen |= set(files(directory))
            if len(seen) >= count:
                return True
        time.sleep(0.002)
    return False
