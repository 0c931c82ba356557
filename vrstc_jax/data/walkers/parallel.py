"""Walkers painted by several processes, ahead of a reader that takes them in order."""

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

_Parts = tuple[np.ndarray, ...]  # frames, truth, masks, silhouettes


class PaintedInParallel:
    """A context in which tracklets, read one after the other, are painted on all cores.

    with PaintedInParallel([(0, 0), (0, 1)], seed=0, config=config) as tracklets:
        write_set(path, tracklets)

    Args:
      passages: (person, camera) of each tracklet, which equals that of `make_tracklet`.
    """

    def __init__(self, passages: Sequence[tuple[int, int]], *, seed: int, config: WalkerConfig):
        self._passages, self._seed, self._config = list(passages), seed, config
        self._waiting: dict[int, Future[_Parts]] = {}
        self._current: tuple[int, _Parts] = (-1, ())
        self._processes = os.cpu_count() or 1

    def __enter__(self) -> list[Tracklet]:
        # Each worker is a new interpreter: forking a process that runs JAX's threads may deadlock.
        self._pool = ProcessPoolExecutor(self._processes, multiprocessing.get_context("spawn"), _exit_with_parent)
        return [self._tracklet(number) for number in range(len(self._passages))]

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._waiting.clear()

    def _tracklet(self, number: int) -> Tracklet:
        whole = make_tracklet(*self._passages[number], seed=self._seed, config=self._config)
        parts = [LazySequence(len(whole), lambda i, part=part: self._parts(number)[part][i]) for part in range(4)]
        return dataclasses.replace(whole, frames=parts[0], truth=parts[1], masks=parts[2], silhouettes=parts[3])

    def _parts(self, number: int) -> _Parts:
        """The painted parts of a tracklet; also submits those that follow it, and drops those before it."""
        if self._current[0] != number:
            for ahead in range(number, min(number + _AHEAD * self._processes, len(self._passages))):
                if ahead not in self._waiting:
                    self._waiting[ahead] = self._pool.submit(_paint, *self._passages[ahead], self._seed, self._config)
            for passed in [n for n in self._waiting if n < number]:
                self._waiting.pop(passed).cancel()
            self._current = number, self._waiting.pop(number).result()
        return self._current[1]


def _exit_with_parent() -> None:
    """Ends this worker when its parent dies: killed, it cannot stop the workers, which would wait for ever."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _paint(person: int, camera: int, seed: int, config: WalkerConfig) -> _Parts:
    tracklet = make_tracklet(person, camera, seed=seed, config=config)
    return tuple(np.stack(part[:]) for part in (tracklet.frames, tracklet.truth, tracklet.masks, tracklet.silhouettes)
                 if part is not None)
