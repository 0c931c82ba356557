"""Walkers of every variety: the truth stays the truth, each kind does something, and none touches another's."""

import dataclasses
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from vrstc_jax.data.walkers import (
    EVERY_KIND,
    KINDS,
    PaintedInParallel,
    Variety,
    WalkerConfig,
    make_tracklet,
    make_tracklets,
    people,
)
from vrstc_jax.data.walkers.backgrounds import BODY, any_background
from vrstc_jax.data.walkers.cameras import make_camera, vary_camera

LOOK = WalkerConfig(height=64, width=32, frames=8, occlusion=1.0, variety=EVERY_KIND)


def parts(tracklet):
    return [np.stack(part[:]) for part in (tracklet.frames, tracklet.truth, tracklet.masks, tracklet.silhouettes)]


@pytest.fixture(scope="module")
def painted():
    return [parts(make_tracklet(who, who, seed=3, config=LOOK)) for who in range(10)]


def test_outside_the_mask_frame_and_truth_are_equal(painted):
    for frames, truth, masks, silhouettes in painted:
        assert frames.shape == truth.shape == (8, 64, 32, 3) and masks.shape == silhouettes.shape == (8, 64, 32)
        np.testing.assert_array_equal(frames[~masks], truth[~masks])


def test_something_hides_and_somebody_is_there(painted):
    changed = [(frames != truth).any(-1)[masks].mean() for frames, truth, masks, _ in painted if masks.any()]
    assert len(changed) >= 8 and np.mean(changed) > 0.8
    shares = [silhouettes.mean() for *_, silhouettes in painted]
    assert min(shares) > 0.05 and max(shares) < 0.8


def test_they_are_a_function_of_their_numbers(painted):
    for mine, again in zip(painted[4], parts(make_tracklet(4, 4, seed=3, config=LOOK))):
        np.testing.assert_array_equal(mine, again)
    assert (painted[4][1] != parts(make_tracklet(4, 5, seed=3, config=LOOK))[1]).mean() > 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_alone_changes_what_is_seen(kind):
    look = dataclasses.replace(LOOK, variety=Variety())
    alone = dataclasses.replace(LOOK, variety=Variety(**{kind: True}))
    apart = [np.abs(parts(make_tracklet(who, who, config=look))[0].astype(int)
                    - parts(make_tracklet(who, who, config=alone))[0]).mean() for who in range(4)]
    assert max(apart) > 1  # grey levels


@pytest.mark.parametrize("kind", ["compression", "light", "occluders"])
def test_a_kind_leaves_what_others_drew(kind):
    """What is left out is all that differs: people, places and boxes are the same without it."""
    less = dataclasses.replace(LOOK, variety=dataclasses.replace(EVERY_KIND, **{kind: False}))
    for who in (2, 5):
        (_, truth, _, there), (_, other, _, same) = (parts(make_tracklet(who, who, config=c)) for c in (LOOK, less))
        np.testing.assert_array_equal(there, same)
        if kind == "occluders":
            np.testing.assert_array_equal(truth, other)


def test_the_plain_walkers_are_those_that_they_were():
    """The digest is of the walkers before there was any variety; figures of the demonstration hang on them."""
    digest = hashlib.sha256()
    for config in (WalkerConfig(height=64, width=32, frames=6, occlusion=1.0, persistent=0.3), WalkerConfig(frames=4)):
        for tracklet in make_tracklets(people("train", 6), cameras=2, config=config):
            for part in (tracklet.frames, tracklet.truth, tracklet.masks, tracklet.silhouettes):
                for picture in part:
                    digest.update(np.ascontiguousarray(picture).tobytes())
    wanted = "b427fa51538882519155b280fe66aa8fa0f5e2c3f781e13c3ebfab59ae914573"
    if digest.hexdigest() != wanted:
        pytest.skip("another OpenCV or processor draws other pixels")


def test_backgrounds_are_pictures():
    drawn = [any_background(np.random.default_rng(seed)) for seed in range(12)]
    for picture in drawn:
        assert picture.shape == (2 * BODY, 12 * BODY, 3) and picture.dtype == np.float32
        assert picture.min() >= 0 and picture.max() <= 1 and picture.std() > 0.01
    assert np.std([picture.mean() for picture in drawn]) > 0.05


def test_a_camera_develops_pictures_of_the_size_asked_for():
    rng = np.random.default_rng(0)
    picture = rng.uniform(0, 1, (128, 64, 3)).astype(np.float32)
    for seed in range(20):
        draw = np.random.default_rng(seed)
        camera = vary_camera(make_camera(draw), EVERY_KIND, draw, 64)
        noise = draw.standard_normal((*camera.own_size((64, 32)), 3)).astype(np.float32)
        seen = camera.develop(picture, (64, 32), noise)
        assert seen.shape == (64, 32, 3) and seen.dtype == np.uint8
        assert camera.spread((64, 32)) > 0


def test_painted_ahead_they_are_the_same():
    places = [(1, 0), (1, 1), (7, 3)]
    with PaintedInParallel(places, seed=3, config=LOOK) as tracklets:
        for place, ahead in zip(places, tracklets, strict=True):
            plain = make_tracklet(*place, seed=3, config=LOOK)
            assert (ahead.name, ahead.person, ahead.frame_names) == (plain.name, plain.person, plain.frame_names)
            for one, other in zip(parts(ahead), parts(plain)):
                np.testing.assert_array_equal(one, other)


_READS_ON = """
import time
from vrstc_jax.data.walkers import PaintedInParallel, WalkerConfig

if __name__ == "__main__":
    with PaintedInParallel([(1, 0)], seed=0, config=WalkerConfig(height=32, width=16, frames=2)) as tracklets:
        tracklets[0].frames[0]
        print("ready", flush=True)
        time.sleep(600)
"""


def test_who_paints_ahead_ends_with_a_reader_that_is_killed(tmp_path):
    script = tmp_path / "reads.py"
    script.write_text(_READS_ON)
    root = Path(__file__).resolve().parents[2]
    reader = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True,
                              env=os.environ | {"PYTHONPATH": str(root)})
    try:
        assert reader.stdout.readline() == "ready\n"
        painters = children(reader.pid)
        assert painters
        reader.send_signal(signal.SIGKILL)
        reader.wait()
        until = time.monotonic() + 30
        while any(lives(painter) for painter in painters):
            assert time.monotonic() < until, painters
            time.sleep(0.05)
    finally:
        reader.kill()


def children(parent):
    if not Path("/proc/self/stat").exists():
        pytest.skip("this system lists no processes in /proc")
    return [int(place.name) for place in Path("/proc").iterdir()
            if place.name.isdigit() and stat(place)[1] == str(parent)]


def lives(process):
    return stat(Path("/proc") / str(process))[0] not in ("", "Z")


def stat(place):
    """(state, parent) of a process, or ("", "") where it is gone."""
    try:
        return tuple((place / "stat").read_text().rpartition(")")[2].split()[:2])
    except OSError:
        return "", ""
