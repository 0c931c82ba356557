"""What the report measures: its parts in order, each with its share of the time, and the two sizes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tools.attention_forms import Case
from tools.attention_timing import ISSUE, SMOKE
from vrstc_jax.config import SizeName

PARTS = {
    "peaks": 20,
    "attention-float32": 70,
    "training-bfloat16": 70,
    "parity-op": 20,
    "parity-networks": 60,
    "parity-step": 45,
    "training-float32": 60,
    "completing": 30,
    "twin-bfloat16": 50,
    "step-parts": 60,
    "attention-bfloat16": 60,
    "twin-float32": 50,
    "training-as_published": 50,
}
"""Each part's weight, about the seconds that it takes on an accelerator. A part's share of the time that is left is its
weight's share of the weights that are left, so what one part does not need the later ones have. What matters most comes
first."""


@dataclass(frozen=True)
class Options:
    """The options of the command.

    Attributes:
      output: folder of the report.
      minutes: time limit of the whole command.
      size: None: smoke on a CPU, full on other devices.
      parts: those to measure.
      anew: whether to discard what the folder has.
    """

    output: Path
    minutes: float = 8.0
    size: Literal["smoke", "full"] | None = None
    parts: tuple[str, ...] = tuple(PARTS)
    anew: bool = False


@dataclass(frozen=True)
class Size:
    """How large the measured things are.

    Attributes:
      matrix: side of the square matrices of the peaks.
      copied: float32 numbers of the array that is copied.
      cases: maps of the op's table.
      parity_cases: maps on which the op is compared with the CPU.
      config: size of the networks whose step is timed, and which are compared with the CPU after the smaller ones.
      as_published: size of the networks of the last part.
      parity_config: size of the networks that are compared with the CPU, and of the step that is.
      steps: timed steps.
      crops: crops to locate and to complete.
      models: 'default' is the model that comes with the package; others are sizes, with random weights.
      quick: whether to compile without most optimisations, to time the step without options beyond the paper, and to
        leave out torch.compile, since compilation is most of the time of small sizes. Figures then mean nothing.
    """

    matrix: int
    copied: int
    cases: Sequence[Case]
    parity_cases: Sequence[Case]
    config: SizeName
    as_published: SizeName
    parity_config: SizeName
    steps: int
    crops: int
    models: Sequence[str]
    quick: bool = False


SIZES = {
    "smoke": Size(matrix=512, copied=2**22, cases=SMOKE[:1], parity_cases=SMOKE[1:], config="smoke",
                  as_published="smoke", parity_config="smoke", steps=2, crops=24, models=("smoke",), quick=True),
    # The step that is compared is of size `small`: it has the options beyond the paper too, and compiles sooner.
    "full": Size(matrix=8192, copied=2**28, cases=ISSUE, parity_cases=(Case(2, 32, 16, 64, 1), Case(1, 32, 16, 64, 4)),
                 config="full", as_published="as_published", parity_config="small", steps=10, crops=512,
                 models=("default", "full")),
}
