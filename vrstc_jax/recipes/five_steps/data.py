"""Step 0's data: the splits of a stored set, and what the later steps need of them."""

from collections.abc import Mapping
from pathlib import Path

from vrstc_jax.data.tracklet_set import TrackletSet, read_set
from vrstc_jax.evaluation import retrieval
from vrstc_jax.inference.results_folder import require_names
from vrstc_jax.recipes.five_steps.options import Options
from vrstc_jax.recipes.five_steps.ranking import tracklets_to_rank
from vrstc_jax.runtime.errors import InputError

SPLITS = ("train", "query", "gallery")


def read_splits(directory: str | Path) -> dict[str, TrackletSet]:
    """{'train', 'query', 'gallery'} of a stored set."""
    return {split: read_set(directory, split) for split in SPLITS}


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
