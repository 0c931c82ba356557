"""What the tests of the attention op run, compiled once for each form of it, and the values that go in."""

from dataclasses import dataclass, replace
from functools import partial

import jax
import numpy as np
from jax.extend.core import jaxprs_in_params

from vrstc_jax.attention import attention_weights, temporal_attention

# The XLA for CPU of JAX 0.10 compiles small programs three times as fast without these, to the same numbers but for
# rounding; tests that use `full_compilation` leave them in. Later ones have no such option.
_QUICK = {"xla_cpu_use_fusion_emitters": False} if jax.__version_info__ < (0, 11) else None
compiled_quickly = partial(jax.jit, compiler_options=_QUICK)


def op_and_gradients(given, cotangent, *, size=3, block=None):
    """(the op's result, the gradients of what was given except a mask).

    `given` has current and adjacent and may have payload, scale and mask; whatever it has is traced.
    """
    mask = given.get("mask")

    def op(given):
        given = dict(given)
        options = {"payload": given.pop("payload", None), "softmax_scale": given.pop("scale", 10.0)}
        return temporal_attention(**given, adjacent_mask=mask, patch_size=size, block_size=block, **options)

    out, pullback = jax.vjp(op, {name: x for name, x in given.items() if name != "mask"})
    return out, pullback(cotangent)[0]


run = compiled_quickly(op_and_gradients, static_argnames=("size", "block"))


@partial(compiled_quickly, static_argnames="size")
def weights_of(given, *, size=3):
    """`attention_weights` of what `op_and_gradients` takes; a payload does not change them."""
    return attention_weights(given["current"], given["adjacent"], adjacent_mask=given.get("mask"),
                             softmax_scale=given.get("scale", 10.0), patch_size=size)


def operations(function, *arguments):
    """What a program consists of, the programs inside of it too: JAX's equations."""
    def within(jaxpr):
        for equation in jaxpr.eqns:
            yield equation
            for inner in jaxprs_in_params(equation.params):
                yield from within(inner)

    return list(within(jax.make_jaxpr(function)(*arguments).jaxpr))


@dataclass(frozen=True)
class Form:
    """The shapes and static options of the op: what a compiled program is for."""

    name: str
    current: tuple
    adjacent: tuple
    size: int
    payload: int | None = None  # channels
    block: int | None = None

    def __str__(self):
        return f"{self.name}, {f'{self.block} rows' if self.block else 'whole'}"

    @property
    def carried(self):
        return (*self.adjacent[:-1], self.payload or self.adjacent[-1])

    @property
    def result(self):
        return (*self.current[:2], self.carried[-1])

    def inputs(self, seed, *, masked=True):
        """(what is given to the op, a cotangent)."""
        current, adjacent, payload, cotangent = maps(seed, self.current, self.adjacent, self.carried,
                                                     self.result)
        given = {"current": current, "adjacent": adjacent, "scale": np.float32(10)}
        if self.payload:
            given["payload"] = payload
        if masked:
            given["mask"] = some_true(seed, self.adjacent[:-1])
        return given, cotangent

    def run(self, given, cotangent):
        return run(given, cotangent, size=self.size, block=self.block)

    def weights(self, given):
        return weights_of({name: x for name, x in given.items() if name != "payload"}, size=self.size)


ANOTHER_SIZE = Form("another size", (5, 7, 4), (6, 3, 4), 3)
THREE_FRAMES = Form("three frames", (5, 4, 3), (3, 5, 4, 3), 3, payload=2)
PATCH_OF_ONE = Form("patch of one", (4, 6, 5), (4, 6, 5), 1)
PATCH_OF_FIVE = Form("patch of five", (6, 5, 3), (2, 7, 4, 3), 5, payload=5)
PATCH_LARGER_THAN_MAPS = Form("patch larger than both maps", (2, 1, 3), (1, 2, 3), 5)
WHOLE = (ANOTHER_SIZE, THREE_FRAMES, PATCH_OF_ONE, PATCH_OF_FIVE, PATCH_LARGER_THAN_MAPS)
# 9 rows are more than any map has. Not all block sizes go with all shapes, since each is a compilation.
IN_BLOCKS = tuple(replace(form, block=rows) for form, rows in (
    (ANOTHER_SIZE, 1), (ANOTHER_SIZE, 9), (THREE_FRAMES, 3), (PATCH_OF_ONE, 3), (PATCH_OF_FIVE, 2),
    (PATCH_LARGER_THAN_MAPS, 1)))


def maps(seed, *shapes):
    """Float32 values as of a layer's features, an array for each shape."""
    random = np.random.default_rng(seed)
    return [random.standard_normal(shape).astype(np.float32) for shape in shapes]


def some_true(seed, shape):
    """A mask with trues and falses, and several frames all different."""
    mask = np.random.default_rng(seed).random(shape) < 0.6
    mask.flat[0], mask.flat[-1] = True, False
    return mask
