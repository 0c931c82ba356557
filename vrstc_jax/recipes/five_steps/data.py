"""Step 0's data: the splits of a stored set, and what the later steps need of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vrstc_jax.data.made_from import differing, listed
from vrstc_jax.data.tracklet_set import TrackletSet, read_set, sources_of
from vrstc_jax.data.tracklets import EncodedFrames, Tracklet
from vrstc_jax.evaluation import retrieval
from vrstc_jax.inference.results_folder import require_names
from vrstc_jax.recipes.five_steps.options import Options
from vrstc_jax.recipes.five_steps.ranking import tracklets_to_rank
from vrstc_jax.runtime.errors import InputError, warn

SPLITS = ("train", "query", "gallery")


@dataclass(frozen=True)
class DataSource:
    """Where step 0's data come from; calling it writes them.

    Attributes:
      write: writes the set to the path it is given, under another name first.
      read: the tracklets of each split as the source has them now.
    """

    write: Callable[[Path], None]
    read: Callable[[], Mapping[str, Sequence[Tracklet]]]

    def __call__(self, path: Path) -> None:
        self.write(path)


def read_splits(directory: str | Path) -> dict[str, TrackletSet]:
    """{'train', 'query', 'gallery'} of a stored set."""
    return {split: read_set(directory, split) for split in SPLITS}


def require_current(directory: Path, read: Callable[[], Mapping[str, Sequence[Tracklet]]]) -> None:
    """Checks that a stored set is what its source has now; one process calls it.

    Files are compared by size and time of change; where these differ, the pictures themselves decide. A source that
    cannot be read any more, and a set of an earlier version, get a warning: the set is used as it is.

    Args:
      read: the tracklets of each split of the source.

    Raises:
      InputError: tracklets changed, came or went.
    """
    stored = sources_of(directory)
    if not all(made_from for tracklets in stored.values() for made_from in tracklets.values()):
        warn(f"{directory}: is of an earlier version, which did not record what it was made from; changes of its "
             "source since then cannot be seen.")
        return
    try:
        now = read()
    except InputError as error:
        warn(f"{directory}: is used as it is, as its source cannot be read ({str(error).rstrip('.')}); changes of that "
             "cannot be seen.")
        return
    apart = []
    for split, tracklets in now.items():
        before = stored.get(split, {})
        found = {tracklet.name: tracklet for tracklet in tracklets if len(tracklet)}
        doubtful = differing(before, {name: tracklet.made_from for name, tracklet in found.items()})
        kept = {t.name: t for t in read_set(directory, split).tracklets} if doubtful else {}
        apart += [name for name in doubtful
                  if name not in found or name not in kept or not _same_pictures(found[name], kept[name])]
    if apart:
        raise InputError(f"{directory}: {len(apart)} of its tracklets changed since in its source {listed(apart)}; "
                         "take the steps again (--from data), or choose another directory.")


def _same_pictures(one: Tracklet, other: Tracklet) -> bool:
    if (one.frame_names, one.person, one.camera) != (other.frame_names, other.person, other.camera):
        return False
    first, second = one.frames, other.frames
    assert isinstance(first, EncodedFrames) and isinstance(second, EncodedFrames)
    return all(first.encoded(i) == second.encoded(i) for i in range(len(one)))


def require_trainable(sets: Mapping[str, TrackletSet], options: Options = Options()) -> None:
    """Checks what training, completing and ranking need of the data; no frame is read.

    Raises:
      InputError: a tracklet's person or camera is not known; there are not two people, or no two frames of a
        tracklet, to learn from; no query has a match in the gallery; a tracklet's name is reserved; or a tracklet
        has no masks, with `hidden='given'`.
    """
    train = sets["train"].tracklets
    retrieval.require_seen_by(train, "train")
    people = {tracklet.person for tracklet in train}
    if len(people) < 2:
        raise InputError(f"The split train has {len(train)} tracklets of {len(people)} people"
                         f"{''.join(f' ({person})' for person in people)}; telling people apart is learned from two "
                         "at least.")
    if max(map(len, train)) < 2:
        raise InputError(f"No tracklet of train has two frames (the first is {train[0].name}), so none has a "
                         "neighbour to complete from; give longer ones.")
    retrieval.require_rankable(*tracklets_to_rank(sets, options))
    for split, data in sets.items():
        require_names(data.tracklets, split=split)
        for tracklet in data.tracklets:
            if options.hidden == "given" and tracklet.masks is None:
                raise InputError(f"tracklet {tracklet.name} of {split}: has no masks, and the hidden parts are to be "
                                 "those of the masks; give masks, or locate (--hidden located).")
