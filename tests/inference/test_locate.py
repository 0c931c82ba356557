"""Locating: the scores of equations 11 and 12 against loops over the network's feature maps."""

import jax
import numpy as np
import pytest
from people import SMOKE, figures, random_model

from vrstc_jax.inference.locate import BATCH, Locator, agreement, choose_tau
from vrstc_jax.models.reid import ReidNet

pytestmark = pytest.mark.usefixtures("quick_compilation")

SIZE = SMOKE.reid.height, SMOKE.reid.width
# Cosines in float32, from convolutions that sum in another order at another batch size.
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def locator(quick_compilation):
    model = random_model()
    return Locator(SMOKE.reid, model.reid, len(model.identities))


@pytest.fixture(scope="module")
def frames():
    """41 frames, no two alike, of which one in five has something in front."""
    rng = np.random.default_rng(0)
    frames = figures(41, sizes=(SIZE,))
    for frame in frames[::5]:
        frame[rng.integers(SIZE[0] - 8):][:8] = rng.integers(0, 256, 3)
    return frames


@pytest.fixture(scope="module")
def maps(frames):
    """The network's feature maps of all frames, float64 [T, h, w, C]."""
    network = ReidNet(SMOKE.reid, 3)
    floats = np.stack(frames).astype(np.float32) / 127.5 - 1
    return np.asarray(jax.jit(lambda x: network.apply(random_model().reid, x, method="maps"))(floats),
                      np.float64)


def band_features(feature_map):
    """v^k by plain loops: three bands of equal height, a row that a border cuts counted by its parts."""
    rows, columns, channels = feature_map.shape
    bands = np.zeros((3, channels))
    for k in range(3):
        for third in range(k * rows, (k + 1) * rows):  # each row is three thirds, each band `rows` of them
            for column in range(columns):
                bands[k] += feature_map[third // 3, column] / (rows * columns)
    return bands


def scores_by_hand(maps):
    features = np.array([band_features(one) for one in maps])
    return np.array([[f[k] @ mean / np.sqrt((f[k] @ f[k]) * (mean @ mean)) for k, mean in enumerate(features.mean(0))]
                     for f in features])


@pytest.mark.parametrize("count", [1, 2, BATCH - 1, BATCH, BATCH + 1, 40])
def test_scores_are_equations_11_and_12(locator, frames, maps, count):
    scores = locator.scores(iter(frames[:count]))
    assert scores.shape == (count, 3) and scores.dtype == np.float32
    np.testing.assert_allclose(scores, scores_by_hand(maps[:count]), atol=TOLERANCE)


def test_scores_tell_something(maps):
    """Else agreement with the oracle would say little."""
    assert np.ptp(scores_by_hand(maps)) > 0.05


def test_no_frames(locator):
    assert locator.scores([]).shape == (0, 3)


def test_frames_of_other_sizes(locator, frames):
    """A crop enlarged without loss locates as the crop itself does."""
    enlarged = [np.repeat(np.repeat(frame, 3, 0), 2, 1) if i % 2 else frame for i, frame in enumerate(frames)]
    np.testing.assert_allclose(locator.scores(enlarged), locator.scores(frames), atol=TOLERANCE)


def test_an_occluder_lowers_its_band(locator):
    """What differs in one band of one frame alone lowers that score most."""
    frames = figures(20, sizes=(SIZE,))
    for band in range(3):
        shown = [frame.copy() for frame in frames]
        top = SIZE[0] * band // 3
        shown[7][top:top + SIZE[0] // 3] = (255, 0, 255)
        change = locator.scores(frames) - locator.scores(shown)
        assert np.unravel_index(change.argmax(), change.shape) == (7, band)


def test_agreement_with_nothing_is_zero():
    features = np.array([[[3.0, 4], [0, 0], [-1, 0]]], np.float32)
    mean = np.array([[4.0, 3], [1, 1], [1, 0]], np.float32)
    np.testing.assert_allclose(agreement(features, mean), [[24 / 25, 0, -1]], atol=1e-6)


class TestChooseTau:
    def test_the_given_share_of_bands_lies_below(self):
        rng = np.random.default_rng(0)
        scores = [rng.uniform(-1, 1, (count, 3)).astype(np.float32) for count in (10, 400, 57)]
        values = np.concatenate(scores).reshape(-1)
        for share in (0.02, 0.05, 0.5, 0.9):
            tau = choose_tau(scores, share)
            assert isinstance(tau, float)
            assert abs((values < tau).mean() - share) <= 1 / len(values)

    def test_by_hand(self):
        # Between the first and the second of five values lies a quarter of the way: 0.05 / 0.25 = 0.2 of it.
        assert choose_tau([np.array([[0.1, 0.3, 0.5]]), np.array([[0.7, 0.9]])], 0.05) == pytest.approx(0.14)

    @pytest.mark.parametrize("scores, quantile, said", [
        *(([np.ones((2, 3))], quantile, "quantile") for quantile in (0, 1, -0.1, 2, float("nan"))),
        ([], 0.05, "no scores"), ([np.zeros((0, 3))], 0.05, "no scores")])
    def test_what_is_refused(self, scores, quantile, said):
        with pytest.raises(ValueError, match=said):
            choose_tau(scores, quantile)
