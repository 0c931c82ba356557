"""The public sets of video person re-identification, with their official splits, and any folder.

None can be downloaded here: each reads the folder that the user has (TFDS' `manual_dir`), and says in its
error where to get it and how it must lie.

    build("mars", "sets/mars", manual_dir="downloads/MARS")
    queries, gallery = read_set("sets/mars", "query"), read_set("sets/mars", "gallery")

Splits are 'train', 'query' and 'gallery'; identities and cameras are text, as the sources have them, so
that junk is "-1" for `vrstc_jax.evaluation.rank`. Pictures are stored as they are, the JPEGs' bytes
untouched. Importing this package also makes the builders known to TFDS: `tfds.builder("ilids_vid/split_3")`.

Left out: Occluded-DukeMTMC-VideoReID (Hou et al., TPAMI 2021). Its authors' code (github.com/blue-blue272/
OccludedReID-RFCnet) has no list of its videos nor a loader for them, and no other public source was found
that shows its layout or counts. Those who hold it can give it as 'folder' with a split file; or, if it lies
as DukeMTMC-VideoReID does, as that with `check_counts=False`.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import tensorflow_datasets as tfds
from tqdm import tqdm

from vrstc_jax.data.datasets.base import ReidBuilder
from vrstc_jax.data.datasets.dukemtmc_video_reid import DukemtmcVideoReid, read_dukemtmc_video_reid
from vrstc_jax.data.datasets.folder import Folder, read_folder_with_splits
from vrstc_jax.data.datasets.ilids_vid import IlidsVid, read_ilids_vid
from vrstc_jax.data.datasets.ls_vid import LsVid, read_ls_vid
from vrstc_jax.data.datasets.mars import Mars, read_mars
from vrstc_jax.data.tracklet_set import prepare_set, require_replaceable
from vrstc_jax.runtime.errors import InputError

__all__ = ["DukemtmcVideoReid", "Folder", "IlidsVid", "LsVid", "Mars", "build", "gallery_with_queries",
           "names", "queries_in_official_gallery", "read_dukemtmc_video_reid", "read_folder_with_splits",
           "read_ilids_vid", "read_ls_vid", "read_mars"]

_BUILDERS: dict[str, type[ReidBuilder]] = {
    builder.name: builder for builder in (Mars, IlidsVid, DukemtmcVideoReid, LsVid, Folder)}


def names() -> tuple[str, ...]:
    """The names that `build` takes."""
    return tuple(_BUILDERS)


def build(name: str, directory, *, manual_dir=None, progress=None, **options) -> None:
    """Writes a data set to `directory`, under another name first; `tracklet_set.read_set` opens it.

    Args:
      name: one of `names()`.
      directory: where the set will stand; a set that is there is replaced.
      manual_dir: the folder that the user has; TFDS' usual place where it is not given.
      progress: called with the number of frames after each tracklet; a bar is shown where it is not given.
      options: of the reader: `check_counts` for all; `split` (1 to 10) for ilids_vid; `split_file` for
        folder.

    Raises:
      InputError: no such data set; `directory` holds something else; the folder is missing, incomplete, or
        wrong; one of its pictures cannot be read.
    """
    if name not in _BUILDERS:
        raise InputError(f"no data set {name!r}; there are {', '.join(_BUILDERS)}.")
    require_replaceable(directory)
    builder = _BUILDERS[name]
    if manual_dir is None:
        manual_dir = Path(tfds.core.constants.DATA_DIR) / "downloads" / "manual"
    splits = builder.read(manual_dir, **options)
    frames = sum(len(tracklet) for tracklets in splits.values() for tracklet in tracklets)
    if not frames:
        raise InputError(f"{os.fspath(manual_dir)}: there is no frame in any split; nothing was written.")
    with tqdm(total=frames, desc=f"storing {name}", unit="frame", dynamic_ncols=True,
              disable=progress is not None) as bar:
        prepare_set(directory, builder, tracklets=splits, progress=progress or bar.update,
                    **builder.config_for(options))


def gallery_with_queries(query: Sequence, gallery: Sequence) -> list:
    """The gallery joined to the queries, queries first: MARS' official gallery, and the one used on LS-VID.

    A query's own tracklet is junk to it, being of the same person and camera, so it does not find itself.
    """
    return [*query, *gallery]


def queries_in_official_gallery(name: str) -> bool | None:
    """Whether official practice on a data set ranks in `gallery_with_queries`, where both galleries are in use
    and published numbers differ by them (see `Mars`, `LsVid`); None where there is but the split 'gallery'."""
    return {"mars": True, "ls_vid": True}.get(name)
