"""Boxes of people in a video, and folders of a video's pictures."""

import random
from pathlib import Path

from PIL import Image

from tools.fuzz import checking, mutation
from tools.fuzz.good import FRAMES, HEIGHT, TRACKS, WIDTH, Good, figure
from tools.fuzz.tries import Try, command

_SEPARATORS = (",", ",", ",", " ", ", ", "\t", ";", ",,", " ,")
_SEQINFO = {"name": "seq", "imDir": "img1", "frameRate": "10", "seqLength": str(FRAMES), "imWidth": str(WIDTH),
            "imHeight": str(HEIGHT), "imExt": ".png"}


def boxes(rng: random.Random, folder: Path, good: Good) -> Try:
    """A good video with boxes in which numbers, columns, ids, encodings or lines are wrong."""
    name = rng.choice(("v.mp4", "v.avi", "f.mkv", "v.gif"))
    (folder / name).write_bytes(good.videos[name])
    first = rng.choice((1, 1, 1, 0, 5))
    lines = good.boxes(first)
    whole = rng.random() < 0.1
    data = "\n".join(lines).encode() if whole else _damaged(rng, lines)
    (folder / "b.txt").write_bytes(data)
    flags = ["--first-frame", first] if first != 1 and rng.random() < 0.9 else []
    expected = {f"{track}/{index + 1:06d}": frame[top:top + height, left:left + width]
                for track, (left, top, width, height) in TRACKS.items()
                for index, frame in enumerate(good.decoded[name])}
    read = checking.as_read(folder / name, folder.parent / "tmp/spool", boxes=folder / "b.txt",
                            first_frame=first if flags else 1)
    return command("complete", name, "--boxes", "b.txt", *flags, "--output", "o", "--model", good.model_file,
                   outputs=("o",), check=checking.completed(folder / "o", expected if whole and (flags or first == 1)
                                                            else read))


def _damaged(rng: random.Random, lines: list[str]) -> bytes:
    rows = [line.split(",") for line in lines]
    match rng.choice(("number", "number", "columns", "corners", "fractions", "shuffle", "ids", "flags", "lines",
                      "scale", "column")):
        case "number":
            for _ in range(rng.choice((1, 1, 1, 3))):
                rng.choice(rows)[rng.randrange(10)] = mutation.number(rng)
        case "columns":
            count = rng.randrange(14)
            some = rows if rng.random() < 0.5 else rng.sample(rows, 2)
            for row in some:
                row[:] = (row + ["1"] * 10)[:count]
        case "corners":
            for row in rows:
                row[4], row[5] = str(int(row[2]) + int(row[4])), str(int(row[3]) + int(row[5]))
        case "fractions":
            for row in rows:
                row[2:6] = [str(int(text) / size) for text, size in zip(row[2:6], (WIDTH, HEIGHT) * 2)]
        case "shuffle":
            order = rng.sample(range(10), 10)
            rows = [[row[i] for i in order] for row in rows]
        case "ids":
            ids = rng.choice((("0", "1"), (str(2**64 - 1), str(2**64)), (str(2**63), "1"), ("-1", "-1"), ("1", "1"),
                              ("1.0", "2.0"), ("001", "1"), ("1e3", "2"), ("1", "1" + "0" * 18)))
            for row in rows:
                row[1] = ids[int(row[1]) - 1]
        case "flags":
            for row in rows:
                row[6:] = rng.choice((["1", "1", "1"], ["0", "1", "1"], ["1", "7", "0.5"], ["1", "99", "1"], ["0"],
                                      ["1", "-1", "-1", "-1"], ["2", "x"], ["1", "1.5", "1"]))
        case "scale":
            factor = rng.choice((1e-9, 0.01, 10, 1e5, 1e18, 1e300, -1))
            for row in rows:
                row[2:6] = [repr(float(text) * factor) for text in row[2:6]]
        case "column":
            at, value = rng.randrange(10), mutation.number(rng)
            for row in rows:
                row[at] = value
    separator = rng.choice(_SEPARATORS)
    texts = [separator.join(row) for row in rows]
    return mutation.damaged_text(rng, texts) if rng.random() < 0.4 else "\n".join(texts).encode("utf-8", "replace")


def sequences(rng: random.Random, folder: Path, good: Good) -> Try:
    """A folder of a video's pictures, as MOTChallenge has them, with something wrong."""
    pictures = folder / "seq/img1"
    pictures.mkdir(parents=True)
    for index in range(FRAMES):
        Image.fromarray(figure(index, HEIGHT, WIDTH)).save(pictures / f"{index + 1:06d}.png")
    values, given = dict(_SEQINFO), "seq/img1" if rng.random() < 0.6 else "seq"
    kind = rng.choice(("good", "value", "value", "text", "picture", "names", "size", "gap", "no info", "folder"))
    chosen = rng.choice(sorted(pictures.iterdir()))
    match kind:
        case "value":
            values[rng.choice(sorted(values))] = rng.choice((mutation.number(rng), mutation.text(rng)))
        case "picture":
            chosen.write_bytes(mutation.damaged(rng, chosen.read_bytes()))
        case "names":
            target = pictures / (mutation.name(rng)[:100] + ".png")
            if len(bytes(target)) < 250:
                chosen.rename(target)
        case "size":
            Image.fromarray(figure(0, rng.randint(1, 99), rng.randint(1, 99))).save(chosen)
        case "gap":
            chosen.unlink()
        case "folder":
            mutation.replace(rng, rng.choice((chosen, pictures)))
    text = "[Sequence]\n" + "".join(f"{key}={value}\n" for key, value in values.items())
    data = text.encode("utf-8", "surrogatepass")
    if kind == "text":
        data = mutation.damaged_text(rng, text.splitlines())
    if kind != "no info":
        (folder / "seq/seqinfo.ini").write_bytes(data)
    (folder / "b.txt").write_text("\n".join(good.boxes()))
    read = checking.as_read(folder / given, folder.parent / "tmp/spool", boxes=folder / "b.txt")
    return command("complete", given, "--boxes", "b.txt", "--output", "o", "--model", good.model_file, outputs=("o",),
                   check=checking.completed(folder / "o", read))
