"""What the readers of public data sets share: finding the folder, listing frames, checking what is known.

A reader is a function of the folder that the user has; it gives the tracklets of the splits 'train', 'query'
and 'gallery' without reading a picture. The TFDS builder around it stores them.
"""

import io
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from vrstc_jax.data.images import check_picture, encode_png, read_image
from vrstc_jax.data.tracklet_set import Builder, EncodedFrames
from vrstc_jax.data.tracklets import Tracklet
from vrstc_jax.runtime.errors import InputError

NOT_PEOPLE = ("-1", "0")  # MARS' junk and distractors: no identities
_SHOWN = 5

Splits = dict[str, list[Tracklet]]


class ReidBuilder(Builder, skip_registration=True):
    """A TFDS builder of one data set, read from `manual_dir` by the class's `read`.

    Args:
      check_counts: whether the known numbers of tracklets, people and frames must be met.
      tracklets: what `read` gave, where that is already done.
      progress: called with the number of frames after each tracklet.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "The official splits, pictures as they are."}
    HOMEPAGE: ClassVar[str] = ""
    read: ClassVar[Callable[..., Splits]]

    def __init__(self, *, tracklets: Splits | None = None, progress=None, check_counts: bool = True,
                 **kwargs):
        self._check_counts = check_counts
        self._read_already = tracklets is not None
        super().__init__(tracklets=tracklets, progress=progress, **kwargs)

    def _info(self):
        info = super()._info()
        return tfds.core.DatasetInfo(builder=self, description=type(self).__doc__, homepage=self.HOMEPAGE,
                                     features=info.features, disable_shuffling=True)

    def _options(self) -> dict:
        """The options of `read` beside the folder."""
        return {"check_counts": self._check_counts}

    @classmethod
    def config_for(cls, options: Mapping) -> dict:
        """What the builder is given as `config`, for these options of `read`; most have no configs."""
        return {}

    def _tracklets_of_splits(self, dl_manager):
        if self._read_already:
            return super()._tracklets_of_splits(dl_manager)
        try:
            folder = dl_manager.manual_dir
        except AssertionError as error:
            there = str(error).partition(" Create it")[0]
            raise InputError(f"{there} {self.MANUAL_DOWNLOAD_INSTRUCTIONS}") from None
        return type(self).read(folder, **self._options())


def find_root(manual_dir, title: str, *, names: Iterable[str], needed: Sequence[str],
              instructions: str) -> Path:
    """The folder in which a data set lies: `manual_dir` itself, or a folder of one of `names` in it.

    Args:
      title: how the data set is called in messages.
      needed: paths below it that must be there.
      instructions: a sentence on where to get it and how it must lie.

    Raises:
      InputError: there is none, or something in it is missing.
    """
    top = Path(manual_dir)
    if not top.is_dir():
        raise InputError(f"{top}: no such folder, so no {title}. {instructions}")
    root = max((top, *(top / name for name in names)),
               key=lambda folder: sum((folder / path).exists() for path in needed))
    missing = [path for path in needed if not (root / path).exists()]
    if missing:
        raise InputError(f"{root}: no complete {title}; missing: {', '.join(missing)}; "
                         f"found: {shown(os.listdir(root))}. {instructions}")
    return root


def shown(names: Iterable[str]) -> str:
    """The first few of some names, for a message."""
    names = sorted(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) or "nothing") + more


def natural(name: str):
    """A key that sorts digits by value: frame2 before frame10."""
    return [int(piece) if piece.isdigit() else piece for piece in re.split(r"([0-9]+)", name)], name


def folders_in(directory: Path) -> list[str]:
    """The names of the folders in a folder, in natural order; hidden ones are passed over.

    Raises:
      InputError: the folder cannot be read.
    """
    try:
        found = [entry.name for entry in os.scandir(directory)
                 if not entry.name.startswith(".") and entry.is_dir()]
    except OSError as error:
        raise InputError(f"{directory}: cannot be read ({error.strerror}).") from None
    return sorted(found, key=natural)


@dataclass(frozen=True)
class _Files:
    """Picture files of a folder; a class and not closures, so that workers can be sent it."""

    directory: str
    names: tuple[str, ...]

    def read(self, index: int) -> np.ndarray:
        return read_image(os.path.join(self.directory, self.names[index]))

    def encoded(self, index: int) -> bytes:
        """The file as it is, if that is an upright RGB picture in JPEG or PNG; else its picture as PNG."""
        path = os.path.join(self.directory, self.names[index])
        check_picture(path)
        with open(path, "rb") as file:
            data = file.read()
        with Image.open(io.BytesIO(data)) as image:
            plain = image.format in ("JPEG", "PNG") and image.mode == "RGB"
            upright = image.getexif().get(0x0112, 1) == 1
        return data if plain and upright else encode_png(read_image(path))


def file_tracklet(name: str, directory, file_names: Sequence[str], *, person: str, camera: str) -> Tracklet:
    """A tracklet of the files `file_names` in `directory`, in that order, read when they are asked for."""
    files = _Files(os.fspath(directory), tuple(file_names))
    return Tracklet(name=name, frames=EncodedFrames(len(files.names), files.read, files.encoded),
                    frame_names=tuple(os.path.splitext(file)[0] for file in files.names),
                    person=person, camera=camera)


def people(tracklets: Iterable[Tracklet]) -> set[str]:
    """The identities of tracklets, without junk and distractors."""
    return {tracklet.person for tracklet in tracklets} - set(NOT_PEOPLE)


def counts_of(splits: Mapping[str, Sequence[Tracklet]],
              known: Mapping[str, Mapping[str, int]]) -> list[tuple[str, int, int]]:
    """(what, counted, known) for the 'tracklets', 'people' and 'frames' that `known` has for the splits."""
    count = {"tracklets": len, "people": lambda tracklets: len(people(tracklets)),
             "frames": lambda tracklets: sum(map(len, tracklets))}
    return [(f"{what} in {split}", count[what](splits[split]), number)
            for split, numbers in known.items() for what, number in numbers.items()]


def require_counts(root, title: str, counts: Iterable[tuple[str, int, int]]) -> None:
    """Checks what was counted.

    Args:
      counts: (what, counted, known).

    Raises:
      InputError: some differ; the message has all that do, and by how much.
    """
    off = [f"{found} {what}, not {known} ({abs(found - known)} too {'many' if found > known else 'few'})"
           for what, found, known in counts if found != known]
    if off:
        raise InputError(f"{root}: is not the whole {title}: {'; '.join(off)}. Unpack it again, or give "
                         "check_counts=False to use it as it is.")


def require_disjoint_people(root, splits: Mapping[str, Sequence[Tracklet]]) -> None:
    """Checks that nobody is both in train and in query or gallery.

    Raises:
      InputError: somebody is.
    """
    both = people(splits["train"]) & (people(splits["query"]) | people(splits["gallery"]))
    if both:
        raise InputError(f"{root}: {len(both)} people are in train and also in query or gallery, which must "
                         f"not share any: {shown(both)}.")
