"""Features of whole tracklets, and distances of pairs, against one tracklet at a time without padding."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from people import SMOKE, figures, random_reid, tracklet
from PIL import Image
from refusals import refused

from vrstc_jax.inference.features import tracklet_features
from vrstc_jax.inference.pair_distances import pair_distances
from vrstc_jax.models.model_file import load_reid, save_reid
from vrstc_jax.models.reid import PairScorer, ReidNet
from vrstc_jax.ops.pictures import resize

pytestmark = pytest.mark.usefixtures("quick_compilation")

LENGTHS = (1, 3, 4, 5, 9)  # shorter than a clip of 4, as long, and what is two and three clips
# Float32 sums of a few thousand numbers of size 1, in another order.
CLOSE = {"rtol": 2e-5, "atol": 2e-6}

# Two stages are enough to tell how frames are put together.
AVERAGE = dataclasses.replace(SMOKE.reid, blocks=(1, 1))
NON_LOCAL = dataclasses.replace(AVERAGE, non_local=(0, 1))


def at_size(frames, config=AVERAGE):
    """float [T, H, W, 3] in [−1, 1]."""
    return np.stack([resize(frame, config.height, config.width) for frame in frames]) / np.float32(127.5) - 1


@pytest.fixture(scope="module")
def tracklets():
    """Of each length, frames of two sizes in turns, none of them the network's."""
    return [tracklet(figures(length, sizes=((40, 20), (37, 19)), seed=length), name=f"t{length}")
            for length in LENGTHS]


def test_average_is_the_mean_over_all_frames_whatever_the_length(tracklets):
    model = random_reid(AVERAGE)
    network = ReidNet(AVERAGE, 3)
    pooled = jax.jit(lambda frames: network.apply(model.variables, frames, method="maps").mean((1, 2)))
    # All frames at once, as one shape: each on its own, since batch norm only applies its statistics.
    rows = np.asarray(pooled(np.concatenate([at_size(t.frames) for t in tracklets])))
    expected = [part.mean(0) for part in np.split(rows, np.cumsum(LENGTHS)[:-1])]
    calls = []
    got = tracklet_features(model, tracklets, progress=lambda: calls.append(1))
    assert got.dtype == np.float32 and len(calls) == len(LENGTHS)
    np.testing.assert_allclose(got, expected, **CLOSE)
    assert np.abs(np.diff(got, axis=0)).max() > 0.01  # they differ at all


@pytest.fixture(scope="module")
def by_clips():
    """Features with non-local blocks, each clip alone: how 9 frames are clips of 3, 3 and 3, by hand."""
    model = random_reid(NON_LOCAL)
    network = ReidNet(NON_LOCAL, 3)
    one = jax.jit(lambda clip: network.apply(model.variables, clip[None], method="features")[0])

    def features(frames):
        clips = np.split(at_size(frames, NON_LOCAL), {1: [], 3: [], 4: [], 5: [2], 9: [3, 6]}[len(frames)])
        return np.average([one(clip) for clip in clips], axis=0, weights=[len(clip) for clip in clips])
    return features


def test_non_local_clips_are_weighed_by_their_frames(tracklets, by_clips):
    got = tracklet_features(random_reid(NON_LOCAL), tracklets)
    expected = np.array([by_clips(t.frames) for t in tracklets])
    np.testing.assert_allclose(got, expected, **CLOSE)
    # The blocks do something, so that how frames are cut into clips shows.
    alone = np.mean([by_clips([frame]) for frame in tracklets[3].frames], axis=0)
    assert np.abs(alone - expected[3]).max() > 10 * CLOSE["rtol"] * np.abs(expected[3]).max()


def test_more_clips_than_a_call_takes(by_clips):
    many = [figures(4, seed=seed) for seed in range(19)]  # a call takes 16
    np.testing.assert_allclose(tracklet_features(random_reid(NON_LOCAL), many),
                               [by_clips(frames) for frames in many], **CLOSE)


def forms(frames):
    """The same frames as arrays of JAX and as pictures of PIL."""
    return jnp.asarray(np.stack(frames)), list(map(jnp.asarray, frames)), list(map(Image.fromarray, frames))


def test_arrays_lists_pictures_and_tracklets_are_the_same():
    frames = figures(4, seed=7)
    got = tracklet_features(random_reid(AVERAGE), [np.stack(frames), frames, tuple(frames), tracklet(frames),
                                                   *forms(frames), *map(tracklet, forms(frames))])
    assert got.shape[0] == 10 and (got == got[0]).all()
    assert tracklet_features(random_reid(AVERAGE), []).shape[0] == 0


def test_kept_frames_alone_count():
    frames, keep = figures(9, seed=2), np.array([0, 1, 0, 1, 1, 0, 0, 0, 1], bool)
    chosen = [frames[i] for i in (1, 3, 4, 8)]
    model = random_reid(NON_LOCAL)
    none = np.zeros(9, bool)
    got = tracklet_features(model, [frames, frames, frames, chosen], keep=[keep, None, none, None])
    np.testing.assert_array_equal(got[0], got[3])
    np.testing.assert_array_equal(got[1], got[2])  # where nothing would be left, all is kept
    assert np.abs(got[0] - got[1]).max() > 1e-3


@pytest.mark.parametrize("entry, keep, message", [
    ([], None, "tracklet 1: has no frame"),
    (tracklet([], name="0002/c1"), None, "tracklet 0002/c1: has no frame"),
    (np.zeros((2, 8, 4, 3), np.float32), None,
     "tracklet 1: frames must be uint8 [H, W, 3]. Got float32 (8, 4, 3)"),
    (tracklet([np.zeros((8, 4), np.uint8)], name="a"), None,
     "tracklet a: frames must be uint8 [H, W, 3]. Got uint8 (8, 4)."),
    ([np.zeros((0, 4, 3), np.uint8)], None, "tracklet 1: frames must be"),
    (["frame.png"], None, "tracklet 1: frames must be uint8 [H, W, 3]. Got <U9 ()."),
    (figures(3), np.ones(2, bool),
     "tracklet 1: keep must say of each of its 3 frames whether to use it. Got 2 values."),
    (figures(3), np.zeros(2, bool), "tracklet 1: keep must say of each of its 3 frames"),
])
def test_what_is_refused(entry, keep, message):
    with refused(message):
        tracklet_features(random_reid(AVERAGE), [figures(1), entry], keep=[None, keep])


def test_pairs_are_those_of_the_scorer_one_by_one():
    """Each pair by `PairScorer` itself, whole tracklets of various lengths, nothing padded."""
    model = random_reid(dataclasses.replace(AVERAGE, blocks=(1,)), network=PairScorer)
    network = PairScorer(model.config, 3)
    one = jax.jit(lambda first, second: network.apply(model.variables, first[None], second[None])[0][0])
    queries, gallery = ([tracklet(figures(length, seed=seed), name=f"t{seed}") for length, seed in given]
                        for given in (((2, 0), (3, 1), (2, 2)), ((2, 3), (2, 4), (2, 5))))
    expected = [[float(one(at_size(q.frames), at_size(g.frames))) for g in gallery] for q in queries]
    got = pair_distances(model, queries, gallery, block=2)  # several blocks, the last ones filled up
    assert got.shape == (3, 3) and got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=1e-4)  # a root of a sum of squared differences
    assert np.std(expected) > 0.01
    others = [tracklet(form) for form in forms(queries[1].frames)]
    np.testing.assert_array_equal(pair_distances(model, others, gallery, block=2), got[[1, 1, 1]])


def test_each_network_is_asked_for_what_it_has(tmp_path):
    scorer, one = random_reid(dataclasses.replace(AVERAGE, blocks=(1,)), network=PairScorer), tracklet(figures(1))
    save_reid(tmp_path / "pairs.safetensors", scorer)
    with refused("pair_distances"):
        tracklet_features(load_reid(tmp_path / "pairs.safetensors"), [one])
    with refused("tracklet_features"):
        pair_distances(random_reid(AVERAGE), [one], [one])
    with refused("Pairs need queries and a gallery. Got 1 and 0 tracklets."):
        pair_distances(scorer, [one], [])
    with refused("tracklet empty: has no frame"):
        pair_distances(scorer, [one], [tracklet([], name="empty")])
    with refused("tracklet floats: frames must be uint8", "float32"):
        pair_distances(scorer, [tracklet(np.zeros((1, 8, 4, 3), np.float32), name="floats")], [one])
