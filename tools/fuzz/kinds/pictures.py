"""Folders of crops in which a picture is damaged or of an odd form, and folders of masks."""

import io
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tools.fuzz import checking, mutation
from tools.fuzz.good import Good, figure
from tools.fuzz.tries import Try, command

_FORMATS = {"png": "PNG", "jpg": "JPEG", "bmp": "BMP", "tif": "TIFF", "webp": "WEBP", "ppm": "PPM"}
_MODES = {"png": ("RGB", "RGBA", "L", "LA", "P", "1", "I;16"), "jpg": ("RGB", "L", "CMYK", "YCbCr"),
          "bmp": ("RGB", "L", "1", "P", "RGBA"), "tif": ("RGB", "RGBA", "L", "CMYK", "F", "I;16", "1", "LAB", "YCbCr"),
          "webp": ("RGB", "RGBA"), "ppm": ("RGB", "L", "1")}


def encoded(rng: random.Random, picture: np.ndarray, suffix: str) -> tuple[bytes, np.ndarray]:
    """A picture file of an odd mode, and the picture as Pillow reads it: uint8 [H, W, 3], upright."""
    mode, image, buffer, options = rng.choice(_MODES[suffix]), Image.fromarray(picture), io.BytesIO(), {}
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    elif mode == "LAB":
        from PIL import ImageCms

        image = ImageCms.profileToProfile(image, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"),
                                          outputMode="LAB") or image
    else:
        image = image.convert(mode)
    exif = Image.Exif()
    if suffix == "jpg" and rng.random() < 0.5:
        exif[0x0112] = rng.choice((1, 2, 3, 4, 5, 6, 7, 8, 0, 9, 65535))
        options = {"exif": exif}
    image.save(buffer, _FORMATS[suffix], **options)
    data = buffer.getvalue()
    with Image.open(io.BytesIO(data)) as again:
        if again.mode.startswith("I"):
            upper = (np.asarray(again).astype(int) >> 8).astype(np.uint8)
            return data, np.dstack([upper] * 3)
        plain = again.convert("RGBA").convert("RGB") if "transparency" in again.info else again.convert("RGB")
        array = np.array(plain)
    return data, _turned(array, exif.get(0x0112, 1))


def _turned(array: np.ndarray, orientation: int) -> np.ndarray:
    """A picture upright, by the EXIF orientations 1 to 8."""
    turns: dict[int, Any] = {2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
                             5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, -1),
                             7: lambda a: a[::-1, ::-1].swapaxes(0, 1), 8: lambda a: np.rot90(a)}
    return turns.get(orientation, lambda a: a)(array)


def _bomb(rng: random.Random) -> bytes:
    """A PNG whose header declares an odd size."""
    width, height = (rng.choice((0, 1, 2**16, 2**31 - 1, 2**32 - 1, 30_000)) for _ in range(2))
    head = struct.pack(">IIBBBBB", width, height, rng.choice((1, 8, 16, 3)), rng.choice((0, 2, 3, 6, 7)), 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(struct.pack(">I", len(body)) + kind + body
                                            + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks)


def pictures(rng: random.Random, folder: Path, good: Good) -> Try:
    """Two folders of crops; one picture is damaged, of an odd mode, or of an odd size."""
    expected = good.crops(folder / "in")
    chosen = rng.choice(sorted(expected))
    suffix, path, unknown = rng.choice(sorted(_FORMATS)), folder / f"in/{chosen}.png", frozenset()
    read: Callable[[], checking.Pictures] | None = None
    match rng.choice(("good", "mode", "mode", "bytes", "bytes", "size", "bomb", "suffix", "other", "replaced",
                      "twice")):
        case "mode":
            data, expected[chosen] = encoded(rng, expected[chosen], suffix)
            path.unlink()
            path.with_suffix(f".{suffix}").write_bytes(data)
        case "bytes":
            data, _ = encoded(rng, expected[chosen], suffix)
            path.unlink()
            path.with_suffix(f".{suffix}").write_bytes(mutation.damaged(rng, data))
            unknown = frozenset([chosen])
        case "size":
            expected[chosen] = figure(0, rng.choice((1, 2, 3, 40, 300)), rng.choice((1, 2, 20, 150)))
            Image.fromarray(expected[chosen]).save(path)
        case "bomb":
            path.write_bytes(_bomb(rng))
            read = checking.as_read(folder / "in", folder.parent / "tmp/spool")
        case "suffix":
            data, expected[chosen] = encoded(rng, expected[chosen], suffix)
            path.write_bytes(data)
        case "other":
            path.write_bytes(rng.choice((b"", b"GIF89a", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"BM",
                                         b"\xff\xd8\xff\xd9", b"II*\x00", b"RIFF\x00\x00\x00\x00WEBP", b"P6 9 9 255\n",
                                         b"P6 99999999 99999999 255\n", rng.randbytes(2000), b"<svg/>")))
            unknown = frozenset([chosen])
        case "replaced":
            mutation.replace(rng, path)
            read = checking.as_read(folder / "in", folder.parent / "tmp/spool")
        case "twice":
            Image.fromarray(expected[chosen]).save(path.with_suffix(rng.choice((".bmp", ".jpg", ".PNG", ".tiff"))))
    check = checking.completed(folder / "o", _reread(folder, expected, unknown) if read is None else read)
    return command("complete", "in", "--output", "o", "--model", good.model_file, outputs=("o",), check=check)


def _reread(folder: Path, expected: checking.Pictures, names: frozenset[str]) -> Callable[[], checking.Pictures]:
    """The expected frames, of which those of some names are as the package reads them."""
    if not names:
        return lambda: expected
    read = checking.as_read(folder / "in", folder.parent / "tmp/spool")
    return lambda: expected | {name: frame for name, frame in read().items() if name in names}


def masks(rng: random.Random, folder: Path, good: Good) -> Try:
    """Crops with masks, of which one is damaged, of an odd mode, size or name, or missing."""
    expected = good.crops(folder / "in")
    given = {}
    for index, name in enumerate(sorted(expected)):
        given[name] = mask = np.zeros(expected[name].shape[:2], bool)
        mask[rng.randrange(40):, :] = index % 2
        (folder / "m" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(folder / f"m/{name}.png")
    chosen, known = rng.choice(sorted(expected)), False
    path, grey = folder / f"m/{chosen}.png", given[chosen].astype(np.uint8) * 255
    match rng.choice(("good", "mode", "mode", "bytes", "alpha", "alpha", "size", "values", "values", "missing", "more",
                      "replaced", "all", "bomb")):
        case "good":
            known = True
        case "mode":
            suffix = rng.choice(sorted(_FORMATS))
            data, _ = encoded(rng, np.dstack([grey] * 3), suffix)
            path.unlink()
            path.with_suffix(f".{suffix}").write_bytes(data)
        case "bytes":
            path.write_bytes(mutation.damaged(rng, path.read_bytes()))
        case "alpha":
            ground = rng.choice((0, 255, 128, 10))
            colour = np.full((*grey.shape, 3), rng.choice((0, 255, 128, 40)), np.uint8)
            colour[~given[chosen]] = ground
            alpha = np.where(given[chosen], rng.choice((255, 128, 127, 1, 0)), rng.choice((0, 0, 255, 100)))
            Image.fromarray(np.dstack([colour, alpha.astype(np.uint8)])).save(path)
        case "size":
            Image.fromarray(np.zeros((rng.randint(1, 99), rng.randint(1, 99)), bool)).save(path)
        case "values":
            low, high = rng.choice(((0, 1), (0, 127), (0, 128), (255, 0), (1, 2), (254, 255), (0, 200), (3, 3)))
            Image.fromarray(np.where(given[chosen], high, low).astype(np.uint8)).save(path)
        case "missing":
            path.unlink()
        case "more":
            Image.fromarray(given[chosen]).save(path.with_name(f"{mutation.name(rng)[:60]}.png"), "PNG")
        case "replaced":
            mutation.replace(rng, rng.choice((path, path.parent, folder / "m")))
        case "all":
            for name in expected:
                Image.fromarray(np.full((40, 20), rng.choice((255, 255, 0)), np.uint8)).save(folder / f"m/{name}.png")
        case "bomb":
            path.write_bytes(_bomb(rng))
    return command("complete", "in", "--masks", "m", "--output", "o", "--model", good.model_file, outputs=("o",),
                   check=checking.completed(folder / "o", expected, masks=given if known else None))
