"""Walkers painted by several processes, ahead of whoever reads them in order."""

import dataclasses
import multiprocessing
import os
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor

import numpy as np

from vrstc_jax.data.tracklets import LazySequence, Tracklet
from vrstc_jax.data.walkers.tracks import WalkerConfig, make_tracklet

_AHEAD = 8  # tracklets for each process


class PaintedAhead:
    """A context in which tracklets, read one after the other, are painted by all cores.

    with PaintedAhead(places, seed=0, config=config) as tracklets:
        write_set(path, tracklets)

    Args:
      places: (person, camera) of each tracklet; the tracklets are those of `make_tracklet`.
    """

    def __init__(self, places: Sequence[tuple[int, int]], *, seed: int, config: WalkerConfig):
        self._places, self._seed, self._config = list(places), seed, config
        self._waiting: dict[int, Future] = {}
        self._last: tuple[int, tuple] | None = None
        self._workers = os.cpu_count() or 1
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> list[Tracklet]:
        # A new interpreter for each: forking one that runs JAX's threads may hang.
        self._pool = ProcessPoolExecutor(self._workers, multiprocessing.get_context("spawn"), _end_with_the_reader)
        return [self._tracklet(number) for number in range(len(self._places))]

    def __exit__(self, *_):
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._waiting.clear()

    def _tracklet(self, number):
        whole = make_tracklet(*self._places[number], seed=self._seed, config=self._config)
        parts = [LazySequence(len(whole), lambda i, part=part: self._parts(number)[part][i]) for part in range(4)]
        return dataclasses.replace(whole, frames=parts[0], truth=parts[1], masks=parts[2], silhouettes=parts[3])

    def _parts(self, number):
        if self._last is None or self._last[0] != number:
            for ahead in range(number, min(number + _AHEAD * self._workers, len(self._places))):
                if ahead not in self._waiting:
                    self._waiting[ahead] = self._pool.submit(_paint, *self._places[ahead], self._seed, self._config)
            for passed in [n for n in self._waiting if n < number]:
                self._waiting.pop(passed).cancel()
            self._last = number, self._waiting.pop(number).result()
        return self._last[1]


def _end_with_the_reader():
    """A reader that is killed tells nobody; whoever waits for more to paint would wait, and hold memory, for ever."""
    def watch():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _paint(person, camera, seed, config):
    tracklet = make_tracklet(person, camera, seed=seed, config=config)
    return tuple(np.stack(part[:]) for part in (tracklet.frames, tracklet.truth, tracklet.masks,
                                                tracklet.silhouettes))
