"""Folders of crops of odd shapes, and paths of a command that do not go together."""

import os
import random
import re
from pathlib import Path

from PIL import Image

from tools.fuzz import checking, mutation
from tools.fuzz.good import Good, figure
from tools.fuzz.tries import Try, command

_PATTERNS = ("frame", "tracklet/frame", "person/frame", "person/tracklet/frame", "person/camera/tracklet/frame",
             "camera/person/frame", "", "/", "x", "frame/frame", "frame/person", "person/person/frame", "../frame",
             "person//frame", "*/frame", "Frame", "frame\n", "person/frame/")
_STEMS = ("0001C1T0001F001", "0001C1T0001F002", "0001C2T0002F001", "00-1C1T0001F001", "0002_c1s1_000451_03",
          "0002_c2s1_000451_03", "-1_c1s1_000451_03", "0002_c1_f0044158", "ann_001", "ann_002", "bob_001", "bob_002",
          "1", "2", "10", "01", "²", "٣", "IMG_20240101_120000", "IMG_20240101_120001", "a.b", "a")


def trees(rng: random.Random, folder: Path, good: Good) -> Try:
    """A tree of crops of any depth, with odd names, links, empty folders and other files."""
    top = folder / "in"
    top.mkdir()
    depths = [rng.randrange(4)] * 4 if rng.random() < 0.7 else [rng.randrange(6) for _ in range(4)]
    known = {}
    for branch, depth in enumerate(depths[:rng.randint(0, 4)]):
        levels = [rng.choice((f"{branch}{level}", f"p{branch}", mutation.name(rng)[:40])) for level in range(depth)]
        for _ in range(rng.randint(1, 3)):
            path = top.joinpath(*levels, f"{rng.choice((*_STEMS, mutation.name(rng)[:40]))}.png")
            if len(os.fsencode(path)) < 1000 and all(not parent.is_file() for parent in path.parents):
                path.parent.mkdir(parents=True, exist_ok=True)
                if not path.exists():
                    known[path] = picture = figure(len(known), rng.choice((40, 40, 31)), 20)
                    _save(path, picture)
    places = [path for path in top.rglob("*") if path.is_dir()] or [top]
    for _ in range(rng.choice((0, 0, 1, 2))):
        _clutter(rng, rng.choice(places), top)
    flags = ["--pattern", rng.choice(_PATTERNS)] if rng.random() < 0.4 else []
    read = checking.as_read(top, folder.parent / "tmp/spool", **({"pattern": flags[1]} if flags else {}))
    return command("complete", "in", "--output", "o", "--model", good.model_file, *flags, outputs=("o",),
                   check=checking.completed(folder / "o", read))


def _save(path: Path, picture: object) -> None:
    with open(path, "wb") as file:
        Image.fromarray(picture).save(file, "PNG")  # pyright: ignore[reportArgumentType]


def _clutter(rng: random.Random, place: Path, top: Path) -> None:
    """Something else in a folder of crops."""
    path = place / rng.choice(("x", ".hidden", "Thumbs.db", "z.png", ".z.png", "y.jpg", mutation.name(rng)[:30]))
    if os.path.lexists(path):
        return
    match rng.choice(("text", "link", "up", "folder", "pipe", "broken", "many", "closed")):
        case "text":
            path.write_text("x")
        case "link":
            path.symlink_to(rng.choice(list(top.rglob("*")) or [top]))
        case "up":
            path.symlink_to(rng.choice((".", "..", top, "../..", "../../..")))
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "broken":
            path.symlink_to("nowhere")
        case "many":
            for loop in (place / f"loop{index}" for index in range(3)):
                if not os.path.lexists(loop):
                    loop.symlink_to(".")
        case "closed":
            path.mkdir(mode=0)


def paths(rng: random.Random, folder: Path, good: Good) -> Try:
    """Paths of a command that are the same, inside each other, missing, links, devices, or no paths."""
    expected = good.crops(folder / "in")
    (folder / "v.mp4").write_bytes(good.videos["v.mp4"])
    (folder / "b.txt").write_text("\n".join(good.boxes()))
    (folder / "link").symlink_to("in")
    (folder / "loop").symlink_to("loop")
    (folder / "full").mkdir()
    (folder / "full/x").write_text("x")
    options = ("in", "in/a", "in/new", "v.mp4", "b.txt", "o", "o/x", "link", "link/new", "loop", "loop/x", "full",
               "full/x", "full/new", "/dev/null", "/dev/full", "/proc/self/x", "/nowhere/x/y", "v.mp4/x", ".", "..", "",
               "in/../in", "~", "none", "m.safetensors", "gs://x/y", "s3://x", "http://x/y.mp4", "file:in", "-",
               "x\x00y", "x\ny", "a" * 300, "b/" * 2500, "in/a/0000.png", "./o", "o/", mutation.name(rng),
               str(good.model_file))

    def pick(usual: str) -> str:
        return usual if rng.random() < 0.6 else rng.choice(options)

    output = pick("o")
    flags = [f"--output={output}", f"--model={pick(str(good.model_file))}"]
    if rng.random() < 0.4:
        given = [pick("v.mp4"), f"--boxes={pick('b.txt')}"]
        if rng.random() < 0.4:
            flags.append(f"--render={pick('r.mp4')}")
    else:
        given = [pick("in")]
    flags += [f"--{flag}={pick(usual)}" for flag, usual in (("masks", "none"), ("dataset", "d")) if rng.random() < 0.15]
    if given[0].startswith("-"):
        given.insert(0, "--")
    written = [word.partition("=")[2] for word in flags if word.startswith(("--output", "--render", "--dataset"))]
    allowed = tuple(path for path in written if path and not Path(path).is_absolute() and "\0" not in path)
    allowed = tuple(re.sub("^link/", "in/", path) for path in allowed)  # where the link leads
    plain = given == ["in"] and output == "o"
    return command("complete", *given, *flags, outputs=allowed,
                   check=checking.completed(folder / "o", expected) if plain else None)
