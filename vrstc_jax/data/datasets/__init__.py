"""The public data sets of video person re-identification with their official splits, and folders in general.

Nothing is downloaded: each data set is read from the user's copy (TFDS's `manual_dir`). The error of a missing copy
says where to get the data set and how to lay it out.

    build("mars", "sets/mars", manual_dir="downloads/MARS")
    queries, gallery = read_set("sets/mars", "query"), read_set("sets/mars", "gallery")

Splits are 'train', 'query' and 'gallery'. Identities and cameras are text, as in the sources: junk is "-1", as
`vrstc_jax.evaluation.rank` expects. JPEG and PNG files are stored byte for byte. Importing this package also registers
the builders with TFDS: `tfds.builder("ilids_vid/split_3")`.

To add a data set, add one module to this package: a reader, a `ReidBuilder` around it, and `BUILDER = ` that class.
Its name is then one of `names()` and of the choices of `python -m experiments.vrstc --dataset`.

Not supported: Occluded-DukeMTMC-VideoReID (Hou et al., TPAMI 2021). Its authors' code (github.com/blue-blue272/
OccludedReID-RFCnet) has neither a list of its videos nor a loader for them, and no other public source was found that
shows its layout or counts. Owners of a copy can read it as 'folder' with a split file; or, if it has the layout of
DukeMTMC-VideoReID, as that with `check_counts=False`.
"""

import importlib
import os
import pkgutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tensorflow_datasets.core import constants
from tqdm import tqdm

from vrstc_jax.data.datasets.base import ReidBuilder, Splits
from vrstc_jax.data.datasets.dukemtmc_video_reid import DukemtmcVideoReid, read_dukemtmc_video_reid
from vrstc_jax.data.datasets.folder import Folder, read_folder_with_splits
from vrstc_jax.data.datasets.ilids_vid import IlidsVid, read_ilids_vid
from vrstc_jax.data.datasets.ls_vid import LsVid, read_ls_vid
from vrstc_jax.data.datasets.mars import Mars, read_mars
from vrstc_jax.data.tracklet_set import prepare_set, require_replaceable
from vrstc_jax.data.tracklets import Tracklet
from vrstc_jax.runtime.errors import InputError

# These names are public. A new module needs no entry: `_builders` finds it.
__all__ = ["DukemtmcVideoReid", "Folder", "IlidsVid", "LsVid", "Mars", "build", "gallery_with_queries",
           "names", "queries_in_official_gallery", "read", "read_dukemtmc_video_reid", "read_folder_with_splits",
           "read_ilids_vid", "read_ls_vid", "read_mars"]


def _builders() -> dict[str, type[ReidBuilder]]:
    """The builders by name: `BUILDER` of each module of this package that has one."""
    modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    return {module.BUILDER.name: module.BUILDER for module in modules if hasattr(module, "BUILDER")}


_builders()  # TFDS registers a builder when its module is imported.


def names() -> tuple[str, ...]:
    """The names that `build` takes, in alphabetical order."""
    return tuple(_builders())


def build(name: str, directory: str | Path, *, manual_dir: str | Path | None = None,
          progress: Callable[[int], object] | None = None, **options: Any) -> None:
    """Writes a data set to `directory`, for `tracklet_set.read_set` to open.

    Args:
      name: one of `names()`.
      directory: path of the set; a set that exists there is replaced when the new one is complete.
      manual_dir: the user's copy; None: TFDS's default, ~/tensorflow_datasets/downloads/manual.
      progress: called with the number of frames after each tracklet; None: shows a progress bar.
      options: of the reader: `check_counts` for all; `split` (1 to 10) for ilids_vid; `split_file` for folder.

    Raises:
      InputError: no such data set; `directory` holds something else; the copy is missing, incomplete, or
        inconsistent; one of its pictures cannot be read.
    """
    builder = _builder(name)
    require_replaceable(directory)  # before a copy of a million files is listed
    manual_dir = _manual_dir(manual_dir)
    splits = builder.read(manual_dir, **options)
    frames = sum(len(tracklet) for tracklets in splits.values() for tracklet in tracklets)
    if not frames:
        raise InputError(f"{os.fspath(manual_dir)}: there is no frame in any split; nothing was written.")
    with tqdm(total=frames, desc=f"storing {name}", unit="frame", dynamic_ncols=True,
              disable=progress is not None) as bar:
        prepare_set(directory, builder, tracklets=splits, progress=progress or bar.update,
                    **builder.config_for(options))


def read(name: str, *, manual_dir: str | Path | None = None, **options: Any) -> Splits:
    """The tracklets of each split as the user's copy has them now; arguments and errors as of `build`."""
    return _builder(name).read(_manual_dir(manual_dir), **options)


def _builder(name: str) -> type[ReidBuilder]:
    builders = _builders()
    if name not in builders:
        raise InputError(f"no data set {name!r}; there are {', '.join(builders)}.")
    return builders[name]


def _manual_dir(given: str | Path | None) -> str | Path:
    return Path(constants.DATA_DIR) / "downloads" / "manual" if given is None else given


def gallery_with_queries(query: Sequence[Tracklet], gallery: Sequence[Tracklet]) -> list[Tracklet]:
    """The queries joined to the gallery, queries first: MARS's official gallery, and the one used on LS-VID.

    A query's own entry has its person and camera, so ranking ignores it as junk and a query never finds itself.
    """
    return [*query, *gallery]


def queries_in_official_gallery(name: str) -> bool | None:
    """Whether the official protocol of a data set ranks `gallery_with_queries` (see `Mars`, `LsVid`).

    None where published results use the split 'gallery' alone.
    """
    builder = _builders().get(name)
    return None if builder is None else builder.queries_in_official_gallery
