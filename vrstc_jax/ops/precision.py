"""Computing in a narrower type than the parameters have."""

from flax.linen.dtypes import promote_dtype


def promote_all_but_bias(inputs, kernel, bias, *, dtype):
    """For Flax's layers, as their `promote_dtype`: the product is computed in `dtype`, and the bias is added in
    its own type, so that what comes out is of that type too.

    A bias' gradient is the sum of a gradient over all positions. In bfloat16, whose 8 bits are soon too few for
    adding one more number to a sum of hundreds, XLA for CPU loses a tenth of it and more.
    """
    return *promote_dtype(inputs, kernel, dtype=dtype), bias
