"""Locating what is hidden: how well each band of a frame agrees with its tracklet (equations 11, 12)."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import jax
import jax.numpy as jnp
import numpy as np

from vrstc_jax import config as configs
from vrstc_jax.models.reid import ReidNet
from vrstc_jax.ops.pictures import resize, to_float
from vrstc_jax.ops.regions import BANDS

_ROUNDS = 6  # in which the mean settles, where it prefers frames that agree
BATCH = 16  # frames a call: one compiled shape whatever a tracklet's length


class Locator:
    """Scores the bands of tracklets with a re-ID network.

    Args:
      variables: of `ReidNet`, with `identities` classes.

    Raises:
      ValueError: the config has a head for locating, and no loss that would have trained it.
    """

    def __init__(self, config: configs.Reid, variables: dict, identities: int):
        if config.locating_width and not config.locating_loss:
            raise ValueError("a head for locating (locating_width) is trained by the locating loss: locating_loss "
                             "must be above 0.")
        self._size, self._sharpness = (config.height, config.width), config.reference_sharpness
        self._head = bool(config.locating_width)
        self._variables = jax.device_put(variables)
        network = ReidNet(config, identities)

        @jax.jit
        def compared(variables, frames):
            if self._head:
                return network.apply(variables, to_float(frames), method="compared")
            bands = network.apply(variables, to_float(frames), method="bands")
            return bands, jnp.zeros(bands.shape[:-1])

        self._compared = compared
        self._hidden = jax.jit(lambda variables, *of: jax.nn.sigmoid(network.apply(variables, *of, method="hidden")))

    def scores(self, frames: Iterable[np.ndarray]) -> np.ndarray:
        """u_t^k of every band of a tracklet: uint8 frames [H_t, W_t, 3] to float32 [T, 3], in [−1, 1].

        With the config's `reference_sharpness` k above 0, an option on top of the paper, the mean that bands
        are compared with prefers frames that agree with it: it is made again from frames weighed by exp(k u),
        some times, so that it is less of what hides somebody for long. With a head (`locating_width`), another
        option, the mean is the head's and u is 1 − 2p, p being the share of the band that looks hidden.

        Features wait in a temporary file for the mean that they are compared with, so that memory does not
        grow with the tracklet.
        """
        with tempfile.TemporaryFile() as spool:
            total, weight = 0.0, 0.0
            for features, worth in self._features(frames):
                spool.write(features.tobytes())
                counts = np.exp(worth.astype(np.float64))[..., None]
                total, weight = total + (counts * features).sum(0), weight + counts.sum(0)
            if isinstance(total, float):
                return np.zeros((0, BANDS), np.float32)
            mean = (total / weight).astype(np.float32)

            def chunks():
                spool.seek(0)
                for chunk in iter(lambda: spool.read(BATCH * mean.nbytes), b""):
                    yield np.frombuffer(chunk, np.float32).reshape(-1, *mean.shape)

            if self._head:
                return np.concatenate([1 - 2 * self._share(features, mean) for features in chunks()])
            for _ in range(_ROUNDS if self._sharpness else 0):
                total, weight = 0.0, 0.0
                for features in chunks():
                    weights = np.exp(self._sharpness * (agreement(features, mean) - 1.0))[..., None]
                    total, weight = total + (weights * features).sum(0), weight + weights.sum(0)
                mean = (total / weight).astype(np.float32)
            return np.concatenate([agreement(features, mean) for features in chunks()])

    def _share(self, features, mean):
        padded = np.concatenate([features, np.repeat(features[-1:], BATCH - len(features), 0)])
        return np.asarray(self._hidden(self._variables, padded, mean))[:len(features)]

    def _features(self, frames) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        frames = iter(frames)
        while batch := [resize(frame, *self._size) for frame in islice(frames, BATCH)]:
            padded = np.stack(batch + batch[-1:] * (BATCH - len(batch)))
            yield tuple(np.asarray(part)[:len(batch)] for part in self._compared(self._variables, padded))


def agreement(features: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """cos(v_t^k, v̄^k) (equation 12): [T, 3, C] and [3, C] to float32 [T, 3]; 0 where a vector is zero."""
    norms = np.linalg.norm(features, axis=-1) * np.linalg.norm(mean, axis=-1)
    inner = np.einsum("tkc,kc->tk", features, mean)
    return np.divide(inner, norms, out=np.zeros_like(inner), where=norms > 0).astype(np.float32)


def choose_tau(scores: Sequence[np.ndarray], quantile: float) -> float:
    """The τ below which a given share of all bands of a set of tracklets lies.

    For features at hand that do not fit the paper's 0.89: how much cosines spread depends on the network.

    Args:
      scores: of each tracklet, [T, 3].
      quantile: the share of bands to call occluded, in (0, 1).

    Raises:
      ValueError: the quantile is not in (0, 1), or there are no scores.
    """
    if not 0 < quantile < 1:
        raise ValueError(f"quantile must lie between 0 and 1. Got {quantile}.")
    values = np.concatenate([np.asarray(s).reshape(-1) for s in scores]) if len(scores) else np.zeros(0)
    if not values.size:
        raise ValueError("there are no scores to choose tau from.")
    return float(np.quantile(values, quantile))
