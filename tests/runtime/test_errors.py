"""The checks of numeric arguments."""

import math
from types import SimpleNamespace

import pytest
from refusals import refused

from vrstc_jax.runtime.errors import require_range

NAN = math.nan


@pytest.mark.parametrize("bounds, good, bad, wanted", [
    ({}, (1e-9, 1, 5), (0, -1, NAN, math.inf), "more than 0"),
    ({"below": 1}, (0.5,), (0, 1, NAN), "more than 0 and less than 1"),
    ({"most": 1}, (0.5, 1), (0, 1.5), "more than 0 and at most 1"),
    ({"least": 0}, (0, 3), (-1, NAN, math.inf), "0 or more"),
    ({"least": 0, "below": 1}, (0, 0.5), (1, -0.5), "0 or more and less than 1"),
    ({"above": -1}, (0,), (-1,), "more than -1")])
def test_ranges(bounds, good, bad, wanted):
    for value in (*good, None, (), good):
        require_range(SimpleNamespace(final_steps=value), "final_steps", **bounds)
    for value in bad:
        finite = "" if math.isfinite(value) else ", and finite"
        for given in (value, (*good, value)):
            with refused(f"--final-steps must be {wanted}{finite}. Got {value}."):
                require_range(SimpleNamespace(final_steps=given), "final_steps", **bounds)


def test_the_first_bad_one_of_several_is_named():
    with refused("--steps must be"):
        require_range(SimpleNamespace(batch=1, steps=0, seed=-1), "batch", "steps", "seed")
