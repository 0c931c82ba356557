"""What the device reaches at best: operations a second of a large matrix product, bytes a second of a copy."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from tools.accelerator_report.plan import Size
from tools.rates import copy_rate, matrix_rate


def measure(size: Size) -> Iterator[dict[str, Any]]:
    """{'operations_per_second': {'float32', 'float32_highest', 'bfloat16'}, 'bytes_per_second', and the sizes}.

    'float32' is at JAX's default precision, which is TF32 on NVIDIA's GPUs and bfloat16 on TPUs, as in a training step.
    """
    rates: dict[str, float] = {}
    result = {"matrix": size.matrix, "copied_bytes": 4 * size.copied, "operations_per_second": rates}
    for name, dtype, precision in (("bfloat16", "bfloat16", "default"), ("float32", "float32", "default"),
                                   ("float32_highest", "float32", "highest")):
        with jax.default_matmul_precision(precision):
            rates[name] = matrix_rate(size.matrix, jnp.dtype(dtype))
        yield result
    yield result | {"bytes_per_second": copy_rate(size.copied)}
