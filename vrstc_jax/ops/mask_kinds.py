"""The names of the kinds of random masks (`ops.masks`), apart from what draws them, which needs OpenCV."""

from typing import Literal

MaskKind = Literal["bands", "mixed"]
