"""What identifies an experiment of five steps: its options, and the record in its work directory."""

import dataclasses
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, get_args

from vrstc_jax import config as configs
from vrstc_jax.config.method import Checked
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.workdir import completed

Step = Literal["data", "reid", "locate", "stcnet", "complete", "rank"]
STEPS: tuple[Step, ...] = get_args(Step)


@dataclass(frozen=True)
class Options(Checked):
    """How the steps are taken, beside the method's config.

    Attributes:
      hidden: what is completed: 'located', what step 2 finds hidden, or 'given', what the data's masks hide.
      compare: also train the final network on the data as they are, for the ranking before completion.
      queries_in_gallery: rank in a gallery that the queries have joined, as MARS's 11,310 do.
      queries_in_official_gallery: for a data set whose figures are published with both galleries: whether the
        queries are in the gallery of the official protocol. Queries are then ranked in both galleries, and
        results.json says which is official. None: they are ranked in the one gallery of `queries_in_gallery`.
      keep_folder: leave the completed frames as a folder of PNGs too, in the tree of the tracklets' names:
        WORK/completed_frames/<tracklet>/<frame>.png, and in WORK/completed_details what was hidden (masks/) and why
        (scores/). Where tracklets of two splits share a name, each split has such trees,
        WORK/completed_frames/<split>.

    Raises:
      InputError: `hidden` is another word.
    """

    hidden: Literal["located", "given"] = "located"
    compare: bool = True
    queries_in_gallery: bool = False
    queries_in_official_gallery: bool | None = None
    keep_folder: bool = False


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The fields in which the records of two experiments differ."""
    first, second = completed(one, complete_record), completed(other, complete_record)
    return [name for name in first | second if first.get(name) != second.get(name)]


def complete_record(record: dict[str, Any]) -> dict[str, Any]:
    """Fills in the fields that a record of an earlier version lacks, for `Workdir.claim`.

    The default of each such field is what the earlier version did.
    """
    known = {"config": configs.with_defaults, "options": lambda values: dataclasses.asdict(Options(**values))}
    whole = dict(record)
    for name in known.keys() & whole.keys():
        with suppress(InputError, TypeError):  # a later version's record stays as it is, so that it differs
            whole[name] = known[name](whole[name])
    return whole
