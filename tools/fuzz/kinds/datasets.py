"""Copies of the public data sets, and sets that the package wrote, in which something is wrong."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tools.fuzz import mutation
from tools.fuzz.good import Good, figure
from tools.fuzz.kinds.records import damage
from tools.fuzz.tries import Try

_MARS = {"train": ("0001C1T0001", "0001C2T0001", "0003C6T0001"), "test": ("00-1C1T0001", "0000C2T0001", "0002C1T0001",
                                                                        "0002C3T0001")}
_PEOPLE = ("person001", "person002", "person005", "person010")
_SPLITS = "train a\ngallery b\nquery b/c1\nout c  # none\n"


def _picture(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(figure(seed, 12, 6)).save(path)


def _mars(root: Path) -> None:
    from scipy.io import savemat

    (root / "info").mkdir(parents=True)
    for home, tracks in _MARS.items():
        names = [f"{track}F{frame:03d}.jpg" for track in tracks for frame in (1, 2)]
        for name in names:
            _picture(root / f"bbox_{home}" / name[:4] / name)
        (root / f"info/{home}_name.txt").write_text("".join(f"{name}\n" for name in names))
        rows = [(2 * k + 1, 2 * k + 2, -1 if "-" in track else int(track[:4]), int(track[5]))
                for k, track in enumerate(tracks)]
        savemat(root / f"info/tracks_{home}_info.mat", {f"track_{home}_info": np.array(rows, np.int32)})
    savemat(root / "info/query_IDX.mat", {"query_IDX": np.array([[3]], np.uint16)})


def _ilids(root: Path) -> None:
    from scipy.io import savemat

    for camera in (1, 2):
        for person in _PEOPLE:
            for frame in (1, 2):
                _picture(root / f"i-LIDS-VID/sequences/cam{camera}/{person}/cam{camera}_{person}_{frame:05d}.png")
    (root / "train-test people splits").mkdir()
    savemat(root / "train-test people splits/train_test_splits_ilidsvid.mat",
            {"ls_set": np.array([[1, 2, 3, 4], [4, 2, 3, 1]])})


def _duke(root: Path) -> None:
    for name in ("train/0001/0001/0001C6F0001X30823", "train/0001/0001/0001C6F0002X30835",
                 "query/0002/0010/0002_C5_F0001_X10", "gallery/0002/0010/0002_C5_F0001_X90",
                 "gallery/7140/2193/7140_C2_F0044_D200413"):
        _picture(root / f"{name}.jpg")


def _ls_vid(root: Path) -> None:
    from scipy.io import savemat

    (root / "list_sequence").mkdir(parents=True)
    (root / "test/data").mkdir(parents=True)
    for split, prefixes in {"train": ("0000/0000_1", "0005/0005_2"), "test": ("0001/0001_1", "0001/0001_2")}.items():
        (root / f"list_sequence/list_seq_{split}.txt").write_text(
            "".join(f"tracklet_{split}/{prefix} {int(prefix[:4])}\n" for prefix in prefixes))
        for prefix in prefixes:
            _picture(root / f"tracklet_{split}/{prefix}_3_0001.jpg")
    savemat(root / "test/data/info_test.mat", {"query": np.array([[1.0]])})


def _folder(root: Path) -> None:
    for path in ("a/c1/t1", "a/c2/t1", "b/c1/t1", "b/c2/t1", "c/c1/t1"):
        _picture(root / path / "f1.jpg")
    (root / "splits.txt").write_text(_SPLITS)


_TREES = {"mars": _mars, "ilids_vid": _ilids, "dukemtmc_video_reid": _duke, "ls_vid": _ls_vid, "folder": _folder}


def datasets(rng: random.Random, folder: Path, good: Good) -> Try:
    """A copy of a data set whose lists, tables, names or pictures are damaged; it is read, or built."""
    from vrstc_jax.data import datasets as sets

    name = rng.choice(sorted(_TREES))
    top = folder / "copy"
    good.finished(folder, f"tree_{name}", lambda where: _TREES[name](where / "copy"))
    files = sorted(path for path in top.rglob("*") if path.is_file())
    lists = [path for path in files if path.suffix in (".txt", ".mat")]
    match rng.choice(("list", "list", "list", "any", "name", "none")):
        case "list" if lists:
            _damage_list(rng, top, rng.choice(lists))
        case "any" | "list":
            damage(rng, top, files, count=rng.choice((1, 1, 3)))
        case "name":
            chosen = rng.choice(files)
            chosen = rng.choice([chosen, *[path for path in chosen.parents if top in path.parents]])
            target = chosen.with_name(mutation.name(rng)[:80] + chosen.suffix)
            if not target.exists():
                chosen.rename(target)
    options: dict[str, Any] = {"check_counts": False}
    if name == "ilids_vid":
        options["split"] = rng.choice((1, 2, 2, 10))
    if rng.random() < 0.2:
        return Try(lambda: sets.build(name, folder / "set", manual_dir=top, progress=lambda _: None, **options),
                   f"datasets.build({name!r}, …)", outputs=("set",))

    def read() -> None:
        for tracklets in sets.read(name, manual_dir=top, **options).values():
            for tracklet in tracklets:
                for index in range(len(tracklet)):
                    tracklet.frames[index]

    return Try(read, f"datasets.read({name!r}, …)")


def _damage_list(rng: random.Random, top: Path, path: Path) -> None:
    if path.suffix == ".mat":
        if rng.random() < 0.5:
            damage(rng, top, [path])
            return
        from scipy.io import loadmat, savemat

        tables = {key: value for key, value in loadmat(path).items() if not key.startswith("__")}
        key = rng.choice(sorted(tables))
        table = tables[key].astype(float)
        match rng.choice(("value", "value", "shape", "type", "name", "empty")):
            case "value":
                table.reshape(-1)[rng.randrange(table.size)] = rng.choice(
                    (np.nan, np.inf, -1, 0, 0.5, 1e300, 2**63, 2**31, 99, 1e18, -np.inf, 7, 3))
            case "shape":
                table = rng.choice((table.T, table[None], table.reshape(-1), table[:, :1], table[:0]))
            case "type":
                savemat(path, {key: rng.choice(("text", np.array([["a", "b"]], object), {"a": 1}, np.array([1j, 2])))})
                return
            case "name":
                key = rng.choice(("x", "a" * 31, "query"))
            case "empty":
                table = np.zeros((0, 0))
        savemat(path, {key: table})
        return
    lines = path.read_text().splitlines()
    at = rng.randrange(len(lines))
    match rng.choice(("name", "word", "text")):
        case "name":
            lines[at] = lines[at].replace(rng.choice(lines[at].split("/")), mutation.text(rng))
        case "word":
            words = lines[at].split(" ")
            words[rng.randrange(len(words))] = rng.choice((mutation.text(rng), mutation.number(rng)))
            lines[at] = " ".join(words)
        case "text":
            path.write_bytes(mutation.damaged_text(rng, lines))
            return
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))


def sets(rng: random.Random, folder: Path, good: Good) -> Try:
    """A set that `write_set` wrote, of which files are damaged; all its frames are read."""
    from vrstc_jax.data.tracklet_set import read_set, set_splits, write_set
    from vrstc_jax.data.tracklets import Tracklet

    frames = [figure(index) for index in range(4)]

    def make(where: Path) -> None:
        made = [Tracklet(name=f"t{k}", frames=frames, frame_names=tuple("abcd"), person=f"p{k}",
                         masks=[np.zeros((40, 20), bool)] * 4) for k in (0, 1)]
        write_set(where / "set", made)

    good.finished(folder, "set", make)
    files = sorted(path for path in (folder / "set").rglob("*") if path.is_file())
    index = folder / "set/tracklets.json"
    names = {}
    if rng.random() < 0.4:
        index.write_bytes(mutation.damaged_json(rng, json.loads(index.read_bytes())))
    elif rng.random() < 0.95:
        damage(rng, folder / "set", files, count=rng.choice((1, 1, 2)))
    else:
        names = {"t0": frames, "t1": frames}
    found: dict[str, list[np.ndarray]] = {}

    def read() -> None:
        found.clear()
        for split in set_splits(folder / "set"):
            for tracklet in read_set(folder / "set", split).tracklets:
                found[tracklet.name] = [np.array(tracklet.frames[k]) for k in range(len(tracklet))]

    def check() -> str | None:
        if names and found.keys() != names.keys():
            return f"tracklets {sorted(found)}"
        known = {frame.tobytes() for frame in frames}
        wrong = [name for name, read in found.items() if not {frame.tobytes() for frame in read} <= known]
        return f"other frames in {wrong}" if wrong else None

    return Try(read, "read_set(set)", check=check)
