"""What commit 1c91c4c wrote (`fixtures/README.md`): laying it out, the commands that go on with it, and comparing."""

import contextlib
import hashlib
import io
import json
import os
import runpy
import sys
import tarfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import pytest
from commands import Done
from PIL import Image

from vrstc_jax import config as configs
from vrstc_jax.data.tracklet_set import read_set, set_splits

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
OLD = FIXTURES / "1c91c4c"
EXPECTED = json.loads((OLD / "expected.json").read_text())
ARRAYS = dict(np.load(OLD / "expected.npz"))

LEVELS = 2  # of 255; as of the golden completion
SCORES = 2e-3  # of scores in [-1, 1]; likewise
# Of parameters after the last two steps of a training, in each of which Adam moves them by some 1e-3. Twenty-four steps
# compiled with and without optimisation differ by 3e-6.
PARAMETERS = 2e-5
FEATURES = 1e-3  # relative to the largest


def read_splits(directory) -> dict:
    """{split: its tracklets} of a stored TFDS set."""
    return {split: read_set(directory, split).tracklets for split in set_splits(directory)}


# Places to work in, and commands

@dataclass(frozen=True)
class Place:
    """A folder that takes the place of the one that the fixtures were made in; the working directory."""

    path: Path

    def unpack(self, archive: str, folder: str = "", *, to: str = ".") -> Path:
        """Lays out an archive, or what is below one of its folders, with the times of change as they were."""
        with tarfile.open(OLD / f"{archive}.tar.gz") as packed:
            for entry in packed:
                if entry.isdir() or not entry.name.startswith(folder):
                    continue
                target = self.path / to / entry.name.removeprefix(folder).lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                content = packed.extractfile(entry).read()  # of what it links to, if it is a link
                if target.name in ("fit.json", "run.json", "experiment.json", "index.json"):
                    content = content.replace(EXPECTED["root"].encode(), str(self.path).encode())
                target.write_bytes(content)
                os.utime(target, (EXPECTED["changed"], EXPECTED["changed"]))
        return self.path / to

    def files(self, *folders: str) -> dict:
        """{path: (content, time of change)} of every file in these folders."""
        return {path.relative_to(self.path).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns)
                for folder in folders for path in sorted((self.path / folder).rglob("*")) if path.is_file()}


def run(*words: str) -> Done:
    """`python -m words…`, or `vrstc words…`, in this process."""
    words = words if words[0].startswith("experiments.") else ("vrstc_jax", *words)
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err),
          warnings.catch_warnings()):
        warnings.simplefilter("ignore", RuntimeWarning)  # runpy's, of a module that other tests have imported
        patch.setattr(sys, "argv", list(words))
        try:
            runpy.run_module(words[0], run_name="__main__", alter_sys=True)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    return Done(code, out.getvalue(), err.getvalue())


def succeeds(*words: str) -> Done:
    done = run(*words)
    assert done.code == 0, done.err
    return done


def refusal(*words: str) -> str:
    """The line in which a command says that it takes no such input."""
    done = run(*words)
    line = done.err.splitlines()[-1]
    assert done.code == 2 and line.startswith("vrstc: "), done.err
    return line


# What is compared

def read(path) -> np.ndarray:
    return np.asarray(Image.open(path))


def sha256(pictures) -> str:
    """Of shapes and pixels."""
    digest = hashlib.sha256()
    for picture in map(np.asarray, pictures):
        digest.update(repr((picture.shape, str(picture.dtype))).encode() + picture.tobytes())
    return digest.hexdigest()


def crops(place: Place, name: str) -> np.ndarray:
    """The frames of a tracklet that are of one size, uint8 [T, 40, 20, 3]."""
    files = sorted((place.path / "crops" / name).glob("*.png"), key=lambda path: int(path.stem[1:]))
    return np.stack([read(path) for path in files[::2]])


def assert_same_config(config, recorded: dict):
    """Every choice is what it was; there may be more. A size may have another name."""
    old = {name: value for name, value in recorded.items() if name != "name"}
    assert_close(json.loads(json.dumps(configs.to_dict(config))), old, relative=0, absolute=0)


def assert_close(now, old, at="", relative=1e-3, absolute=SCORES):
    """The same keys, or more, and numbers that are alike. NaN, which JSON has as null, is like itself."""
    if isinstance(old, dict):
        assert set(old) <= set(now), f"{at} lacks {set(old) - set(now)}"
        for name in old:
            assert_close(now[name], old[name], f"{at}/{name}", relative, absolute)
    elif isinstance(old, list):
        assert len(now) == len(old), at
        for i, values in enumerate(zip(now, old)):
            assert_close(*values, f"{at}/{i}", relative, absolute)
    elif isinstance(old, float):
        assert now == pytest.approx(old, rel=relative, abs=absolute), at
    else:
        assert now == old, at


def assert_same_tensors(now: dict, old: dict):
    """Nested dictionaries of arrays, of which the first were trained again."""
    now, old = (jax.tree_util.tree_leaves_with_path(tree) for tree in (now, old))
    assert [path for path, _ in now] == [path for path, _ in old] and old
    for (path, mine), (_, theirs) in zip(now, old):
        np.testing.assert_allclose(mine, theirs, atol=PARAMETERS, rtol=PARAMETERS, err_msg=str(path))


def assert_same_pixels(now, old, levels=LEVELS, name=""):
    np.testing.assert_allclose(now.astype(int), old.astype(int), atol=levels, err_msg=name)


def assert_same_features(now, old):
    np.testing.assert_allclose(now, old, atol=FEATURES * np.abs(old).max())


def assert_same_set(directory, expected: dict):
    """A set that was only read: everything known of its tracklets, and every pixel."""
    found = {split: [{"name": t.name, "person": t.person, "camera": t.camera, "frame_names": list(t.frame_names),
                      "frames": sha256(t.frames[:]), "masks": t.masks and sha256(t.masks[:])} for t in tracklets]
             for split, tracklets in read_splits(directory).items()}
    assert found == expected


def assert_like_folder(folder: Path, whole: Path):
    """Results, of which a part was completed just now, and the same ones as they were.

    Those are of a version that did not write `origin/`.
    """
    kept = {path.relative_to(whole).as_posix() for path in whole.rglob("*") if path.suffix == ".png"
            or "scores" in path.parts and path.suffix == ".json"}
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert kept and kept == {name for name in found if not name.startswith("origin/")
                             and (name.endswith(".png") or name.startswith("scores/"))}
    for name in kept:
        if name.endswith(".json"):
            assert_close(json.loads((folder / name).read_text()), json.loads((whole / name).read_text()), name)
        else:
            levels = 0 if name.startswith("masks/") else LEVELS
            assert_same_pixels(read(folder / name), read(whole / name), levels, name)
