"""Shared parts of the readers of public data sets: find the folder, list frames, check known counts.

A reader is a function of the folder of the user's copy. It returns the tracklets of the splits 'train', 'query' and
'gallery' without decoding a picture; the TFDS builder around it stores them.
"""

import io
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from vrstc_jax.data.datasets.matlab import read_mat
from vrstc_jax.data.images import check_picture, encode_png, read_image
from vrstc_jax.data.inputs.picture_files import natural_key, picture_files
from vrstc_jax.data.made_from import digest, file_time
from vrstc_jax.data.tracklet_set import Builder
from vrstc_jax.data.tracklets import EncodedFrames, Tracklet
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.paths import require_name
from vrstc_jax.runtime.records import read_bytes
from vrstc_jax.runtime.storage import describe_error

_NOT_PEOPLE = {"-1", "0"}  # junk and distractors of MARS; not identities
_SHOWN = 5  # names in a message

Splits = dict[str, list[Tracklet]]


class ReidBuilder(Builder, skip_registration=True):
    """A TFDS builder of one data set, read from `manual_dir` by the class's `read`.

    Subclasses set `name`, `read`, `HOMEPAGE` and `MANUAL_DOWNLOAD_INSTRUCTIONS`; where publications differ in whether
    the gallery includes the queries, also `queries_in_official_gallery`.

    Args:
      tracklets: the result of `read`, if the caller has it already.
      progress: called with the number of frames after each tracklet.
      check_counts: whether the known numbers of tracklets, people and frames are required.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "The official splits, pictures as they are."}
    HOMEPAGE: ClassVar[str] = ""
    read: ClassVar[Callable[..., Splits]]
    queries_in_official_gallery: ClassVar[bool | None] = None

    def __init__(self, *, tracklets: Splits | None = None, progress: Callable[[int], object] | None = None,
                 check_counts: bool = True, **kwargs: Any):
        self._check_counts = check_counts
        self._already_read = tracklets is not None
        super().__init__(tracklets=tracklets, progress=progress, **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(builder=self, description=type(self).__doc__, homepage=self.HOMEPAGE,
                                     features=super()._info().features, disable_shuffling=True)

    def _options(self) -> dict[str, Any]:
        """The options of `read`."""
        return {"check_counts": self._check_counts}

    @classmethod
    def config_for(cls, options: Mapping[str, Any]) -> dict[str, str]:
        """The keyword `config` of the builder for these options of `read`; most data sets have no configs."""
        return {}

    def _tracklets_of_splits(self, dl_manager: tfds.download.DownloadManager) -> Mapping[str, Sequence[Tracklet]]:
        if self._already_read:
            return super()._tracklets_of_splits(dl_manager)
        try:
            folder = dl_manager.manual_dir
        except AssertionError as error:
            problem = str(error).partition(" Create it")[0]
            raise InputError(f"{problem} {self.MANUAL_DOWNLOAD_INSTRUCTIONS}") from None
        return type(self).read(folder, **self._options())


def find_root(manual_dir: str | Path, title: str, *, names: Iterable[str], needed: Sequence[str],
              instructions: str) -> Path:
    """Finds the folder of a data set: `manual_dir` itself, or a folder of one of `names` in it.

    Args:
      title: the data set's name in messages.
      needed: relative paths that must exist in it.
      instructions: a sentence on where to get the data set and how to lay it out.

    Raises:
      InputError: there is none, or something in it is missing.
    """
    top = Path(manual_dir)
    if not top.is_dir():
        raise InputError(f"{top}: no such folder, so no {title}. {instructions}")
    # The most complete of several candidates, so that the message lists what is really missing.
    root = max((top, *(top / name for name in names)),
               key=lambda folder: sum((folder / path).exists() for path in needed))
    missing = [path for path in needed if not (root / path).exists()]
    if missing:
        raise InputError(f"{root}: no complete {title}; missing: {', '.join(missing)}; "
                         f"found: {first_few(os.listdir(root))}. {instructions}")
    return root


def read_text(path: Path) -> str:
    """The text of a list that comes with a data set; what is no UTF-8 in it becomes the replacement character.

    Raises:
      InputError: it is no file, or cannot be read.
    """
    try:
        return read_bytes(path).decode("utf-8", "replace")
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({describe_error(error)}); unpack it again.") from None


def first_few(names: Iterable[str]) -> str:
    """The first five of some names in sorted order, for a message."""
    names = sorted(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) or "nothing") + more


def folders_in(directory: Path) -> list[str]:
    """The names of the folders in a folder, in natural order; hidden ones are skipped.

    Raises:
      InputError: the folder cannot be read.
    """
    try:
        # Hidden folders are those of version control and of file managers.
        found = [name for name in os.listdir(directory)
                 if not name.startswith(".") and os.path.isdir(os.path.join(directory, name))]
    except OSError as error:
        raise InputError(f"{directory}: cannot be read ({error.strerror}); give a folder that can be.") from None
    return sorted(found, key=natural_key)


def pictures_in(directory: Path, advice: str = "a tracklet needs some") -> list[str]:
    """The names of the picture files in a folder, in natural order.

    Raises:
      InputError: there are none, and `advice` is the end of the message; or two pictures have the same stem.
    """
    if files := sorted((path.name for path in picture_files(directory).values()), key=natural_key):
        return files
    inside = folders_in(directory)
    raise InputError(f"{directory}: no pictures{f', but {first_few(inside)}' if inside else ''}; {advice}.")


def one_camera(where: object, files: Iterable[str], camera_of: Callable[[str], str]) -> str:
    """The camera that all files of a tracklet name.

    Raises:
      InputError: they name two; `where` begins the message.
    """
    cameras = {camera_of(file): file for file in files}
    if len(cameras) > 1:
        raise InputError(f"{where}: one tracklet, but from two cameras: {' and '.join(cameras.values())}.")
    return next(iter(cameras))


def file_tracklet(name: str, directory: str | Path, file_names: Sequence[str], *, person: str, camera: str) -> Tracklet:
    """A tracklet of the files `file_names` in `directory`, in that order; a file is read when its frame is indexed.

    Raises:
      InputError: a name leads out of its folder.
    """
    for each in (name, *file_names):
        require_name(each, directory)
    # Kept apart: a path for each of MARS's million pictures would repeat the folder's.
    files = os.fspath(directory), tuple(file_names)
    # Not closures, so that a tracklet can be pickled and sent to another process.
    frames = EncodedFrames(len(files[1]), partial(_read, *files), partial(_encoded, *files))
    times = [[file, file_time(os.path.join(directory, file))] for file in files[1]]
    return Tracklet(name=name, frames=frames, frame_names=tuple(os.path.splitext(file)[0] for file in files[1]),
                    person=person, camera=camera, made_from=digest([person, camera, times]))


def _read(directory: str, names: Sequence[str], index: int) -> np.ndarray:
    return read_image(os.path.join(directory, names[index]))


def _encoded(directory: str, names: Sequence[str], index: int) -> bytes:
    """The file's bytes if it is an upright RGB picture in JPEG or PNG; else its picture as PNG."""
    path = os.path.join(directory, names[index])
    check_picture(path)
    data = Path(path).read_bytes()
    with Image.open(io.BytesIO(data)) as image:
        plain = image.format in ("JPEG", "PNG") and image.mode == "RGB"
        upright = image.getexif().get(0x0112, 1) == 1
    # TFDS's decoder ignores EXIF orientation, and TFDS stores pictures as JPEG or PNG only.
    return data if plain and upright else encode_png(read_image(path))


def queries_and_gallery(path: Path, variable: str, test: Sequence[Tracklet]) -> tuple[list[Tracklet], list[Tracklet]]:
    """Splits test tracklets into the queries, whose numbers from 1 a .mat file has, and the other tracklets.

    The gallery of MARS and LS-VID includes the queries in some publications; `gallery_with_queries` joins them.

    Raises:
      InputError: a number is beyond the tracklets, or is listed twice.
    """
    numbers = read_mat(path, variable)
    wrong = numbers[(numbers < 1) | (numbers > len(test))]
    if len(wrong):
        raise InputError(f"{path}: {variable} has {wrong[0]}, of {len(test)} test tracklets; unpack it again.")
    found, times = np.unique(numbers, return_counts=True)
    if len(found) < len(numbers):
        raise InputError(f"{path}: {variable} has {found[times > 1][0]} more than once; unpack it again.")
    others = np.setdiff1d(np.arange(len(test)), numbers - 1)
    return [test[number - 1] for number in numbers], [test[row] for row in others]


def identities_in(tracklets: Iterable[Tracklet]) -> set[str]:
    """The identities of tracklets, without junk and distractors."""
    return {tracklet.person for tracklet in tracklets if tracklet.person is not None} - _NOT_PEOPLE


def counts_of(splits: Mapping[str, Sequence[Tracklet]],
              known: Mapping[str, Mapping[str, int]]) -> list[tuple[str, int, int]]:
    """Counts tracklets, people and frames of splits, for `require_counts`.

    Args:
      known: by split, the published numbers of any of 'tracklets', 'people' and 'frames'.

    Returns:
      (description, counted, known) for each number.
    """
    count = {"tracklets": len, "people": lambda tracklets: len(identities_in(tracklets)),
             "frames": lambda tracklets: sum(map(len, tracklets))}
    return [(f"{what} in {split}", count[what](splits[split]), number)
            for split, numbers in known.items() for what, number in numbers.items()]


def require_counts(root: Path, title: str, counts: Iterable[tuple[str, int, int]]) -> None:
    """Compares counts, (description, counted, known), with the known ones.

    An incomplete copy would give wrong results without an error.

    Raises:
      InputError: some differ; the message lists these, and by how much.
    """
    off = [f"{found} {what}, not {known} ({abs(found - known)} too {'many' if found > known else 'few'})"
           for what, found, known in counts if found != known]
    if off:
        raise InputError(f"{root}: is not the whole {title}: {'; '.join(off)}. Unpack it again, or give "
                         "check_counts=False to use it as it is.")


def require_disjoint_people(root: Path, splits: Mapping[str, Sequence[Tracklet]]) -> None:
    """Checks that training and testing share no person.

    Raises:
      InputError: they do.
    """
    both = identities_in(splits["train"]) & identities_in([*splits["query"], *splits["gallery"]])
    if both:
        raise InputError(f"{root}: {len(both)} people are in train and also in query or gallery: {first_few(both)}; "
                         "give each person to one side only.")
