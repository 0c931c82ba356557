"""Training examples from a set of tracklets, through grain.

A batch is a function of the seed and the step alone: examples are drawn from one seeded global order, and
what is random in an example is seeded by its place in that order. Going on after an interruption is starting
at a step. Of each batch a process of several takes its rows, and no other part of it changes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import grain
import numpy as np

from vrstc_jax import config as configs
from vrstc_jax.data.hiding import hide_on_purpose
from vrstc_jax.data.neighbours import choose_sides, unlikeness
from vrstc_jax.data.tracklet_set import TrackletSet
from vrstc_jax.ops.masks import random_mask
from vrstc_jax.ops.pictures import resize
from vrstc_jax.ops.regions import hidden_share
from vrstc_jax.runtime import distributed
from vrstc_jax.runtime.errors import InputError

_SHORTEST_EPOCH = 1000
_ENDLESS = 2**40  # examples, of a training
_READING = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)


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


def stcnet_batches(data: TrackletSet, usable: Sequence[TrainingFrames], config: configs.Config, *,
                   start: int = 0) -> Iterator[dict]:
    """Batches for STCnet's training, from step `start` on, without end.

    Returns:
      Iterator of {'frames' uint8 [B, H, W, 3], 'masks' bool [B, H, W, 1], 'previous' and 'following'
      uint8 [B, T, H, W, 3], 'labels' int32 [B]}, B the config's batch divided by the number of processes: this
      process' rows (`distributed.rows_per_process`).

    Raises:
      InputError: no tracklet has two unoccluded frames, so none has a neighbour to learn from; or the batch does not
        divide by the number of processes.
    """
    pairs = [(k, i) for k, tracklet in enumerate(usable) if len(tracklet.frames) > 1
             for i in tracklet.frames]
    if not pairs:
        raise InputError("No tracklet has two unoccluded frames, so there is nothing to learn from; "
                         "give longer tracklets, or a lower tau.")
    size = config.stcnet.height, config.stcnet.width
    training = config.stcnet_training

    def example(pair, rng):
        tracklet, centre = usable[pair[0]], pair[1]
        run = int(rng.integers(1, config.masks.longest_run + 1))
        first = centre - int(rng.integers(run))
        mask = random_mask(rng, *size, kind=config.masks.kind)

        def unlike(others):
            thumbnails = np.stack([data.thumbnail(tracklet.first + i) for i in others])
            return unlikeness(data.thumbnail(tracklet.first + centre), mask, thumbnails)

        # Near a tracklet's ends, or among held-out frames, a long run may leave no neighbour: a shorter one.
        found = (_sides(tracklet, first, first + run - 1, config.stcnet, unlike)
                 or _sides(tracklet, centre, centre, config.stcnet, unlike))
        indices = [centre, *found[0], *found[1]]
        flip = training.flip and rng.random() < 0.5
        pictures = [_prepared(data.frame(tracklet.first + i), size, flip, training.shift, rng)
                    for i in indices]
        count = config.stcnet.frames_per_side
        return {
            "frames": pictures[0],
            "masks": (mask[:, ::-1] if flip else mask)[..., None],
            "previous": np.stack(pictures[1:1 + count]),
            "following": np.stack(pictures[1 + count:]),
            "labels": np.int32(tracklet.label),
        }

    return _batches(pairs, example, config.seed, training.batch, start)


def reid_batches(data: TrackletSet, usable: Sequence[TrainingFrames], config: configs.Config, *,
                 start: int = 0) -> Iterator[dict]:
    """Batches for the re-ID network's training: clips of frames spread over a tracklet.

    A tracklet is drawn more often the longer it is, though not in proportion; with `Training.each_once` all are
    drawn once an epoch (section 4.2 of the paper), each epoch in an order of its own, and batches run on from
    one epoch to the next. With `Training.clips_per_identity` = K above 1, a batch is of B/K people drawn at
    random, each once where there are so many (Hermans et al. 2017), and the K clips of a person stand side by
    side: of K tracklets where the person has them.

    Returns:
      Iterator of {'clips' uint8 [B, T, H, W, 3], 'labels' int32 [B]}, and with a `locating_loss` 'hidden'
      float32 [B, T, 3], the share of each band that was hidden on purpose, or is known to be; for a head that
      looks at all stages, where masks are known, also 'masks' bool [B, T, H, W], all that is hidden. B as in
      `stcnet_batches`.

    Raises:
      InputError: no tracklet has a frame, or the batch does not divide by K or by the number of
        processes.
    """
    size = config.reid.height, config.reid.width
    training = config.reid_training

    def example(k, rng):
        tracklet = usable[k]
        # One frame from each of `clip` equal stretches (restricted random sampling).
        edges = np.linspace(0, len(tracklet.frames), config.reid.clip + 1)
        chosen = [tracklet.frames[min(int(rng.uniform(a, b)), len(tracklet.frames) - 1)]
                  for a, b in zip(edges[:-1], edges[1:])]
        flip = training.flip and rng.random() < 0.5
        masked = config.reid.locating_masks
        clip = np.stack([_prepared(data.masked_frame(tracklet.first + i) if masked else
                                   data.frame(tracklet.first + i), size, flip, training.shift, rng) for i in chosen])
        built = {"clips": np.ascontiguousarray(clip[..., :3]), "labels": np.int32(tracklet.label)}
        if config.reid.locating_loss:
            passers = turns[labels != tracklet.label]
            other = usable[rng.choice(passers if len(passers) else turns)]
            passer = _prepared(data.frame(other.first + int(rng.choice(other.frames))), size, flip, 0.0, rng)
            built["clips"], hidden = hide_on_purpose(built["clips"], passer, rng)
            built["hidden"] = _shares(hidden)
        if masked:
            known = clip[..., 3] > 127
            built["hidden"] = np.maximum(built["hidden"], _shares(known))
            if config.reid.locating_stages:
                built["masks"] = hidden | known
        return built

    turns = np.array([k for k, tracklet in enumerate(usable) if len(tracklet.frames)
                      for _ in range(1 if training.each_once else _turns(tracklet, config.reid.clip))], int)
    labels = np.array([usable[k].label for k in turns], int)
    if not len(turns):
        raise InputError("No tracklet has a frame to learn from.")
    if training.clips_per_identity > 1:
        return _batches_of_people(usable, example, config.seed + 1, training, start)
    if training.each_once:
        return _batches_in_epochs(turns, example, config.seed + 1, training.batch, start)
    return _batches(turns, example, config.seed + 1, training.batch, start)


def _shares(masks):
    return np.stack([hidden_share(mask) for mask in masks]).astype(np.float32)


def _turns(tracklet, clip):
    """How often a tracklet stands in the order: a long one more often than a short one."""
    return max(1, len(tracklet.frames) // (4 * clip))


def _batches_of_people(usable, example, seed, training, start):
    count = training.clips_per_identity
    if training.batch % count:
        raise InputError(f"The batch of {training.batch} does not divide by {count} clips of each person; "
                         "choose another batch or another clips_per_identity in the config.")
    tracklets = {}
    for k, tracklet in enumerate(usable):
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
            # One generator for the whole batch: the rows of other processes must be made to come to one's own.
            examples += [example(theirs[i % len(theirs)], rng) for i in range(count)]
        return {name: np.stack([each[name] for each in examples[rows]]) for name in examples[0]}

    order = grain.MapDataset.range(_SHORTEST_EPOCH).seed(seed).repeat().random_map(build)
    return iter(order[start:].to_iter_dataset(_READING))


def _sides(tracklet, first, last, config, unlike):
    return choose_sides(tracklet.frames, first, last, count=config.frames_per_side, step=config.frame_step,
                 reach=config.neighbour_reach, unlike=unlike)


def _batches(items, example, seed, batch, start):
    def build(position, rng):
        return example(items[position % len(items)], rng)

    # Starting an epoch costs grain a tenth of a second, so few items are laid end to end to a long one.
    length = len(items) * max(1, _SHORTEST_EPOCH // len(items))
    order = grain.MapDataset.range(length).seed(seed).shuffle().repeat().random_map(build)
    return _rows(order, batch, start)


def _batches_in_epochs(items, example, seed, batch, start):
    """As `_batches`, but each run of len(items) examples, from the first on, has every item once."""
    @lru_cache(maxsize=8)
    def order_of(epoch):
        return np.random.default_rng((seed, epoch)).permutation(len(items))

    def build(position, rng):
        epoch, place = divmod(position, len(items))
        return example(items[order_of(epoch)[place]], rng)

    order = grain.MapDataset.range(_ENDLESS).seed(seed).random_map(build)
    return _rows(order, batch, start)


def _rows(order, batch, start):
    """This process' rows of the batches that an order of examples falls into, from batch `start` on.

    They are neighbours in the batch, so that devices hold the same rows whatever the number of processes.
    """
    shares = order.batch(distributed.rows_per_process(batch))
    return iter(shares[distributed.process_index()::distributed.process_count()][start:].to_iter_dataset(_READING))


def _prepared(image, size, flip, shift, rng):
    """A crop at the network's size, with a little of the jitter that a tracker's boxes have."""
    height, width = image.shape[:2]
    if shift:
        zoom = 1 + rng.uniform(-shift, shift)
        dy, dx = rng.uniform(-shift, shift, 2) * (height, width) / 2
        # The crop's centre, moved, stays the centre of the result; edges repeat.
        to_result = np.array([[size[1] / width * zoom, 0, 0], [0, size[0] / height * zoom, 0]])
        centre = np.array([width / 2 + dx, height / 2 + dy])
        to_result[:, 2] = np.array([size[1], size[0]]) / 2 - to_result[:, :2] @ centre
        # Averaging first, so that the warp does not skip pixels of a large crop.
        if height > 2 * size[0]:
            image = resize(image, 2 * size[0], 2 * size[1])
            to_result[:, :2] *= (width / (2 * size[1]), height / (2 * size[0]))
        image = cv2.warpAffine(image, to_result, (size[1], size[0]), flags=cv2.INTER_LINEAR,
                               borderMode=cv2.BORDER_REPLICATE)
    else:
        image = resize(image, *size)
    return np.ascontiguousarray(image[:, ::-1]) if flip else image
