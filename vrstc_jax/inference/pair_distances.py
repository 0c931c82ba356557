"""Distances by ASTPN's pair scorer, for which a tracklet has rows and no feature of its own."""

from collections.abc import Sequence

import jax
import numpy as np

from vrstc_jax.inference.features import checked_frame, kept_frames
from vrstc_jax.models.model_file import ReidModel
from vrstc_jax.models.reid import PairScorer
from vrstc_jax.ops.pictures import resize, to_float
from vrstc_jax.runtime.errors import InputError

_BLOCK = 32  # queries, and gallery entries, compared at once


def pair_distances(model: ReidModel, query: Sequence, gallery: Sequence) -> np.ndarray:
    """Distances of tracklets by a trained `reid.PairScorer`, float32 [Q, G].

    A tracklet's rows are recurrent, so it goes through whole; rows of tracklets of other lengths are padded.

    Args:
      query, gallery: tracklets, whose frames are uint8 [H_t, W_t, 3].

    Raises:
      InputError: the model is no `PairScorer`; there is nothing to compare; or a tracklet has no frame, or others
        than uint8 [H, W, 3].
    """
    if model.network != "PairScorer":
        raise InputError(f"Pairs are compared by a PairScorer; a {model.network} has features of tracklets "
                         "(evaluation.features.tracklet_features).")
    if not query or not gallery:
        raise InputError(f"Pairs need queries and a gallery. Got {len(query)} and {len(gallery)} tracklets.")
    network, size = PairScorer(model.config, len(model.identities)), (model.config.height, model.config.width)
    variables = jax.device_put(model.variables)
    longest = max(len(kept_frames(tracklet, tracklet.name)) for tracklet in [*query, *gallery])

    @jax.jit
    def embedded(variables, clips, valid):
        return network.apply(variables, to_float(clips), valid=valid, method="embed")

    @jax.jit
    def between(variables, first, second, first_valid, second_valid):
        return network.apply(variables, first, second, queries_valid=first_valid, gallery_valid=second_valid,
                             method="distances")

    def rows(tracklets):
        values, valid = [], np.zeros((len(tracklets), longest), bool)
        for i, tracklet in enumerate(tracklets):
            clip = np.zeros((longest, *size, 3), np.uint8)
            clip[:len(tracklet)] = [resize(checked_frame(frame, tracklet.name), *size)
                                    for frame in tracklet.frames]
            valid[i, :len(tracklet)] = True
            values.append(np.asarray(embedded(variables, clip[None], valid[i:i + 1]))[0])
        return _blocks(np.stack(values), valid)

    entries = rows(gallery)
    result = np.concatenate([
        np.concatenate([np.asarray(between(variables, first, second, first_valid, second_valid))
                        for second, second_valid in entries], axis=1)
        for first, first_valid in rows(query)])
    return result[:len(query), :len(gallery)]


def _blocks(values, valid):
    """Blocks of one size, the last one filled up with its last row."""
    pad = -len(values) % _BLOCK
    values, valid = (np.concatenate([a, np.repeat(a[-1:], pad, axis=0)]) for a in (values, valid))
    return [(values[i:i + _BLOCK], valid[i:i + _BLOCK]) for i in range(0, len(values), _BLOCK)]
