"""Locates hidden bands: scores how well each band of a frame agrees with its tracklet (equations 11, 12)."""

import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import IO, Any

import jax
import jax.numpy as jnp
import numpy as np

from vrstc_jax import config as configs
from vrstc_jax.inference.memory import Remembered, live_memory
from vrstc_jax.inference.padding import padded
from vrstc_jax.models.reid import ReidNet
from vrstc_jax.ops.pictures import resize, to_float
from vrstc_jax.ops.regions import BANDS
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.storage import temporary_room

_ROUNDS = 6  # enough for the weighted mean to converge
BATCH = 16  # frames per call: one compiled shape whatever a tracklet's length


class Locator:
    """Scores the bands of tracklets with a re-ID network.

    Args:
      variables: of `ReidNet`, with `identities` classes.

    Raises:
      ValueError: the config has a head for locating but no loss to train it.
    """

    def __init__(self, config: configs.Reid, variables: dict, identities: int):
        if config.locating_width and not config.locating_loss:
            raise ValueError("a head for locating (locating_width) is trained by the locating loss: locating_loss "
                             "must be above 0.")
        self._config = config
        self._variables = jax.device_put(variables)
        self._compared, self._hidden_share = _compiled(config, identities)

    def scores(self, frames: Iterable[np.ndarray]) -> np.ndarray:
        """u_t^k of every band of a tracklet: uint8 frames [H_t, W_t, 3] to float32 [T, 3], in [−1, 1].

        Two options go beyond the paper. With the config's `reference_sharpness` k above 0, the mean that bands are
        compared with is computed again, 6 times, with frames weighted by exp(k u), so that an occluder that stays for
        long counts less. With a head (`locating_width`), the mean is the head's and u is 1 − 2p, where p is the share
        of the band that looks hidden.

        Raises:
          InputError: the network computes values that are not finite.
        """
        scores = self._scores(frames)
        _require_finite(scores)
        return scores

    def _scores(self, frames: Iterable[np.ndarray]) -> np.ndarray:
        # Features wait in a file until the mean is known, so that memory does not grow with the tracklet.
        with temporary_room(), tempfile.TemporaryFile() as spool:
            mean = _weighted_mean(self._spooled(frames, spool))
            if mean is None:
                return np.zeros((0, BANDS), np.float32)
            shape = mean.shape
            mean = self._sharpened(mean, lambda: _chunks(spool, shape))
            return np.concatenate([self._against(features, mean) for features in _chunks(spool, shape)])

    def _sharpened(self, mean: np.ndarray, chunks: Callable[[], Iterable[np.ndarray]]) -> np.ndarray:
        """The mean with frames weighted by how well they agree with it, where the config asks for that."""
        sharpness = 0 if self._config.locating_width else self._config.reference_sharpness
        for _ in range(_ROUNDS if sharpness else 0):
            # exp(k (u − 1)) is at most 1; the constant factor cancels in the mean.
            again = _weighted_mean((features, np.exp(sharpness * (agreement(features, mean) - 1.0)))
                                   for features in chunks())
            assert again is not None  # there are frames
            mean = again
        return mean

    def _against(self, features: np.ndarray, mean: np.ndarray, batch: int = BATCH) -> np.ndarray:
        """Scores [n, 3] of at most `batch` frames with these features."""
        if not self._config.locating_width:
            return agreement(features, mean)
        padding = padded(features, batch - len(features))
        return 1 - 2 * np.asarray(self._hidden_share(self._variables, padding, mean))[:len(features)]

    def _spooled(self, frames: Iterable[np.ndarray], spool: IO[bytes]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(features [n, …, C], weights in the mean [n, …]) of n frames at a time; features go into `spool`."""
        frames, size = iter(frames), (self._config.height, self._config.width)
        while batch := [resize(frame, *size) for frame in islice(frames, BATCH)]:
            features, weights = self._features(np.stack(batch), BATCH - len(batch))
            spool.write(features.tobytes())
            yield features, weights

    def _features(self, frames: np.ndarray, pad: int) -> tuple[np.ndarray, np.ndarray]:
        """Features [n, …, C] of n resized frames and their weights in the mean [n, …]; `pad` fills up the call."""
        outputs = self._compared(self._variables, padded(frames, pad))
        features, logits = (np.asarray(part)[:len(frames)] for part in outputs)
        _require_finite(features, logits)  # `agreement` would give a vector that is not finite the score 0
        return features, np.exp(logits.astype(np.float64))


class LiveBands:
    """Scores the bands of frames as they come, by remembered earlier ones; the first agrees with itself."""

    def __init__(self, locator: Locator):
        self._locator = locator
        self._known: Remembered[tuple[np.ndarray, np.ndarray]] = Remembered(live_memory())

    def push(self, frame: np.ndarray) -> np.ndarray:
        """u_t^k of the next frame's bands, float32 [3], as of `Locator.scores`; raises what that raises."""
        locator = self._locator
        own = locator._features(resize(frame, locator._config.height, locator._config.width)[None], 0)
        self._known.add(own)
        features, weights = (np.concatenate(parts) for parts in zip(*(kept for _, kept in self._known.items())))
        mean = _weighted_mean([(features, weights)])
        assert mean is not None  # there is this frame
        scores = locator._against(own[0], locator._sharpened(mean, lambda: [features]), batch=1)[0]
        _require_finite(scores)
        return scores


def _require_finite(*arrays: np.ndarray) -> None:
    if not all(np.isfinite(array).all() for array in arrays):
        raise InputError("The re-ID network that locates gives values that are not finite, so nothing can be said of "
                         "what is hidden; use another model, or give masks.")


@lru_cache(maxsize=4)
def _compiled(config: configs.Reid, identities: int) -> tuple[Callable, Callable]:
    """(features and log weights of frames; the head's hidden share of bands), jitted."""
    # Cached, so that locators of one config compile them once.
    network = ReidNet(config, identities)

    @jax.jit
    def compared(variables, frames):
        if config.locating_width:
            return network.apply(variables, to_float(frames), method="compared")
        bands: Any = network.apply(variables, to_float(frames), method="bands")
        return bands, jnp.zeros(bands.shape[:-1])

    @jax.jit
    def hidden_share(variables, features, mean):
        logits: Any = network.apply(variables, features, mean, method="hidden")
        return jax.nn.sigmoid(logits)

    return compared, hidden_share


def _weighted_mean(parts: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray | None:
    """float32 […, C] from (features [n, …, C], weights [n, …]) of n frames at a time; None without frames."""
    total: Any = 0.0  # Python's zero takes the precision of what is added
    weight: Any = 0.0
    for features, weights in parts:
        weights = weights[..., None]
        total, weight = total + (weights * features).sum(0), weight + weights.sum(0)
    return None if isinstance(total, float) else (total / weight).astype(np.float32)


def _chunks(spool: IO[bytes], shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """The features in the temporary file, [n, *shape] for up to `BATCH` frames at a time."""
    spool.seek(0)
    size = BATCH * math.prod(shape) * np.dtype(np.float32).itemsize
    for chunk in iter(lambda: spool.read(size), b""):
        yield np.frombuffer(chunk, np.float32).reshape(-1, *shape)


def agreement(features: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """cos(v_t^k, v̄^k) (equation 12): [T, 3, C] and [3, C] to float32 [T, 3]; 0 where a vector is zero."""
    # Huge features end in scores that are not finite, which `Locator.scores` refuses.
    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.linalg.norm(features, axis=-1) * np.linalg.norm(mean, axis=-1)
        inner = np.einsum("tkc,kc->tk", features, mean)
        return np.divide(inner, norms, out=np.zeros_like(inner), where=norms > 0).astype(np.float32)


def choose_tau(scores: Sequence[np.ndarray], quantile: float) -> float:
    """Chooses the τ that a given share of all bands of a set of tracklets is below.

    The paper's 0.89 fits only its own features: how much cosines vary depends on the network.

    Args:
      scores: of each tracklet, [T, 3].
      quantile: the share of bands that count as hidden, in (0, 1).

    Raises:
      ValueError: the quantile is not in (0, 1), or there are no scores.
    """
    if not 0 < quantile < 1:
        raise ValueError(f"quantile must lie between 0 and 1. Got {quantile}.")
    values = np.concatenate([np.asarray(s).reshape(-1) for s in scores]) if len(scores) else np.zeros(0)
    if not values.size:
        raise ValueError("there are no scores to choose tau from.")
    return float(np.quantile(values, quantile))
