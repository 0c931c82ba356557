"""The default model gives what it gave: on this machine bit for bit, and what is stored to rounding.

`golden.npz` holds a walker's tracklet and what the default model made of it. After new weights:

    python tests/test_golden.py && git add tests/golden.npz
"""

from pathlib import Path

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from vrstc_jax import load_model
from vrstc_jax.data.tracklets import Tracklet
from vrstc_jax.data.walkers import WalkerConfig, make_tracklet, people
from vrstc_jax.inference.completer import Completer

GOLDEN = Path(__file__).with_name("golden.npz")
# Sums of a few thousand float32 products, through some 20 layers; processors add them in other orders.
SCORES = 2e-3  # of scores in [-1, 1]
LEVELS = 2  # of 255
# Places are rounded to eighths of pixels, so that a last digit may move a pixel by one; at edges that is many levels.
MOVED = 0.02  # of the repainted pixels


def completed(model, frames, masks=None, *, networks=False):
    """(the frames completed, by the networks alone if told so, with what is located unless masks are given; the scores
    of what was located)"""
    completer = Completer(model).without_repairing() if networks else Completer(model)
    names = tuple(map(str, range(len(frames))))
    tracklet = Tracklet("golden", list(frames), names, masks=masks)
    plan = completer.plan(tracklet)
    return np.stack([done.frame for done in completer.stream(tracklet)]), np.asarray(plan.scores, np.float32)


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(GOLDEN))


def test_it_gives_what_is_stored(golden):
    model = load_model()
    assert model.digest == str(golden["digest"]), (
        "the default model's weights are others than those of golden.npz: look at what they make, then "
        "python tests/test_golden.py")
    frames, masks = golden["frames"], golden["masks"]
    with_masks, _ = completed(model, frames, masks, networks=True)
    repaired, _ = completed(model, frames, masks)
    _, scores = completed(model, frames)
    np.testing.assert_allclose(scores, golden["scores"], atol=SCORES)
    np.testing.assert_array_equal(with_masks[~masks], frames[~masks])
    np.testing.assert_allclose(with_masks.astype(int), golden["completed"].astype(int), atol=LEVELS)
    np.testing.assert_array_equal(repaired[~masks], frames[~masks])
    off = np.abs(repaired.astype(int) - golden["repaired"]).max(-1)
    assert (off[masks] > LEVELS).mean() < MOVED
    for pictures in (golden["completed"], golden["repaired"]):
        # That hidden pixels are painted in, and not left.
        assert (pictures != frames).any(-1)[masks].mean() > 0.9


@pytest.fixture
def nothing_kept():
    """What was compiled before is found neither in memory nor on disk."""
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()
    jax.clear_caches()
    yield
    jax.config.update("jax_enable_compilation_cache", True)
    compilation_cache.reset_cache()


@pytest.mark.slow
def test_bit_for_bit_when_compiled_anew(golden, nothing_kept):
    model = load_model()
    first = completed(model, golden["frames"])
    jax.clear_caches()
    again = completed(load_model(), golden["frames"])
    for mine, theirs in zip(first, again, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def write():
    """Makes golden.npz with the default model."""
    look = WalkerConfig(height=64, width=32, frames=14, occlusion=1.0)
    tracklet = next(tracklet for tracklet in (make_tracklet(who, 0, config=look) for who in people("test", 40))
                    if 4 <= sum(mask.mean() > 0.1 for mask in tracklet.masks) < 7 == sum(
                        not mask.any() for mask in tracklet.masks))
    frames, masks = np.stack(tracklet.frames[:]), np.stack(tracklet.masks[:])
    model = load_model()
    with_masks, _ = completed(model, frames, masks, networks=True)
    repaired, _ = completed(model, frames, masks)
    _, scores = completed(model, frames)
    np.savez_compressed(GOLDEN, digest=model.digest, frames=frames, masks=masks, completed=with_masks,
                        repaired=repaired, scores=scores)
    print(f"{GOLDEN}: {int(masks.any((1, 2)).sum())} of {len(frames)} frames are hidden in part")


if __name__ == "__main__":
    write()
