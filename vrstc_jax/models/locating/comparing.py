"""How cells of frames compare: with those of other frames, with what is usual, and with those of their own frame."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vrstc_jax.models.locating.maps import shifted, unit

LEAST = 1e-6  # a weight, so that means of far frames are means too
_POWERS = -6.0, 3.0  # of means between a cell's best and its worst agreement, and its mean
_MOST = 8.0  # times the mean
_FLOOR = 0.05  # of the spread, of which agreement has about 0.2: what is less is noise


class Compared(NamedTuple):
    """All that is compared in a clip of T frames.

    Attributes:
      agreement: [S, h w, T, T], of each kind how well a place of each frame agrees with that of each other frame.
      within: [T, h w, h w, K], see `within_frames`.
      near: [T, T, 2], how near in time two frames are, see `relations`.
      seen: bool [T, T], whether a frame looks at another.
    """

    agreement: jax.Array
    within: jax.Array
    near: jax.Array
    seen: jax.Array


def agreement(match: jax.Array) -> jax.Array:
    """Cosines of each cell with its likest of the 3×3 cells around its place in every frame: [T, h, w, S, G] to
    [S, h w, T, T]."""
    count, height, width, stages, features = match.shape
    around = jnp.stack(shifted(match.reshape(count, height, width, -1)), 1)
    around = around.reshape(count, 9, height, width, stages, features).transpose(4, 2, 3, 0, 1, 5)
    around = around.reshape(stages, height * width, count * 9, features)
    own = match.transpose(3, 1, 2, 0, 4).reshape(stages, height * width, count, features)
    cosines = jnp.einsum("sptg,spkg->sptk", own, around)
    return cosines.reshape(stages, height * width, count, count, 9).max(-1)


def row_agreement(match: jax.Array, body: jax.Array) -> jax.Array:
    """Cosines of the person's rows, each with the likest of the three rows around its place in every frame: match
    [T, h, w, S, G] and how much each cell counts [T, h, w, 1] to [S, h w, T, T].

    A walker's cells change with each step, and rows less: from every side a coat has the same colour.
    """
    width = match.shape[2]
    rows = unit((match * body[..., None]).sum(2))
    padded = jnp.pad(rows, ((0, 0), (1, 1), (0, 0), (0, 0)))
    around = jnp.stack([padded[:, down:down + match.shape[1]] for down in range(3)])
    return jnp.repeat(jnp.einsum("thsg,rkhsg->shtkr", rows, around).max(-1), width, 1)


def within_frames(kinds: Sequence[jax.Array]) -> jax.Array:
    """Cosines of each two cells of a frame, [T, h, w, S, G] of several kinds to [T, h w, h w, all S + 1], and last the
    distance between them in cells, squared and negative."""
    count, height, width = kinds[0].shape[:3]
    cosines = [jnp.einsum("tpsg,tqsg->tpqs", *2 * [each.reshape(count, height * width, *each.shape[3:])])
               for each in kinds]
    place = jnp.stack(jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij"), -1).reshape(-1, 2)
    apart = -jnp.square(place[:, None] - place).sum(-1, dtype=jnp.float32)
    return jnp.concatenate([*cosines, jnp.broadcast_to(apart[..., None], (count, *apart.shape, 1))], -1)


def relations(agreement: jax.Array, worth: jax.Array, near: jax.Array, seen: jax.Array) -> jax.Array:
    """How much less each cell agrees with other frames than the same place of these does: [h w, T, 6 S].

    Some places never agree well, such as feet, and some footage nowhere. So it is not agreement that tells, but how it
    compares with what is usual at the place and in the clip.

    Args:
      agreement: [S, h w, T, T], cosines of a frame's cell (third axis) with those of other frames (last).
      worth: [h w, T], how much each frame's cell counts.
      near: [T, T, 2], 1 for frames at the same time, falling to 0, in two senses.
      seen: bool [T, T].
    """
    counted = jnp.where(seen, worth[:, None] + LEAST, 0.0)
    far = counted * (1 - near[..., 1] + LEAST)
    far, close = (weights / weights.sum(-1, keepdims=True) for weights in (far, counted * (near[..., 0] + LEAST)))
    present = seen.any(0)  # what nobody looks at changes nothing

    def of(cosines: jax.Array) -> jax.Array:
        unlike = 1 - cosines
        counts = seen & present[:, None]
        unlike /= jnp.where(counts, unlike, 0.0).sum() / (counts.sum() * len(unlike)) + 1e-2
        unlike = jnp.minimum(unlike, _MOST)  # in footage that stands still a trifle is many times what is usual
        least, most = (jnp.log((far * jnp.exp(power * unlike)).sum(-1) + 1e-9) / power for power in _POWERS)
        mean, now = ((weights * unlike).sum(-1) for weights in (far, close))
        told = jnp.stack([least, mean, most, now], -1)
        usual, spread = jax.lax.stop_gradient(_usual(told, present))
        off = told - usual
        return jnp.concatenate([jnp.clip(off / spread, -8, 8), least[..., None], (mean - now)[..., None]], -1)

    told = jax.vmap(of, out_axes=-2)(agreement)
    return told.reshape(*told.shape[:2], -1)


def _usual(told: jax.Array, present: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The median of numbers [h w, T, C] over the frames that are present, bool [T], at each place: [h w, 1, C], and of
    the differences from it, over all places too: [1, 1, C]. Medians, since in many clips something is hidden."""
    usual = _median(told, present[:, None], 1)
    off = jnp.abs(told - usual).reshape(1, -1, told.shape[-1])
    return usual, _median(off, jnp.tile(present, len(told))[:, None], 1) + _FLOOR


def _median(numbers: jax.Array, there: jax.Array, axis: int) -> jax.Array:
    """The lower median along an axis of the numbers that are there."""
    ordered = jnp.sort(jnp.where(there, numbers, jnp.inf), axis=axis)
    return jax.lax.dynamic_slice_in_dim(ordered, (there.sum() - 1) // 2, 1, axis)
