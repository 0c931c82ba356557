"""Computing in a narrower type than that of the parameters."""

from typing import Any

from flax.linen.dtypes import promote_dtype


def promote_all_but_bias(*arrays: Any, dtype: Any = None, **_: Any) -> list[Any]:
    """For Flax's layers in place of their `promote_dtype`, which takes inputs, kernel and bias: the product is
    computed in `dtype`, and the bias is added in its own type, which then is the result's.

    A bias' gradient is the sum of a gradient over all positions. In bfloat16, whose 8 bits are too few to add one more
    number to a sum of hundreds, XLA for CPU loses a tenth of it and more.
    """
    inputs, kernel, bias = arrays
    return [*promote_dtype(inputs, kernel, dtype=dtype), bias]
