"""Layers that compute in a narrower type than their parameters have."""

from typing import Any

from flax.linen.dtypes import promote_dtype


def promote_all_but_bias(*arrays: Any, dtype: Any = None, **_: Any) -> list[Any]:
    """Inputs and kernel in `dtype`, and the bias in the parameters' type, which the result then has.

    Flax's layers take it as `promote_dtype`. A bias' gradient is a sum over all positions. In bfloat16, whose 8 bits
    are too few to add one more number to a sum of hundreds, XLA for CPU loses a tenth of it and more.
    """
    inputs, kernel, bias = arrays
    return [*promote_dtype(inputs, kernel, dtype=dtype), bias]
