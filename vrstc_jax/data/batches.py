"""Training examples from a set of tracklets, through grain.

A batch is a function of the seed and the step alone: examples are drawn from one seeded global order, and their
random numbers are seeded by their position in that order. An interrupted training therefore goes on with the batches
that it would have had. Each of several processes takes its rows of a batch; the batch does not depend on their number.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import cv2
import grain
import numpy as np

from vrstc_jax.config import ReidTask, STCnetTask, Training
from vrstc_jax.data.hiding import hide_on_purpose
from vrstc_jax.data.neighbours import choose_sides, unlikeness
from vrstc_jax.data.tracklet_set import TrackletSet
from vrstc_jax.ops.masks import random_mask
from vrstc_jax.ops.pictures import resize
from vrstc_jax.ops.regions import hidden_share
from vrstc_jax.runtime import distributed
from vrstc_jax.runtime.errors import InputError

_SHORTEST_EPOCH = 1000  # examples
_ENDLESS = 2**40  # examples; no training reads so many
_READING = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)

# Makes an example from an item, which is a tracklet's number or (number, frame), and a random generator.
_Example = Callable[[Any, np.random.Generator], dict[str, np.ndarray]]


@dataclass(frozen=True)
class TrainingFrames:
    """What training may use of a tracklet: its first record, its frames that nothing hides, its identity.

    Attributes:
      first: record of the tracklet's frame 0.
      frames: int [U], indices of unoccluded frames that are not held out, ascending.
      label: identity, from 0.
    """

    first: int
    frames: np.ndarray
    label: int


def stcnet_batches(data: TrackletSet, frames: Sequence[TrainingFrames], task: STCnetTask, *,
                   start: int = 0) -> Iterator[dict]:
    """Batches for STCnet's training, from step `start` on, without end.

    Args:
      frames: what training may use of each tracklet.

    Returns:
      Iterator of {'frames' uint8 [B, H, W, 3], 'masks' bool [B, H, W, 1], 'previous' and 'following'
      uint8 [B, T, H, W, 3], 'labels' int32 [B]}, B the task's batch divided by the number of processes: this
      process' rows (`distributed.rows_per_process`).

    Raises:
      InputError: no tracklet has two unoccluded frames, so none has a neighbour to learn from; or the batch does not
        divide by the number of processes.
    """
    items = [(k, i) for k, tracklet in enumerate(frames) if len(tracklet.frames) > 1 for i in tracklet.frames]
    if not items:
        raise InputError("No tracklet has two unoccluded frames, so there is nothing to learn from; "
                         "give longer tracklets, or a lower tau.")
    size, count = (task.stcnet.height, task.stcnet.width), task.stcnet.frames_per_side
    training = task.training

    def example(item, rng):
        tracklet, centre = frames[item[0]], item[1]
        run = int(rng.integers(1, task.masks.longest_run + 1))
        first = centre - int(rng.integers(run))
        mask = random_mask(rng, *size, kind=task.masks.kind)

        def unlike(others):
            thumbnails = np.stack([data.thumbnail(tracklet.first + i) for i in others])
            return unlikeness(data.thumbnail(tracklet.first + centre), mask, thumbnails)

        sides = partial(choose_sides, tracklet.frames, count=count, step=task.stcnet.frame_step,
                        reach=task.stcnet.neighbour_reach, unlike=unlike)
        # A long run may leave no neighbour, near a tracklet's ends or among held-out frames: then the frame alone.
        found = sides(first, first + run - 1) or sides(centre, centre)
        assert found, "a tracklet with two frames has a neighbour for each"
        indices = [centre, *found[0], *found[1]]
        flip = training.flip and rng.random() < 0.5
        pictures = [_prepared(data.frame(tracklet.first + i), size, flip, training.shift, rng) for i in indices]
        return {"frames": pictures[0], "masks": (mask[:, ::-1] if flip else mask)[..., None],
                "previous": np.stack(pictures[1:1 + count]), "following": np.stack(pictures[1 + count:]),
                "labels": np.int32(tracklet.label)}

    return _batches(items, example, task.seed, training.batch, start)


def reid_batches(data: TrackletSet, frames: Sequence[TrainingFrames], task: ReidTask, *,
                 start: int = 0) -> Iterator[dict]:
    """Batches for a re-ID network's training: clips of frames spread over a tracklet.

    A longer tracklet is drawn more often, though not in proportion. With `Training.each_once` each is drawn once an
    epoch (section 4.2 of the paper), in another order each time, and a batch may end one epoch and begin the next.
    With `Training.clips_per_identity` = K above 1, a batch has B/K people drawn at random, without repetition if the
    set has that many (Hermans et al. 2017). The K clips of a person follow each other, and are of K tracklets where
    the person has them.

    Args:
      frames: what training may use of each tracklet.

    Returns:
      Iterator of {'clips' uint8 [B, T, H, W, 3], 'labels' int32 [B]}; with a `locating_loss` also 'hidden'
      float32 [B, T, 3], the share of each band that was hidden on purpose, or is known to be; for a head that
      looks at all stages, where masks are known, also 'masks' bool [B, T, H, W], all that is hidden. B as in
      `stcnet_batches`.

    Raises:
      InputError: no tracklet has a frame, or the batch does not divide by K or by the number of
        processes.
    """
    network, training = task.network, task.training
    size, masked = (network.height, network.width), network.locating_masks

    def example(k, rng):
        tracklet = frames[k]
        # One frame from each of `clip` equal stretches (restricted random sampling).
        edges = np.linspace(0, len(tracklet.frames), network.clip + 1)
        chosen = [tracklet.frames[min(int(rng.uniform(a, b)), len(tracklet.frames) - 1)]
                  for a, b in zip(edges[:-1], edges[1:])]
        flip = training.flip and rng.random() < 0.5
        read = data.masked_frame if masked else data.frame
        clip = np.stack([_prepared(read(tracklet.first + i), size, flip, training.shift, rng) for i in chosen])
        built = {"clips": np.ascontiguousarray(clip[..., :3]), "labels": np.int32(tracklet.label)}
        hidden = np.zeros(clip.shape[:3], bool)
        if network.locating_loss:
            others = repeated[labels != tracklet.label]
            other = frames[rng.choice(others if len(others) else repeated)]
            passer = _prepared(data.frame(other.first + int(rng.choice(other.frames))), size, flip, 0.0, rng)
            built["clips"], hidden = hide_on_purpose(built["clips"], passer, rng)
            built["hidden"] = _shares(hidden)
        if masked:
            known = clip[..., 3] > 127
            built["hidden"] = np.maximum(built["hidden"], _shares(known))
            if network.locating_stages:
                built["masks"] = hidden | known
        return built

    # Each tracklet's number, as often as it is drawn.
    repeated = np.array([k for k, tracklet in enumerate(frames) if len(tracklet.frames)
                         for _ in range(1 if training.each_once else _repeats(tracklet, network.clip))], int)
    labels = np.array([frames[k].label for k in repeated], int)
    if not len(repeated):
        raise InputError("No tracklet has a frame to learn from; give other tracklets, or hold out fewer frames.")
    if training.clips_per_identity > 1:
        return _batches_of_people(frames, example, task.seed, training, start)
    draw = _batches_in_epochs if training.each_once else _batches
    return draw(repeated, example, task.seed, training.batch, start)


def _shares(masks: np.ndarray) -> np.ndarray:
    return np.stack([hidden_share(mask) for mask in masks]).astype(np.float32)


def _repeats(tracklet: TrainingFrames, clip: int) -> int:
    """Repeats per epoch; longer tracklets repeat more often."""
    return max(1, len(tracklet.frames) // (4 * clip))


def _batches_of_people(frames: Sequence[TrainingFrames], example: _Example, seed: int, training: Training,
                       start: int) -> Iterator[dict]:
    count = training.clips_per_identity
    if training.batch % count:
        raise InputError(f"The batch of {training.batch} does not divide by {count} clips of each person; "
                         "choose another batch or another clips_per_identity in the config.")
    tracklets: dict[int, list[int]] = {}
    for k, tracklet in enumerate(frames):
        if len(tracklet.frames):
            tracklets.setdefault(tracklet.label, []).append(k)
    people = list(tracklets.values())
    share = distributed.rows_per_process(training.batch)
    rows = slice(distributed.process_index() * share, (distributed.process_index() + 1) * share)

    def build(_, rng):
        wanted = training.batch // count
        examples = []
        for person in rng.choice(len(people), wanted, replace=wanted > len(people)):
            theirs = rng.permutation(people[person])
            # The batch shares one random generator, so every process builds all rows and keeps its own.
            examples += [example(theirs[i % len(theirs)], rng) for i in range(count)]
        return {name: np.stack([each[name] for each in examples[rows]]) for name in examples[0]}

    order = grain.MapDataset.range(_SHORTEST_EPOCH).seed(seed).repeat().random_map(build)
    return iter(order[start:].to_iter_dataset(_READING))


def _batches(items: Sequence | np.ndarray, example: _Example, seed: int, batch: int, start: int) -> Iterator[dict]:
    def build(position, rng):
        return example(items[position % len(items)], rng)

    # Starting an epoch costs grain a tenth of a second, so few items are repeated to make a long one.
    length = len(items) * max(1, _SHORTEST_EPOCH // len(items))
    order = grain.MapDataset.range(length).seed(seed).shuffle().repeat().random_map(build)
    return own_rows(order, batch, start)


def _batches_in_epochs(items: Sequence | np.ndarray, example: _Example, seed: int, batch: int,
                       start: int) -> Iterator[dict]:
    """As `_batches`, but each run of len(items) examples, from the first on, has every item once."""
    @lru_cache(maxsize=8)
    def order_of(epoch):
        return np.random.default_rng((seed, epoch)).permutation(len(items))

    def build(position, rng):
        epoch, index = divmod(position, len(items))
        return example(items[int(order_of(epoch)[index])], rng)

    order = grain.MapDataset.range(_ENDLESS).seed(seed).random_map(build)
    return own_rows(order, batch, start)


def made_up_batches(make: Callable[[np.random.Generator], dict], seed: int, batch: int, start: int) -> Iterator[dict]:
    """Batches of examples that `make` draws, each from a random generator of its own; `start` as of `own_rows`."""
    order = grain.MapDataset.range(_ENDLESS).seed(seed).random_map(lambda _, rng: make(rng))
    return own_rows(order, batch, start)


def own_rows(order: grain.MapDataset, batch: int, start: int) -> Iterator[dict]:
    """This process' rows of the batches that an order of examples is cut into, from batch `start` on.

    A process' rows are consecutive, so that devices hold the same rows for any number of processes.
    """
    shares = order.batch(distributed.rows_per_process(batch))
    return iter(shares[distributed.process_index()::distributed.process_count()][start:].to_iter_dataset(_READING))


def _prepared(image: np.ndarray, size: tuple[int, int], flip: bool, shift: float,
              rng: np.random.Generator) -> np.ndarray:
    """A crop at the network's size, shifted and scaled by up to `shift` of its size, as a tracker's boxes are."""
    height, width = image.shape[:2]
    if shift:
        zoom = 1 + rng.uniform(-shift, shift)
        dy, dx = rng.uniform(-shift, shift, 2) * (height, width) / 2
        # The shifted centre of the crop becomes the centre of the result; edges repeat.
        to_result = np.array([[size[1] / width * zoom, 0, 0], [0, size[0] / height * zoom, 0]])
        centre = np.array([width / 2 + dx, height / 2 + dy])
        to_result[:, 2] = np.array([size[1], size[0]]) / 2 - to_result[:, :2] @ centre
        # The warp would skip pixels of a large crop, so that is averaged first.
        if height > 2 * size[0]:
            image = resize(image, 2 * size[0], 2 * size[1])
            to_result[:, :2] *= (width / (2 * size[1]), height / (2 * size[0]))
        image = cv2.warpAffine(image, to_result, (size[1], size[0]), flags=cv2.INTER_LINEAR,
                               borderMode=cv2.BORDER_REPLICATE)
    else:
        image = resize(image, *size)
    return np.ascontiguousarray(image[:, ::-1]) if flip else image
