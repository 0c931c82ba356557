"""The kinds of variation of made-up walkers."""

from dataclasses import dataclass
from typing import Literal, get_args

# The order seeds each kind's draws: append new kinds, and keep the names, which records of runs hold.
Kind = Literal["people", "places", "bystanders", "occluders", "framing", "pace", "lens", "light", "compression"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Variety:
    """Kinds of variation beyond the plain walkers', each on or off.

    Each kind has its own random generator, so switching one on leaves the draws of the others unchanged, with two
    exceptions: `people` also draws the bystanders anew, and `pace` may change the occluders, which depend on the
    walker's speed.

    The plain walkers are for demonstrations and for testing: they look so similar that a short training suffices. With
    every kind on they vary so much that real footage should look like one more variation (domain randomisation).

    Attributes:
      people: clothes of any colour, builds, gaits, folds.
      places: backgrounds with sharp edges, textures, kerbs, tiles and shadows.
      bystanders: other people behind the walker.
      occluders: any colours, textures and shapes of occluders.
      framing: boxes that are wide or narrow, tight or loose, that drift and widen with the stride.
      pace: frame rates, turns, and people who stand still.
      lens: the camera's resolution, blur, noise and sharpening.
      light: gamma, saturation, exposure, contrast and cast.
      compression: JPEG.
    """

    people: bool = False
    places: bool = False
    bystanders: bool = False
    occluders: bool = False
    framing: bool = False
    pace: bool = False
    lens: bool = False
    light: bool = False
    compression: bool = False


EVERY_KIND = Variety(**dict.fromkeys(KINDS, True))
