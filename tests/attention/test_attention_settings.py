"""The temporal attention op and its layers under each of JAX's settings, exported, and differentiated twice.

Settings that only matter while a program is traced are tested by tracing it. Differences are the largest over the
largest magnitude; the bounds in float32 are those of `test_attention.py`, 2e-6 for values and 1e-5 for gradients.
"""

from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attention_programs import (
    ANOTHER_SIZE,
    THREE_FRAMES,
    Form,
    compiled_quickly,
    op_and_gradients,
    operations,
    weights_of,
)
from comparing import difference
from flax import nnx
from jax import export
from jax.experimental import checkify
from literal_attention import literal_attention, literal_weights

from vrstc_jax.attention import TemporalAttention, attention_weights, temporal_attention
from vrstc_jax.attention import nnx as attention_nnx

pytestmark = pytest.mark.usefixtures("quick_compilation")

VALUES, GRADIENTS = 2e-6, 1e-5
TINY = Form("tiny", (2, 2, 2), (2, 2, 2, 2), 3, payload=1)
each_form = pytest.mark.parametrize("form", [THREE_FRAMES, replace(THREE_FRAMES, block=2)], ids=str)
IN_ROWS = replace(TINY, block=1)
# Blocks take longer to compile here.
each_tiny_form = pytest.mark.parametrize("form", [TINY, pytest.param(IN_ROWS, marks=pytest.mark.slow)], ids=str)

PROMOTION = {"rank": lambda: jax.numpy_rank_promotion("raise"), "type": lambda: jax.numpy_dtype_promotion("strict")}
each_promotion = pytest.mark.parametrize("setting", PROMOTION.values(), ids=PROMOTION.keys())


def compiled_anew(form):
    """The op and its gradients, not traced yet, so that settings which matter then are those of the call."""
    return compiled_quickly(partial(op_and_gradients, size=form.size, block=form.block))


def assert_close(got, wanted):
    (out, gradients), (wanted_out, wanted_gradients) = got, wanted
    assert difference(out, wanted_out) <= VALUES
    assert gradients.keys() == wanted_gradients.keys()
    for name, gradient in gradients.items():
        assert difference(gradient, wanted_gradients[name]) <= GRADIENTS, name


# Promotion of ranks and types.


@each_promotion
def test_the_settings_are_what_they_are_taken_for(setting):
    with setting(), pytest.raises(ValueError, match="promotion"):
        jnp.ones((2, 3)) + jnp.ones(3, jnp.bfloat16)


@each_form
@each_promotion
def test_neither_ranks_nor_types_are_promoted(setting, form):
    given, cotangent = form.inputs(0)
    with setting():
        got = compiled_anew(form)(given, cotangent)
    assert difference(got[0], literal_attention(**given, size=form.size)) <= VALUES
    assert_close(got, form.run(given, cotangent))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("block", [None, 2])
@each_promotion
def test_nor_in_half_precision(setting, block, dtype):
    def traced(current, adjacent, payload, scale, mask):
        op = partial(temporal_attention, block_size=block, adjacent_mask=mask)
        out, pullback = jax.vjp(lambda c, a, p, s: op(c, a, payload=p, softmax_scale=s),
                                current, adjacent, payload, scale)
        return out, attention_weights(current, adjacent, adjacent_mask=mask, softmax_scale=scale), pullback(out)

    half, mask = jax.ShapeDtypeStruct((5, 4, 3), dtype), jax.ShapeDtypeStruct((5, 4), bool)
    # A payload and a scale of other types are cast, which is no promotion.
    payload, scale = jax.ShapeDtypeStruct((5, 4, 2), np.float32), jax.ShapeDtypeStruct((), np.float32)
    with setting():
        out, weights, gradients = jax.eval_shape(traced, half, half, payload, scale, mask)
    assert (out.dtype, weights.dtype) == (dtype, np.float32)
    assert [gradient.dtype for gradient in gradients] == [dtype, dtype, np.float32, np.float32]


def test_maps_of_two_types_are_what_strict_promotion_forbids():
    wide, half = jax.ShapeDtypeStruct((5, 4, 3), np.float32), jax.ShapeDtypeStruct((5, 4, 3), jnp.bfloat16)
    assert jax.eval_shape(temporal_attention, half, wide).dtype == jnp.bfloat16
    with jax.numpy_dtype_promotion("strict"), pytest.raises(ValueError, match="bfloat16.*float32"):
        jax.eval_shape(temporal_attention, half, wide)


def linen_layer(arrays, options):
    layer = TemporalAttention(compared_features=4, carried_features=6)
    parameters = layer.init(jax.random.key(0), *arrays, **options)
    return jax.value_and_grad(lambda parameters: jnp.sum(layer.apply(parameters, *arrays, **options)))(parameters)


def nnx_layer(arrays, options):
    layer = attention_nnx.TemporalAttention(3, compared_features=4, carried_features=6, payload_features=2,
                                            rngs=nnx.Rngs(0))
    return nnx.value_and_grad(lambda layer: jnp.sum(layer(*arrays, **options)))(layer)


LAYER_SETTINGS = PROMOTION | {"64 bits": lambda: jax.enable_x64(True), "debugging NaN": lambda: jax.debug_nans(True)}


@pytest.mark.parametrize("layer", [linen_layer, nnx_layer])
@pytest.mark.parametrize("setting", LAYER_SETTINGS.values(), ids=LAYER_SETTINGS.keys())
def test_layers_train_under_each_setting(setting, layer):
    given, _ = THREE_FRAMES.inputs(1)
    batch = {name: np.stack([x] * 2) for name, x in given.items() if name != "scale"}
    arrays = batch["current"], batch["adjacent"]
    with setting():
        made = jax.eval_shape(partial(layer, arrays, {"adjacent_mask": batch["mask"], "payload": batch["payload"]}))
    assert {leaf.dtype for leaf in jax.tree.leaves(made)} == {np.dtype(np.float32)}


# 64 bits.


@pytest.mark.parametrize("scale", [10, 10.0, np.float64(10), np.int64(10), jnp.int32(10), True])
@pytest.mark.parametrize("block", [None, 2])
def test_with_64_bits_enabled_float32_stays_float32(block, scale):
    given, cotangent = THREE_FRAMES.inputs(2)
    del given["scale"]

    def program(given, cotangent):
        mask = given["mask"]
        def op(current, adjacent, payload):
            return temporal_attention(current, adjacent, payload=payload, adjacent_mask=mask, softmax_scale=scale,
                                      block_size=block)

        out, pullback = jax.vjp(op, given["current"], given["adjacent"], given["payload"])
        return out, attention_weights(given["current"], given["adjacent"], softmax_scale=scale), pullback(cotangent)

    with jax.enable_x64(True):
        assert jnp.ones(()).dtype == np.float64
        results = jax.eval_shape(program, given, cotangent)
        made = [array.aval for operation in operations(program, given, cotangent) for array in operation.outvars]
    assert {leaf.dtype for leaf in jax.tree.leaves(results)} == {np.dtype(np.float32)}
    # The scale itself is a float64 until it is cast.
    assert not [array for array in made if array.dtype == np.float64 and array.ndim]


@each_form
def test_float32_has_the_same_numbers_with_64_bits_enabled(form):
    given, cotangent = form.inputs(3)
    with jax.enable_x64(True):
        got = compiled_anew(form)(given, cotangent)
    assert {leaf.dtype for leaf in jax.tree.leaves(got)} == {np.dtype(np.float32)}
    assert_close(got, form.run(given, cotangent))


def slope(function, x, direction):
    """The derivative of a function of a dictionary of arrays along a direction, by central differences.

    Two steps of Richardson's extrapolation leave the sixth power of the step, 1e-13 of values near 1, and rounding
    divided by the step, 1e-13 again.
    """
    def difference(step):
        there, back = ({name: x[name] + sign * step * direction[name] for name in x} for sign in (1, -1))
        return (function(there) - function(back)) / (2 * step)

    first, second, third = difference(4e-3), difference(2e-3), difference(1e-3)
    return (16 * (4 * third - second) - (4 * second - first)) / 45


@each_form
def test_float64_has_float64s_accuracy(form):
    given, cotangent = form.inputs(4)
    mask = given.pop("mask")
    given, cotangent = {name: np.float64(x) for name, x in given.items()}, np.float64(cotangent)
    given["scale"] = np.float64(3)
    with jax.enable_x64(True):
        out, gradients = compiled_anew(form)(given | {"mask": mask}, cotangent)
        weights = weights_of(given | {"mask": mask}, size=form.size)
    assert {leaf.dtype for leaf in jax.tree.leaves((out, gradients, weights))} == {np.dtype(np.float64)}
    # float64's unit is 2e-16; sums of a few hundred products.
    assert difference(out, literal_attention(**given, mask=mask, size=form.size)) <= 1e-14
    of_weights = {name: x for name, x in given.items() if name != "payload"}
    assert difference(weights, literal_weights(**of_weights, mask=mask, size=form.size)) <= 1e-14

    def literal(given):
        return np.sum(cotangent * literal_attention(**given, mask=mask, size=form.size))

    random = np.random.default_rng(0)
    for varied in given:
        direction = {name: random.standard_normal(np.shape(x)) * (name == varied) for name, x in given.items()}
        along = np.sum(np.asarray(gradients[varied]) * direction[varied])
        # What central differences leave, and a hundred times better than float32.
        assert along == pytest.approx(slope(literal, given, direction), rel=1e-9), varied


# No NaN on the way. `jax_debug_nans` looks at what a compiled program returns, checkify at each operation's result.


def masked(given):
    return given


def nothing_allowed(given):
    return given | {"mask": np.zeros_like(given["mask"])}


def no_mask(given):
    return {name: x for name, x in given.items() if name != "mask"}


def zeros(given):
    return {name: x * np.float32(name == "scale") for name, x in given.items() if name != "mask"}


def current_of_zeros(given):
    return given | {"current": np.zeros_like(given["current"])}


def scale_of_zero(given):
    return given | {"scale": np.float32(0)}


def weights_that_underflow(given):
    return given | {"scale": np.float32(1e4)}


@pytest.fixture(scope="module")
def checked(quick_compilation):
    """For a form: the op and its gradients, and the same with a look at each operation's result."""
    def compiled(form):
        function = partial(op_and_gradients, size=form.size, block=form.block)
        return compiled_quickly(function), compiled_quickly(checkify.checkify(function, errors=checkify.nan_checks))

    return cache(compiled)


MASKED = masked, nothing_allowed, current_of_zeros, scale_of_zero, weights_that_underflow
UNMASKED = no_mask, zeros


@pytest.mark.parametrize("form, change", [
    *((form, change) for form in (TINY, IN_ROWS) for change in MASKED), *((TINY, change) for change in UNMASKED),
    *(pytest.param(IN_ROWS, change, marks=pytest.mark.slow) for change in UNMASKED)],
    ids=lambda x: x.__name__ if callable(x) else str(x))
def test_no_operation_yields_nan(checked, form, change):
    given, cotangent = form.inputs(5)
    given = change(given)
    plain, with_checks = checked(form)
    with jax.debug_nans(True):
        out, gradients = plain(given, cotangent)
    assert difference(out, literal_attention(**given, size=form.size)) <= VALUES
    error, _ = with_checks(given, cotangent)
    assert error.get() is None
    assert all(np.isfinite(gradient).all() for gradient in gradients.values())


@each_tiny_form
def test_a_nan_is_found(checked, form):
    given, cotangent = form.inputs(5)
    given["adjacent"][0, 0, 0] = np.nan
    plain, with_checks = checked(form)
    with jax.debug_nans(True), pytest.raises(FloatingPointError, match="nan"):
        plain(no_mask(given), cotangent)
    # A masked position's NaN reaches no operation.
    for mask, found in ((True, True), (False, False)):
        given["mask"][0, 0, 0] = mask
        error, _ = with_checks(given, cotangent)
        assert (error.get() is not None) == found


@pytest.mark.parametrize("form", [
    Form("single pixels", (2, 2, 2), (2, 2, 2), 1),
    *(pytest.param(form, marks=pytest.mark.slow) for form in (TINY, IN_ROWS))], ids=str)
@pytest.mark.slow  # one operation at a time
def test_without_jit_it_is_the_same(form):
    # Each operation is a compilation.
    given, cotangent = form.inputs(12, masked=form.size > 1)
    with jax.disable_jit():
        got = op_and_gradients(given, cotangent, size=form.size, block=form.block)
    assert_close(got, form.run(given, cotangent))


# Exported programs with symbolic shapes.

PLATFORMS = ("cpu", "cuda", "tpu")


def symbolic(given, cotangent, shapes):
    """The arrays' types with other shapes."""
    return jax.tree.map(lambda x, shape: jax.ShapeDtypeStruct(shape, x.dtype), (given, cotangent),
                        (shapes, shapes["result"]), is_leaf=lambda x: isinstance(x, np.ndarray | np.generic))


@pytest.mark.parametrize("form", [THREE_FRAMES, pytest.param(replace(THREE_FRAMES, block=2), marks=pytest.mark.slow)],
                         ids=str)
def test_exported_with_a_symbolic_batch(form):
    batch, = export.symbolic_shape("b")
    function = jax.vmap(partial(op_and_gradients, size=form.size, block=form.block))
    examples = [form.inputs(seed) for seed in range(3)]
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct((batch, *np.shape(x)), x.dtype), examples[0])
    exported = export.export(jax.jit(function), platforms=PLATFORMS)(*shapes)
    assert exported.platforms == PLATFORMS
    for size in (1, 3):
        given, cotangents = jax.tree.map(lambda *x: np.stack(x), *examples[:size])
        outs, gradients = exported.call(given, cotangents)
        for i, example in enumerate(examples[:size]):
            assert_close((outs[i], {name: x[i] for name, x in gradients.items()}), form.run(*example))


def exported_for_any_size(sizes, *, block, constraints=()):
    """The op with frames, heights and widths as in `sizes`, names or numbers."""
    height, width, frames, adjacent_height, adjacent_width = export.symbolic_shape(sizes, constraints=constraints)
    adjacent = frames, adjacent_height, adjacent_width
    shapes = {"current": (height, width, 3), "adjacent": (*adjacent, 3), "payload": (*adjacent, 2), "mask": adjacent,
              "scale": ()}
    types = {name: jax.ShapeDtypeStruct(shape, bool if name == "mask" else np.float32)
             for name, shape in shapes.items()}
    function = partial(op_and_gradients, block=block)
    return export.export(jax.jit(function), platforms=PLATFORMS)(
        types, jax.ShapeDtypeStruct((height, width, 2), np.float32))


def form_of(height, width, frames, adjacent_height, adjacent_width, block):
    return Form("concrete", (height, width, 3), (frames, adjacent_height, adjacent_width, 3), 3, payload=2,
                block=block)


@pytest.mark.parametrize("sizes, block, concrete", [
    ("h, w, t, i, j", 2, [(5, 4, 3, 5, 4), (1, 3, 1, 4, 2)]),
    pytest.param("h, w, 3, h, w", 3, [(5, 4, 3, 5, 4), (2, 1, 3, 2, 1)], marks=pytest.mark.slow),
    pytest.param("5, w, 3, i, 4", 2, [(5, 4, 3, 5, 4), (5, 2, 3, 1, 4)], marks=pytest.mark.slow),
    pytest.param("5, 4, 3, i, j", 9, [(5, 4, 3, 5, 4), (5, 4, 3, 1, 2)], marks=pytest.mark.slow)])
def test_exported_with_symbolic_frames_heights_and_widths(sizes, block, concrete):
    exported = exported_for_any_size(sizes, block=block)
    assert exported.platforms == PLATFORMS
    for size in concrete:
        form = form_of(*size, block=block)
        given, cotangent = form.inputs(6)
        got = exported.call(given, cotangent)
        assert difference(got[0], literal_attention(**given)) <= VALUES
        assert_close(got, form.run(given, cotangent))


def test_a_bound_on_a_symbolic_height_lets_all_rows_be_computed_at_once():
    bounded = exported_for_any_size("h, w, 3, i, j", block=8, constraints=("h <= 8",))
    unbounded = exported_for_any_size("h, w, 3, i, j", block=8)
    assert "stablehlo.while" in unbounded.mlir_module() and "stablehlo.while" not in bounded.mlir_module()
    given, cotangent = THREE_FRAMES.inputs(7)
    assert_close(bounded.call(given, cotangent), THREE_FRAMES.run(given, cotangent))


def test_symbolic_sizes_without_a_block_size_raise_and_say_so():
    with pytest.raises(ValueError, match=r"block_size must be given .*\(h, w, 3\)"):
        exported_for_any_size("h, w, 3, i, j", block=None)


# Differentiating.


@each_tiny_form
def test_hessian_is_that_of_the_equations(form):
    given, cotangent = form.inputs(8)
    mask = given.pop("mask")
    given, cotangent = {name: np.float64(x) for name, x in given.items()}, np.float64(cotangent)
    given["scale"] = np.float64(2)

    def loss(given):
        given = dict(given)
        return jnp.sum(cotangent * temporal_attention(
            given["current"], given["adjacent"], payload=given["payload"], softmax_scale=given["scale"],
            adjacent_mask=mask, patch_size=form.size, block_size=form.block) ** 2)

    def literal(given):
        return np.sum(cotangent * literal_attention(**given, mask=mask, size=form.size) ** 2)

    with jax.enable_x64(True):
        hessian = jax.device_get(compiled_quickly(jax.hessian(loss))(given))
    random = np.random.default_rng(0)
    for _ in range(3):
        direction = {name: random.standard_normal(np.shape(x)) for name, x in given.items()}
        curvature = sum(np.tensordot(np.tensordot(direction[one], block, np.ndim(direction[one])), direction[other],
                                     np.ndim(direction[other]))
                        for one, row in hessian.items() for other, block in row.items())
        # Differences of differences leave rounding divided by the square of a step.
        wanted = slope(lambda x: slope(literal, x, direction), given, direction)
        assert curvature == pytest.approx(wanted, rel=1e-7)


@pytest.mark.parametrize("block", [None, 2])
@pytest.mark.parametrize("way", [
    lambda f, x: jax.jvp(f, (x,), (x,)), lambda f, x: jax.jacfwd(f)(x), lambda f, x: jax.linearize(f, x)[1](x)],
    ids=["jvp", "jacfwd", "linearize"])
def test_forward_mode_raises_and_says_so(way, block):
    (current, adjacent), x = (ANOTHER_SIZE.inputs(9)[0][name] for name in ("current", "adjacent")), np.float32(3)
    function = lambda scale: temporal_attention(current, adjacent, softmax_scale=scale, block_size=block)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jit(partial(way, function)).lower(x)


@pytest.mark.parametrize("policy", [
    None, *(pytest.param(name, marks=pytest.mark.slow) for name in ("everything_saveable", "dots_saveable"))])
@each_form
def test_checkpoint_changes_no_number(form, policy):
    given, cotangent = form.inputs(10)
    mask = given["mask"]

    @partial(jax.checkpoint, policy=policy and getattr(jax.checkpoint_policies, policy))
    def op(differentiable):
        return temporal_attention(
            differentiable["current"], differentiable["adjacent"], payload=differentiable["payload"],
            softmax_scale=differentiable["scale"], adjacent_mask=mask, block_size=form.block)

    @compiled_quickly
    def run(differentiable, cotangent):
        out, pullback = jax.vjp(op, differentiable)
        return out, pullback(cotangent)[0]

    got = run({name: x for name, x in given.items() if name != "mask"}, cotangent)
    assert_close(got, form.run(given, cotangent))


# Precision.


@pytest.mark.parametrize("name", [None, "default", "high", "highest", "bfloat16", "tensorfloat32", "float32"])
@each_form
def test_each_default_precision_is_that_of_every_product(form, name):
    given, cotangent = form.inputs(11)
    with jax.default_matmul_precision(name):
        program = compiled_anew(form).lower(given, cotangent)
        text = program.as_text()
    wanted = {None: "DEFAULT", "default": "DEFAULT", "bfloat16": "DEFAULT", "high": "HIGH", "tensorfloat32": "HIGH",
              "highest": "HIGHEST", "float32": "HIGHEST"}[name]
    products = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
    assert len(products) == (6 if form.block is None else 7)
    assert all(f"precision = [{wanted}, {wanted}]" in line for line in products)
    if name == "bfloat16":  # the processor multiplies float32 as float32 whatever is asked for
        assert_close(program.compile()(given, cotangent), form.run(given, cotangent))
