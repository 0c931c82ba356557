"""Whole runs of the five steps with trainings left out (`five_steps_stand_ins.py`), and what they leave."""

import contextlib
import dataclasses
import io
import itertools
import json
import pkgutil
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
from five_steps_stand_ins import CONFIG, PROTOCOL, patched

from vrstc_jax.data.tracklet_set import read_set, write_set
from vrstc_jax.data.walkers import walker_splits
from vrstc_jax.recipes import five_steps
from vrstc_jax.recipes.five_steps import SPLITS, STEPS


def write(path):
    write_set(path, walker_splits(PROTOCOL))


def run(work, config=CONFIG, *, write=write, **options):
    """(results, printed lines)."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        results = five_steps.run(work, config, write, inputs={"dataset": "walkers"}, **options)
    return results, printed.getvalue().splitlines()


never = mock.Mock(side_effect=AssertionError("the data are there already"))


def with_stand_ins(work, *args, **options):
    """A whole run: where, its results and printed lines, and what was trained."""
    with pytest.MonkeyPatch.context() as patch:
        stand_ins = patched(patch)
        results, said = run(work, *args, **options)
    return SimpleNamespace(work=work, results=results, said=said, trained=stand_ins)


FILES = ("reid.safetensors", "scores/train.npz", "scores/query.npz", "scores/gallery.npz", "locating.json",
         "model.safetensors", "final.safetensors", "before.safetensors", "results.json", "features.npz",
         "ranked.png")
# What says that a step is done.
PLACES = dict(zip(STEPS, ("data", "reid.safetensors", "locating.json", "model.safetensors", "completed",
                          "results.json")))


def contents(work):
    return {name: (work / name).read_bytes() for name in FILES}


def times(work):
    return {path.relative_to(work): path.stat().st_mtime_ns for path in work.rglob("*") if path.is_file()}


def names(work):
    return {path.name for path in work.iterdir()}


def goes_on_to_the_same(work, done, **options):
    """Runs what is left to do, which must give the results and files of `done`: the printed lines."""
    results, said = run(work, **{"write": never} | options)
    assert results == done.results and contents(work) == contents(done.work)
    return said


@contextlib.contextmanager
def interrupted(target, call=1, *, when=lambda *_: True):
    """Expects a run that the `call`-th call of 'module.function' or 'module.Class.method' ends, as Ctrl-C would.

    Of calls for whose arguments `when` is true.
    """
    original, calls = pkgutil.resolve_name(target), itertools.count(1)

    def counted(*args, **kwargs):
        if when(*args) and next(calls) == call:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    with mock.patch(target, counted), pytest.raises(KeyboardInterrupt):
        yield


@contextlib.contextmanager
def record_of(work):
    """experiment.json, to be changed."""
    record = json.loads((work / "experiment.json").read_text())
    yield record
    (work / "experiment.json").write_text(json.dumps(record))


def assert_same_frames(one, other):
    np.testing.assert_array_equal(np.stack(one[:]), np.stack(other[:]))


def assert_same_sets(one, other):
    for split in SPLITS:
        for mine, theirs in zip(*(read_set(directory, split).tracklets for directory in (one, other)), strict=True):
            assert (mine.name, mine.frame_names) == (theirs.name, theirs.frame_names)
            assert_same_frames(mine.frames, theirs.frames)
            assert_same_frames(mine.masks, theirs.masks)


def assert_figures(figures, arrays):
    """Rank-1 and mAP by the definition, with NumPy, from the arrays of features.npz."""
    def units(features):
        return features / np.linalg.norm(features, axis=1, keepdims=True)

    firsts, precisions = [], []
    for feature, person, camera in zip(units(arrays["query"]), arrays["query_persons"], arrays["query_cameras"]):
        same = arrays["gallery_persons"] == person
        kept = ~(same & (arrays["gallery_cameras"] == camera)) & (arrays["gallery_persons"] != "-1")
        right = same[kept][np.argsort(1 - units(arrays["gallery"][kept]) @ feature, kind="stable")]
        places = np.flatnonzero(right) + 1
        assert len(places)
        firsts.append(places[0] == 1)
        precisions.append(np.mean(np.arange(1, len(places) + 1) / places))
    assert figures["rank1"] == pytest.approx(np.mean(firsts)) and figures["queries"] == len(firsts)
    assert figures["map"] == pytest.approx(np.mean(precisions))


def all_with(**changes):
    return {split: [dataclasses.replace(t, **changes) for t in tracklets]
            for split, tracklets in walker_splits(PROTOCOL).items()}
