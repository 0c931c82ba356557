"""Computes distances by ASTPN's pair scorer, which compares pairs of tracklets; a single one has no feature."""

from collections.abc import Callable, Sequence
from functools import lru_cache

import jax
import numpy as np

from vrstc_jax import config as configs
from vrstc_jax.data.tracklets import Tracklet
from vrstc_jax.inference.features import checked_frame, kept_frames
from vrstc_jax.inference.padding import padded
from vrstc_jax.models.model_file import ReidModel
from vrstc_jax.models.reid import PairScorer
from vrstc_jax.ops.pictures import resize, to_float
from vrstc_jax.runtime.errors import InputError

_Rows = list[tuple[np.ndarray, np.ndarray]]  # (rows of tracklets [block, T, E], which are real bool [block, T])


def pair_distances(model: ReidModel, query: Sequence[Tracklet], gallery: Sequence[Tracklet], *,
                   block: int = 32) -> np.ndarray:
    """Distances of tracklets by a trained `reid.PairScorer`, float32 [Q, G].

    The network is recurrent over a tracklet's frames, so a tracklet is not cut into clips; shorter ones are padded.

    Args:
      query, gallery: tracklets, whose frames are uint8 [H_t, W_t, 3].
      block: queries, and gallery entries, compared at once.

    Raises:
      InputError: the model is no `PairScorer`; there is nothing to compare; or a tracklet has no frame, or others
        than uint8 [H, W, 3].
    """
    if model.network != "PairScorer":
        raise InputError(f"Pairs are compared by a PairScorer; a {model.network} has features of tracklets "
                         "(inference.features.tracklet_features).")
    if not query or not gallery:
        raise InputError(f"Pairs need queries and a gallery. Got {len(query)} and {len(gallery)} tracklets.")
    embed, between = _compiled(model.config, len(model.identities))
    size, variables = (model.config.height, model.config.width), jax.device_put(model.variables)
    longest = max(len(kept_frames(tracklet, tracklet.name)) for tracklet in [*query, *gallery])

    def rows(tracklets: Sequence[Tracklet]) -> _Rows:
        values, valid = [], np.zeros((len(tracklets), longest), bool)
        for i, tracklet in enumerate(tracklets):
            clip = np.zeros((longest, *size, 3), np.uint8)
            name = f"tracklet {tracklet.name}: frames"
            clip[:len(tracklet)] = [resize(checked_frame(np.asarray(frame), name), *size) for frame in tracklet.frames]
            valid[i, :len(tracklet)] = True
            values.append(np.asarray(embed(variables, clip[None], valid[i:i + 1]))[0])
        return _blocks(np.stack(values), valid, block)

    entries = rows(gallery)
    result = np.block([[np.asarray(between(variables, first, second, first_valid, second_valid))
                        for second, second_valid in entries] for first, first_valid in rows(query)])
    return result[:len(query), :len(gallery)]  # without the rows that fill the last blocks


@lru_cache(maxsize=4)
def _compiled(config: configs.Reid, identities: int) -> tuple[Callable, Callable]:
    """(rows of clips, distances of rows), jitted."""
    network = PairScorer(config, identities)

    @jax.jit
    def embed(variables, clips, valid):
        return network.apply(variables, to_float(clips), valid=valid, method="embed")

    @jax.jit
    def between(variables, first, second, first_valid, second_valid):
        return network.apply(variables, first, second, queries_valid=first_valid, gallery_valid=second_valid,
                             method="distances")

    return embed, between


def _blocks(values: np.ndarray, valid: np.ndarray, size: int) -> _Rows:
    """Cuts rows into blocks of one size; the last one is filled up with its last row."""
    values, valid = (padded(a, -len(values) % size) for a in (values, valid))
    return [(values[i:i + size], valid[i:i + size]) for i in range(0, len(values), size)]
