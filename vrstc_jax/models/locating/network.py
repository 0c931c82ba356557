"""Finds, for every frame of a clip, the person and what hides them, by comparing the frame with the others.

Each frame becomes maps at an eighth, a quarter and half of its resolution (`FrameMaps`). A cell of the coarsest map
looks for itself at the same place of all other frames, one cell farther at most. What agrees less with them than is
usual there (`comparing.relations`) hides the person. That is done twice: after the first time it is known which frames
are hidden there, and they count less in the second (`_Pass`). The finer maps then draw the edges.

A clip may have any number of frames in any order of time. Which frames a frame looks at is an argument; all frames that
any other looks at tell what is usual, so that live a frame is located in a clip of its own, with earlier ones.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vrstc_jax import config as configs
from vrstc_jax.models.locating import comparing
from vrstc_jax.models.locating.maps import (
    Conv3x3,
    block_means,
    coarser,
    colours,
    expanded,
    repeated,
    to_grid,
    unit,
)
from vrstc_jax.models.locating.stages import Stages
from vrstc_jax.ops.pixel_values import to_float

AMODAL, OCCLUDER, HIDDEN = range(3)
"""The channels of the logits: the whole person, what is in front of their place, and the person behind it."""
_NEAR = (1.5, 6.0)  # frames: how far apart in time two frames may be to be near, in two senses
_DILATIONS = 1, 2, 3
_UNSEEN = -1e9  # a logit
_BLIND = 0.5  # of the clips of a training, in which edges do without looks
_MISSING = 0.15  # of the kinds of agreement, in a training


class FrameMaps(NamedTuple):
    """What the network keeps of a frame, or of several: maps […, h, w, C].

    Attributes:
      edges: at half of the frame's resolution.
      middle: at a quarter.
      cells: at an eighth, as `match`.
      match: unit vectors […, h, w, S, G], one of each ImageNet stage, by which cells of frames are compared.
      colours: unit vectors […, h, w, 2, G], the colours of each cell and its nearer and farther surroundings.
    """

    edges: jax.Array
    middle: jax.Array
    cells: jax.Array
    match: jax.Array
    colours: jax.Array


class LocatingNet(nn.Module):
    """Frames to maps, one by one, and the maps of a clip to logits."""

    config: configs.Locating

    def setup(self):
        self.stages = Stages(self.config)
        self.frame = _Frame(self.config)
        self.clip = _Clip(self.config)

    def __call__(self, frames: jax.Array, nearer: jax.Array, offsets: jax.Array, seen: jax.Array) -> list[jax.Array]:
        """`maps` and `logits` of one clip."""
        return self.logits(self.maps(frames), nearer, offsets, seen)

    def maps(self, frames: jax.Array) -> FrameMaps:
        """Maps of frames uint8 [B, H, W, 3]."""
        return self.frame(jax.lax.stop_gradient(self.stages(frames)), to_float(frames))

    def stage_cells(self, frames: jax.Array) -> list[jax.Array]:
        """What `match` is made of: each stage's normalised maps on the grid of cells."""
        grid = self.config.height // 8, self.config.width // 8
        return [to_grid(jax.nn.standardize(maps, epsilon=1e-6), grid) for maps in self.stages(frames)]

    def logits(self, maps: FrameMaps, nearer: jax.Array, offsets: jax.Array, seen: jax.Array,
               first: int | None = None, train: bool = False) -> list[jax.Array]:
        """Logits of AMODAL, OCCLUDER and HIDDEN for the frames of one clip.

        Args:
          maps: of T frames.
          nearer: float [T, H/4, W/4, 2]: the share of each cell that boxes of nearer people cover, and 1 where these
            boxes are known, 0 where not.
          offsets: float [T, T]: of frame t (row) and s, the time of s minus that of t, in frames.
          seen: bool [T, T]: whether frame t looks at frame s.
          first: the finer logits are of so many first frames alone; None: of all.
          train: whether passes sometimes do without a kind of agreement, and edges without looks, by a random key
            'dropout'.

        Returns:
          Of the same maps at rising resolutions, float [T, h, w, 3], the last at H/2, W/2.
        """
        return self.clip(maps, nearer, offsets, seen, first, train)


def initial_parameters(config: configs.Locating, key: jax.Array) -> dict:
    """Fresh parameters of a `LocatingNet`, those of its ImageNet stages among them."""
    count, height, width = 2, config.height, config.width
    square = jnp.zeros((count, count))
    variables = LocatingNet(config).init(key, jnp.zeros((count, height, width, 3), jnp.uint8),
                                         jnp.zeros((count, height // 4, width // 4, 2)), square, square > 0)
    return dict(variables["params"])


class _Frame(nn.Module):
    """A frame's maps, from the ImageNet stages and, for its edges, from its own pixels."""

    config: configs.Locating

    @nn.compact
    def __call__(self, stages: Sequence[jax.Array], frames: jax.Array) -> FrameMaps:
        c = self.config
        edges = nn.relu(Conv3x3(c.edge_width, name="edges")(coarser(frames)))
        pixels = nn.relu(Conv3x3(c.maps_width // 2, name="pixels")(coarser(edges)))
        middle = nn.Dense(c.maps_width, name="middle_pixels")(pixels)
        grid, cell_grid = pixels.shape[-3:-1], tuple(size // 2 for size in pixels.shape[-3:-1])
        cells, match = jnp.zeros(()), []
        for i, maps in enumerate(stages):
            maps = jax.nn.standardize(maps, epsilon=1e-6)
            middle += to_grid(nn.Dense(c.maps_width, name=f"middle{i}")(maps), grid)
            on_cells = to_grid(maps, cell_grid)
            match.append(unit(nn.Dense(c.match_width, name=f"match{i}")(on_cells)))
            cells += nn.Dense(c.maps_width, name=f"cells{i}")(on_cells)
        middle = nn.relu(middle)
        middle += nn.relu(Conv3x3(c.maps_width, name="around")(middle))
        return FrameMaps(edges, middle, nn.relu(cells), jnp.stack(match, -2), colours(frames))


class _Clip(nn.Module):
    """What `LocatingNet.logits` computes."""

    config: configs.Locating

    @nn.compact
    def __call__(self, maps: FrameMaps, nearer: jax.Array, offsets: jax.Array, seen: jax.Array,
                 first: int | None, train: bool) -> list[jax.Array]:
        c = self.config
        seen = seen | ~seen.any(1, keepdims=True) & jnp.eye(len(seen), dtype=bool)  # a frame alone sees itself
        near = jnp.exp(-jnp.abs(offsets)[..., None] / jnp.array(_NEAR))
        boxes = jnp.concatenate([nearer, nearer[..., 1:] * (1 - nearer[..., :1])], -1)
        body = jax.nn.sigmoid(nn.Dense(1, kernel_init=nn.initializers.zeros, name="body")(maps.cells))
        kinds = maps.match, maps.colours
        agreement = jnp.concatenate([*(find(kind) for kind in kinds for find in (
            comparing.agreement, partial(comparing.row_agreement, body=body)))])
        compared = comparing.Compared(agreement, comparing.within_frames(kinds), near, seen)
        # The logit of a cell being worth a look, before anything is compared.
        first_worth = nn.Dense(1, kernel_init=nn.initializers.zeros, name="worth")(maps.cells)
        worth, state, coarse = first_worth, None, []
        weights = jnp.zeros(())
        for i in range(c.passes):
            state, logits, weights = _Pass(c, name=f"pass{i}")(
                maps, block_means(boxes, 2), compared, worth, state, train)
            coarse.append(logits)
            worth = first_worth + nn.Dense(1, kernel_init=nn.initializers.constant(-0.3), name=f"worth{i}")(coarse[-1])
        assert state is not None, "there is at least one pass"
        middle, edges = _Edges(c, name="edges")(maps, boxes, state, coarse[-1], weights, first, train)
        return [*coarse, middle, edges]


def _by_place(maps: jax.Array) -> jax.Array:
    """[T, h, w, C] to [h w, T, C]."""
    count, height, width, features = maps.shape
    return maps.transpose(1, 2, 0, 3).reshape(height * width, count, features)


def _by_frame(places: jax.Array, height: int) -> jax.Array:
    """[h w, T, C] to [T, h, w, C]."""
    area, count, features = places.shape
    return places.reshape(height, area // height, count, features).transpose(2, 0, 1, 3)


class _Pass(nn.Module):
    """Compares each cell with the same place of the frames that are worth it: (state [T, h, w, C], logits [T, h, w, 3],
    the weights of the frames looked at [h w, T, T]).

    What hides is decided by how well cells agree (`comparing.relations`), and not by what they look like: what painted
    people look like does not hold for real ones, and how a stranger differs from oneself does. Who the person is, is
    decided by looks.
    """

    config: configs.Locating

    @nn.compact
    def __call__(self, maps: FrameMaps, boxes: jax.Array, compared: comparing.Compared, worth: jax.Array,
                 state: jax.Array | None, train: bool) -> tuple[jax.Array, jax.Array, jax.Array]:
        c, cells, height = self.config, maps.cells, maps.cells.shape[1]
        agreement, within, near, seen = compared
        worth = _by_place(worth)[..., 0]  # [h w, T]
        sharpness = jnp.exp(self.param("log_sharpness", nn.initializers.constant(1.0), (len(agreement),)))
        alike = jnp.einsum("s,spqr->pqr", sharpness, agreement)
        time = nn.Dense(1, use_bias=False, name="time")(jnp.concatenate([near, near * near], -1))[..., 0]
        weights = jax.nn.softmax(jnp.where(seen, alike + worth[:, None] + time, _UNSEEN), -1)
        reference = _by_frame(jnp.einsum("pts,psd->ptd", weights, _by_place(cells)), height)
        told = _by_frame(comparing.relations(agreement, jax.nn.sigmoid(worth), near, seen), height)
        told = nn.Dropout(_MISSING, broadcast_dims=(0, 1, 2), deterministic=not train)(told)
        x = nn.relu(nn.Dense(c.hidden, name="compare")(
            jnp.concatenate([boxes, told, *([] if state is None else [state])], -1)))
        nearness = jnp.where(seen, near[..., 0] + comparing.LEAST, 0.0)
        nearness /= nearness.sum(1, keepdims=True)
        # What looks alike within a frame is one thing, of which some cells may tell more than others.
        kinship = self.param("kinship", lambda _: jnp.array([*[3.0] * (within.shape[-1] - 1), 0.1]))
        kin = jax.nn.softmax(within @ kinship, -1)
        for i, dilation in enumerate(_DILATIONS):
            y = nn.relu(Conv3x3(c.hidden, dilation=dilation, name=f"around{i}")(x))
            frames_near = jnp.einsum("ts,shwc->thwc", nearness, y[..., :c.hidden // 4])
            whole = nn.relu(nn.Dense(c.hidden // 4, name=f"whole{i}")(y.mean((1, 2), keepdims=True)))
            whole = jnp.broadcast_to(whole, (*y.shape[:3], c.hidden // 4))
            told_by_kin = y[..., -(c.hidden // 4):]
            told_by_kin = (kin @ told_by_kin.reshape(len(y), -1, c.hidden // 4)).reshape(told_by_kin.shape)
            x += nn.Dense(c.hidden, name=f"add{i}")(jnp.concatenate([y, frames_near, whole, told_by_kin], -1))
        state = nn.relu(x)
        looks = nn.relu(nn.Dense(c.hidden, name="looks")(jnp.concatenate([cells, reference], -1)))
        looks += nn.relu(Conv3x3(c.hidden, name="looks_around")(looks))
        person = nn.Dense(1, name="person")(looks)
        hides = nn.Dense(2, bias_init=nn.initializers.constant(-1.0), name="hides")(state)
        # Of the person that is hidden which what hides covers.
        hidden = hides[..., 1:] + nn.Dense(1, use_bias=False, kernel_init=nn.initializers.constant(0.5),
                                           name="of_person")(person)
        return state, jnp.concatenate([person, hides[..., :1], hidden], -1), weights


class _Edges(nn.Module):
    """Logits at a quarter and at half of the frames' resolution: the coarse ones, and what the edges add."""

    config: configs.Locating

    @nn.compact
    def __call__(self, maps: FrameMaps, boxes: jax.Array, state: jax.Array, coarse: jax.Array, weights: jax.Array,
                 first: int | None, train: bool) -> tuple[jax.Array, jax.Array]:
        c = self.config
        count, height, width, _ = maps.middle.shape
        shown = nn.Dense(c.maps_width // 2, name="shown")(maps.middle)
        # What the frames looked at show here: each place of the middle maps has the weights of its cell.
        weights = weights[:, :first].reshape(height // 2, width // 2, -1)
        weights = repeated(weights, (height, width)).reshape(height * width, -1, count)
        reference = _by_frame(jnp.einsum("pts,psd->ptd", weights, _by_place(shown)), height)
        maps, boxes, shown, state, coarse = jax.tree.map(lambda x: x[:first], (maps, boxes, shown, state, coarse))
        finer = expanded(nn.Dense(4 * (c.hidden // 2), name="finer")(state))
        looks = nn.Dropout(_BLIND, broadcast_dims=(0, 1, 2, 3), deterministic=not train)(
            jnp.concatenate([maps.middle, reference, jnp.abs(shown - reference), shown * reference], -1))
        x = nn.relu(nn.Dense(c.maps_width, name="compare")(jnp.concatenate([boxes, looks, finer], -1)))
        x += nn.relu(Conv3x3(c.maps_width, name="around")(x))
        middle = nn.Dense(3, kernel_init=nn.initializers.zeros, name="middle")(x) + _smoothly(coarse, (height, width))
        x = nn.relu(expanded(nn.Dense(4 * 24, name="finest")(x)))
        x = nn.relu(Conv3x3(24, name="edges0")(jnp.concatenate([x, maps.edges], -1)))
        grid = 2 * height, 2 * width
        finest = Conv3x3(3, zeros=True, name="edges1")(x) + _smoothly(middle, grid)
        scale = self.param("scale", nn.initializers.ones, (3,))
        return middle, finest * scale + self.param("shift", nn.initializers.zeros, (3,))


def _smoothly(maps: jax.Array, grid: tuple[int, int]) -> jax.Array:
    return jax.image.resize(maps, (len(maps), *grid, maps.shape[-1]), "linear")


def calibrated(params: dict, scales: Sequence[float], shifts: Sequence[float]) -> dict:
    """Parameters of a `LocatingNet` whose finest logits are those of `params`, scaled and shifted by channel."""
    by, to, edges = np.asarray(scales, np.float32), np.asarray(shifts, np.float32), params["clip"]["edges"]
    edges = edges | {"scale": edges["scale"] * by, "shift": edges["shift"] * by + to}
    return params | {"clip": params["clip"] | {"edges": edges}}
