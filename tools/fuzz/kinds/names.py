"""Names of tracklets, frames, inputs and outputs that file systems, terminals and programs take for something else."""

import os
import random
from pathlib import Path

from PIL import Image

from tools.fuzz import checking, mutation
from tools.fuzz.good import Good, figure
from tools.fuzz.tries import Try, command


def names(rng: random.Random, folder: Path, good: Good) -> Try:
    """Good crops, or a good video, in which one thing has a hostile name."""
    what = rng.choice(("tracklet", "tracklet", "frame", "frame", "input", "output", "video", "both", "deep"))
    people, frames, given, output = ["a", "b"], ["0000", "0001"], "in", "o"
    odd = mutation.name(rng)
    match what:
        case "tracklet":
            people[0] = odd
        case "frame":
            frames[rng.randrange(2)] = odd if len(os.fsencode(odd)) < 240 else odd[:100]
        case "both":
            people, frames = [odd, mutation.name(rng)], [odd[:50], mutation.name(rng)[:50]]
        case "input":
            given = odd
        case "output":
            output = odd
        case "deep":
            people[0] = "/".join([odd[:100]] * rng.choice((2, 3, 8)))
        case "video":
            return _video(rng, folder, good, odd)
    expected = {}
    for person in people:
        for index, frame in enumerate(frames):
            path = folder / given / person / f"{frame}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            expected[f"{person}/{frame}"] = picture = figure(index)
            with open(path, "wb") as file:
                Image.fromarray(picture).save(file, "PNG")
    read = checking.as_read(folder / given, folder.parent / "tmp/spool")
    flags = ["--output=" + output, "--model", str(good.model_file)]
    if rng.random() < 0.1 and what in ("tracklet", "frame"):
        return command("rank", "in", f"--query={rng.choice((odd, *people))}", *flags[1:])
    return command("complete", given if given[0] != "-" else f"./{given}", *flags, outputs=(output,),
                   check=checking.completed(folder / output, read))


def _video(rng: random.Random, folder: Path, good: Good, odd: str) -> Try:
    suffix = rng.choice((".mp4", "", ".txt"))
    name, boxes = f"{odd[:100]}{suffix}", rng.choice(("b.txt", f"b{odd[:100]}"))
    (folder / name).write_bytes(good.videos["v.mp4"])
    (folder / boxes).write_text("\n".join(good.boxes()))
    return command("complete", name if name[0] != "-" else f"./{name}", f"--boxes={boxes}", "--output", "o", "--model",
                   good.model_file, outputs=("o",),
                   check=checking.completed(folder / "o", checking.as_read(
                       folder / name, folder.parent / "tmp/spool", boxes=folder / boxes)))
