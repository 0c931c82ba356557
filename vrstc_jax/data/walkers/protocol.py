"""Made-up walkers as a re-ID data set: disjoint people in training and test, queries and gallery by camera.

Queries are the test people in the first camera; the gallery has them in the other cameras, and distractors without a
query. The amount of occlusion is a level, from 'none' to 'persistent'.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from vrstc_jax.data.tracklets import Tracklet
from vrstc_jax.data.walkers.tracks import WalkerConfig, make_tracklets, people
from vrstc_jax.runtime.errors import InputError

# Level: (share of tracklets in which something hides the walker, share of these in which it does so most of the time).
OCCLUSION = {"none": (0.0, 0.0), "light": (0.4, 0.0), "usual": (0.8, 0.0), "heavy": (1.0, 0.3),
             "persistent": (1.0, 1.0)}


@dataclass(frozen=True)
class WalkerProtocol:
    """The numbers of people, cameras and frames, and the amount of occlusion.

    Attributes:
      train_people, test_people: numbers of people; nobody is in both.
      distractors: further people, in the gallery only.
      cameras: number of cameras; each sees everybody, and the first one's test tracklets are the queries.
      frames: in a tracklet.
      height, width: of the crops, in pixels.
      occlusion: level in `OCCLUSION`.
      seed: of everything random.

    Raises:
      InputError: an unknown level, or a number that is too small.
    """

    train_people: int = 120
    test_people: int = 80
    distractors: int = 40
    cameras: int = 2
    frames: int = 16
    height: int = 64
    width: int = 32
    occlusion: str = "usual"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.occlusion not in OCCLUSION:
            raise InputError(f"There is no occlusion level '{self.occlusion}'; choose one of {', '.join(OCCLUSION)}.")
        if self.cameras < 2:
            raise InputError(f"A query's person must be seen by another camera too: give at least 2 cameras. "
                             f"Got {self.cameras}.")
        for name, least in (("train_people", 1), ("test_people", 1), ("distractors", 0), ("frames", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name} must be at least {least}. Got {getattr(self, name)}.")


def walker_splits(protocol: WalkerProtocol) -> dict[str, list[Tracklet]]:
    """The tracklets of 'train', 'query' and 'gallery', with masks, truth and silhouettes, painted when indexed."""
    p = protocol
    share, persistent = OCCLUSION[p.occlusion]
    look = WalkerConfig(height=p.height, width=p.width, frames=p.frames, occlusion=share, persistent=persistent)

    def seen(who: Sequence[int]) -> list[Tracklet]:
        return make_tracklets(who, cameras=p.cameras, seed=p.seed, config=look)

    everybody = people("test", p.test_people + p.distractors)
    test, others = seen(everybody[:p.test_people]), seen(everybody[p.test_people:]) if p.distractors else []
    first = test[0].camera
    return {"train": seen(people("train", p.train_people)),
            "query": [tracklet for tracklet in test if tracklet.camera == first],
            "gallery": [tracklet for tracklet in [*test, *others] if tracklet.camera != first]}


def unoccluded(tracklet: Tracklet) -> Tracklet:
    """The same walker without occluders.

    Raises:
      ValueError: the tracklet has no truth.
    """
    if tracklet.truth is None:
        raise ValueError(f"tracklet {tracklet.name} needs its frames without occluders. Got no truth.")
    return dataclasses.replace(tracklet, frames=tracklet.truth, masks=None, truth=None)
