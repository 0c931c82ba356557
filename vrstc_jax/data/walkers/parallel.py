"""Paints walkers in several processes, ahead of a reader that takes them in order."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial

from vrstc_jax.data.tracklets import Tracklet
from vrstc_jax.data.walkers.tracks import Parts, WalkerConfig, paint, painted_tracklet

_AHEAD = 8  # tracklets for each process


class PaintedInParallel:
    """A context that paints tracklets on all cores while they are read one after the other.

    with PaintedInParallel([(0, 0), (0, 1)], seed=0, config=config) as tracklets:
        write_set(path, tracklets)

    Args:
      passages: (person, camera) of each tracklet; tracklets equal those of `make_tracklet`.
    """

    def __init__(self, passages: Sequence[tuple[int, int]], *, seed: int, config: WalkerConfig):
        self._passages, self._seed, self._config = list(passages), seed, config
        self._waiting: dict[int, Future[Parts]] = {}
        self._current: tuple[int, Parts] = (-1, ())
        self._processes = os.cpu_count() or 1

    def __enter__(self) -> list[Tracklet]:
        # Each worker is a new interpreter: forking a process that runs JAX's threads may deadlock.
        self._pool = ProcessPoolExecutor(self._processes, multiprocessing.get_context("spawn"), _exit_with_parent)
        return [painted_tracklet(*passage, self._config, partial(self._parts, number))
                for number, passage in enumerate(self._passages)]

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._waiting.clear()

    def _parts(self, number: int) -> Parts:
        """The painted parts of a tracklet; also submits the tracklets that follow it, and drops those before it."""
        # A tracklet is read frame by frame, so the parts of the current one are cached.
        if self._current[0] != number:
            for ahead in range(number, min(number + _AHEAD * self._processes, len(self._passages))):
                if ahead not in self._waiting:
                    self._waiting[ahead] = self._pool.submit(paint, *self._passages[ahead], self._seed, self._config)
            for passed in [n for n in self._waiting if n < number]:
                self._waiting.pop(passed).cancel()
            self._current = number, self._waiting.pop(number).result()
        return self._current[1]


def _exit_with_parent() -> None:
    """Ends this worker when its parent ends; a killed parent cannot stop its workers, which would wait for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the parent answers it, and ends its workers
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
