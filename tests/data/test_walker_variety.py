"""Walkers of every variety: the truth stays the truth, each kind does something, and none touches another's."""

import dataclasses
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import cv2
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


def assert_same(one, other):
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_array_equal(mine, theirs)


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
    assert_same(parts(make_tracklet(4, 4, seed=3, config=LOOK)), painted[4])
    assert (painted[4][1] != parts(make_tracklet(4, 5, seed=3, config=LOOK))[1]).mean() > 0.5


def test_the_kinds_are_the_fields_of_a_variety():
    assert tuple(field.name for field in dataclasses.fields(Variety)) == KINDS
    assert all(getattr(EVERY_KIND, kind) for kind in KINDS) and not any(dataclasses.astuple(Variety()))


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_alone_changes_what_is_seen(kind):
    look = dataclasses.replace(LOOK, variety=Variety())
    alone = dataclasses.replace(LOOK, variety=Variety(**{kind: True}))
    plain, varied = (np.stack([parts(make_tracklet(who, who, config=c))[0] for who in range(4)]).astype(int)
                     for c in (look, alone))
    assert np.abs(plain - varied).mean((1, 2, 3, 4)).max() > 1  # grey levels


@pytest.mark.parametrize("kind", ["compression", "light", "occluders"])
def test_a_kind_leaves_what_others_drew(kind):
    """What is left out is all that differs: people, places and boxes are the same without it."""
    less = dataclasses.replace(LOOK, variety=dataclasses.replace(EVERY_KIND, **{kind: False}))
    for who in (2, 5):
        (_, truth, _, there), (_, other, _, same) = (parts(make_tracklet(who, who, config=c)) for c in (LOOK, less))
        np.testing.assert_array_equal(there, same)
        if kind == "occluders":
            np.testing.assert_array_equal(truth, other)


def digest_of_libraries():
    """Of a picture that OpenCV and NumPy alone draw, with the functions that painting a walker uses."""
    angles = np.linspace(0, 6, 40)
    curve = 16 * (256 + 200 * np.stack([np.cos(angles), np.sin(3 * angles) / np.hypot(1, angles)], 1))
    picture = np.zeros((512, 512, 3), np.uint8)
    cv2.fillPoly(picture, [np.round(curve).astype(np.int32)], (200, 30, 90), cv2.LINE_AA, 4)
    cv2.polylines(picture, [np.round(curve).astype(np.int32)], True, (20, 160, 40), 5, cv2.LINE_AA, 4)
    cv2.ellipse(picture, (3001, 5003), (1001, 1777), 0.0, 0, 360, (77, 99, 222), -1, cv2.LINE_AA, 4)
    noise = np.random.default_rng(0).standard_normal((90, 70, 3)).astype(np.float32)
    texture = cv2.resize(noise, (301, 299), interpolation=cv2.INTER_CUBIC)
    to_picture = np.array([[1.37, 0, 11.3], [0, 1.61, -7.7]], np.float32)
    drawn = picture.astype(np.float32) / 255 + 0.1 * cv2.warpAffine(
        texture, to_picture, (512, 512), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    drawn = cv2.resize(cv2.GaussianBlur(drawn, (0, 0), 1.3), (199, 203), interpolation=cv2.INTER_AREA)
    return hashlib.sha256(drawn.tobytes() + np.exp(np.log(angles + 1) / 3).tobytes()).hexdigest()


def test_the_plain_walkers_are_those_that_they_were():
    """The digest is of the walkers before there was any variety; figures of the demonstration hang on them."""
    if digest_of_libraries() != "9e8b3aede86cbd3a9ba06ecf156fb21d94136a23ef6056f4722fe41ac99e8060":
        pytest.skip("another OpenCV, NumPy or processor draws other pixels")
    digest = hashlib.sha256()
    for config in (WalkerConfig(height=64, width=32, frames=6, occlusion=1.0, persistent=0.3), WalkerConfig(frames=4)):
        for tracklet in make_tracklets(people("train", 6), cameras=2, config=config):
            for part in parts(tracklet):
                digest.update(part.tobytes())
    assert digest.hexdigest() == "b427fa51538882519155b280fe66aa8fa0f5e2c3f781e13c3ebfab59ae914573"


def test_backgrounds_are_pictures():
    drawn = [any_background(np.random.default_rng(seed)) for seed in range(12)]
    for picture in drawn:
        assert picture.shape == (2 * BODY, 12 * BODY, 3) and picture.dtype == np.float32
        assert picture.min() >= 0 and picture.max() <= 1 and picture.std() > 0.01
    assert np.std([picture.mean() for picture in drawn]) > 0.05


def test_a_camera_develops_pictures_of_the_size_asked_for():
    picture = np.random.default_rng(0).uniform(0, 1, (128, 64, 3)).astype(np.float32)
    for seed in range(20):
        draw = np.random.default_rng(seed)
        camera = vary_camera(make_camera(draw), EVERY_KIND, draw, 64)
        noise = draw.standard_normal((*camera.own_size((64, 32)), 3)).astype(np.float32)
        seen = camera.develop(picture, (64, 32), noise)
        assert seen.shape == (64, 32, 3) and seen.dtype == np.uint8
        assert camera.spread((64, 32)) > 0


def test_painted_ahead_they_are_the_same():
    passages = [(1, 0), (1, 1), (7, 3)]
    with PaintedInParallel(passages, seed=3, config=LOOK) as tracklets:
        for passage, ahead in zip(passages, tracklets, strict=True):
            plain = make_tracklet(*passage, seed=3, config=LOOK)
            assert (ahead.name, ahead.person, ahead.frame_names) == (plain.name, plain.person, plain.frame_names)
            assert_same(parts(ahead), parts(plain))


_READS_ON = """
import multiprocessing, time
from vrstc_jax.data.walkers import PaintedInParallel, WalkerConfig

if __name__ == "__main__":
    with PaintedInParallel([(1, 0)], seed=0, config=WalkerConfig(height=32, width=16, frames=2)) as tracklets:
        tracklets[0].frames[0]
        print("ready", bool(multiprocessing.active_children()), flush=True)
        time.sleep(600)
"""


def test_who_paints_ahead_ends_with_a_reader_that_is_killed(tmp_path):
    script = tmp_path / "reads.py"
    script.write_text(_READS_ON)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=os.environ | {
            "PYTHONPATH": str(Path(__file__).resolve().parents[2])}) as reader:
        said = reader.stdout.readline()
        reader.kill()
        # The painters share the pipe, which ends with the last of them.
        assert (said, reader.communicate(timeout=30)) == ("ready True\n", ("", None))
