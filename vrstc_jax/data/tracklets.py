"""A tracklet: one person, followed by one camera for some frames.

All sources (a video with boxes, folders of frames, stored sets, made-up walkers) give this one type. A frame is read
each time it is indexed, so a tracklet may be larger than memory. Crops keep their own resolution, which may change
from frame to frame.

Pictures are uint8 [H_t, W_t, 3], RGB. Masks are bool [H_t, W_t], true where the person is hidden.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np

from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.names import is_utf8, shortened


class LazySequence(Sequence[np.ndarray]):
    """`length` arrays; indexing calls `read(index)`, and nothing is cached. Slices are lists of arrays.

    Attributes:
      items: what `over` was given; else empty.
      form: what `over` was given.
    """

    def __init__(self, length: int, read: Callable[[int], np.ndarray]):
        self._length = length
        self._read = read
        self.items: Sequence[Any] = ()
        self.form = ""

    @classmethod
    def over(cls, items: Sequence[Any], read: Callable[[Any], np.ndarray], *, form: str = "") -> Self:
        """One array for each item, made by `read(item)`; `form` says how, where the items alone do not decide it."""
        # Not a closure, so that a tracklet can be pickled and sent to another process.
        sequence = cls(len(items), partial(_read_item, items, read))
        sequence.items, sequence.form = items, form
        return sequence

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._length))]
        if not -self._length <= index < self._length:
            raise IndexError(index)
        return self._read(index % self._length)


def _read_item(items: Sequence[Any], read: Callable[[Any], np.ndarray], index: int) -> np.ndarray:
    return read(items[index])


class EncodedFrames(LazySequence):
    """Frames that are also available as the bytes of PNG or JPEG files, `encoded(index)`; sets store these unchanged.

    The network then sees the data set's own pixels, not those of a second compression.
    """

    def __init__(self, length: int, read: Callable[[int], np.ndarray], encoded: Callable[[int], bytes]):
        super().__init__(length, read)
        self.encoded = encoded


@dataclass(frozen=True, eq=False)
class Tracklet:
    """One person's frames and their annotations.

    Attributes:
      name: a relative path below which its results are written, such as '0001/c1/t3', or a track's number.
      frames: T pictures, uint8 [H_t, W_t, 3], RGB; usually a `LazySequence`.
      frame_names: T names, the stems of the files that results are written to, such as '000017'.
      person, camera: identities from the source, or None.
      masks: T masks, bool [H_t, W_t], true = hidden; None: hidden parts are located.
      truth: T pictures without the occluder, as made-up walkers have them; None: unknown.
      silhouettes: T masks of the whole person, its hidden parts included; None: unknown.
      boxes: float [T, 5] for crops of a video: frame number from 1, left, top, width, height in pixels
        of the picture, clipped to it.
      nearer: T maps, bool or float [h_t, w_t] over the whole crop, of any size: where boxes of people who stand nearer
        to the camera cover it; None: nobody's boxes are known.
      modal: T masks, bool [H_t, W_t], of what is seen of the person, from a segmentation tool; None: unknown.
      amodal: the same of the whole person, hidden parts too.
      warnings: irregularities of the source, one sentence each.
      made_from: a digest of the files of `frames` and `masks`, which changes when these do; None: unknown.

    Raises:
      ValueError: a field has another length than `frames`.
      InputError: a name is not UTF-8, so that no results could be written of it.
    """

    name: str
    frames: Sequence[np.ndarray]
    frame_names: tuple[str, ...]
    person: str | None = None
    camera: str | None = None
    masks: Sequence[np.ndarray] | None = None
    truth: Sequence[np.ndarray] | None = None
    silhouettes: Sequence[np.ndarray] | None = None
    boxes: np.ndarray | None = None
    nearer: Sequence[np.ndarray] | None = None
    modal: Sequence[np.ndarray] | None = None
    amodal: Sequence[np.ndarray] | None = None
    warnings: tuple[str, ...] = ()
    made_from: str | None = None

    def __post_init__(self) -> None:
        for name in (self.name, *self.frame_names):
            if not is_utf8(name):
                raise InputError(f"tracklet {self.name}: the name {shortened(name)} is not UTF-8; rename it.")
        for field in ("frame_names", "masks", "truth", "silhouettes", "boxes", "nearer", "modal", "amodal"):
            value = getattr(self, field)
            if value is not None and len(value) != len(self.frames):
                raise ValueError(f"tracklet {self.name}: {field} must have one item for each of the "
                                 f"{len(self.frames)} frames. Got {len(value)}.")

    def __len__(self) -> int:
        return len(self.frames)


def about_tracklet(name: str, warning: str) -> str:
    """A tracklet's warning with the name of the tracklet."""
    return f"Tracklet {name}: {warning}"
