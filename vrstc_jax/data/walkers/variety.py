"""How much made-up walkers vary, kind by kind."""

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Variety:
    """Kinds of variation beyond the plain walkers', each on or off; a kind does not change what others draw.

    The plain walkers are for demonstrations and for testing: few looks, so that little training shows what it
    learns. With every kind on, real footage is meant to be one more variation.

    Attributes:
      people: clothes of any colour, builds, gaits, folds.
      places: backgrounds with sharp edges, textures, kerbs, tiles and shadows.
      bystanders: other people behind the walker.
      occluders: any colours, textures and shapes of what comes past.
      framing: boxes that are wide or narrow, tight or loose, that drift and breathe with the stride.
      pace: frame rates, turns, and people who stand.
      lens: the camera's resolution, blur, noise and sharpening.
      light: gamma, saturation, exposure, contrast and cast.
      compression: JPEG's.
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


KINDS = tuple(field.name for field in fields(Variety))
EVERY_KIND = Variety(**dict.fromkeys(KINDS, True))
