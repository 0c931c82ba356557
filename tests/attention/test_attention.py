"""The temporal attention op against equations 1 to 3 taken literally, in NumPy's and in PyTorch's float64.

Differences are the largest over the largest magnitude. In float32, whose unit is 6e-8, sums of a few hundred
products under a softmax scale of 10 leave about 5e-7; the bounds are 2e-6 for values, 1e-5 for gradients.
"""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attention_programs import (
    ANOTHER_SIZE,
    IN_BLOCKS,
    PATCH_LARGER_THAN_MAPS,
    PATCH_OF_FIVE,
    THREE_FRAMES,
    WHOLE,
    Form,
    compiled_quickly,
    maps,
    op_and_gradients,
    operations,
    weights_of,
)
from comparing import difference
from jax.test_util import check_vjp
from literal_attention import literal_attention, literal_weights

from vrstc_jax.attention import attention_weights, temporal_attention

pytestmark = pytest.mark.usefixtures("quick_compilation")

VALUES, GRADIENTS = 2e-6, 1e-5
MAP = np.zeros((4, 3, 2), np.float32)

SCALES = np.float32([1, 10])
UNMASKED = (ANOTHER_SIZE, PATCH_OF_FIVE, PATCH_LARGER_THAN_MAPS, replace(THREE_FRAMES, block=2))
each_form = pytest.mark.parametrize(
    "form, masked", [pytest.param(form, masked, id=f"{form}, {'masked' if masked else 'all'}")
                     for masked, forms in ((True, WHOLE + IN_BLOCKS), (False, UNMASKED)) for form in forms])


@each_form
def test_values_are_the_equations(form, masked):
    given, cotangent = form.inputs(0, masked=masked)
    for given["scale"] in SCALES:
        got, _ = form.run(given, cotangent)
        assert got.dtype == jnp.float32
        assert difference(got, literal_attention(**given, size=form.size)) <= VALUES


@pytest.mark.parametrize("masked", [True, False], ids=["masked", "all"])
@pytest.mark.parametrize("form", [ANOTHER_SIZE, THREE_FRAMES, PATCH_LARGER_THAN_MAPS], ids=str)
def test_weights_are_the_equations(form, masked):
    given, _ = form.inputs(1, masked=masked)
    given.pop("payload", None)
    for given["scale"] in SCALES:
        got = form.weights(given)
        assert got.dtype == jnp.float32
        assert difference(got, literal_weights(**given, size=form.size)) <= VALUES


@each_form
def test_values_and_gradients_are_pytorchs(twin, form, masked):
    given, cotangent = form.inputs(2, masked=masked)
    for given["scale"] in SCALES:
        assert_pytorchs(twin, form.run(given, cotangent), given, cotangent, size=form.size)


def assert_pytorchs(twin, ours, given, cotangent, *, size=3, bounds=(VALUES, GRADIENTS)):
    got, gradients = ours
    wanted, wanted_gradients, terms = in_pytorch(twin, given, cotangent, size=size)
    assert difference(got, wanted) <= bounds[0]
    for name, gradient in gradients.items():
        if name == "scale":  # one sum over all the output, whose terms may cancel: rounding is in proportion to these
            assert np.abs(gradient - wanted_gradients[name]) <= bounds[1] * terms
        elif np.abs(wanted_gradients[name]).max() < 1e-12:  # one position has weight 1 whatever it is
            assert np.abs(gradient).max() < 1e-6, name
        else:
            assert difference(gradient, wanted_gradients[name]) <= bounds[1], name


def in_pytorch(twin, given, cotangent, *, size):
    """What `op_and_gradients` gives, by PyTorch in float64, and the sum of the terms' magnitudes of which the
    gradient by the scale is the sum."""
    tensors = {name: to_torch(twin, x) for name, x in given.items() if name not in ("scale", "mask")}
    frames = {name: x if x.ndim == 4 else x[None] for name, x in tensors.items()}
    scale = tensors["scale"] = twin.torch.tensor(given.get("scale", 10.0), dtype=twin.torch.float64,
                                                 requires_grad=True)
    mask = given.get("mask")
    if mask is not None:
        mask = twin.torch.tensor(mask if mask.ndim == 3 else mask[None])

    def attended(scale):
        return twin.temporal_attention(tensors["current"], frames["adjacent"], size, scale, frames.get("payload"), mask)

    out = attended(scale)
    with twin.torch.no_grad():
        steepness = (attended(scale + 1e-4) - attended(scale - 1e-4)) / 2e-4
        terms = float((steepness * to_torch(twin, cotangent)).abs().sum())
    out.backward(to_torch(twin, cotangent).detach())
    gradients = {name: np.moveaxis(x.grad.numpy(), -3, -1) if x.ndim else x.grad.numpy()
                 for name, x in tensors.items()}
    return np.moveaxis(out.detach().numpy(), 0, -1), gradients, terms


def to_torch(twin, array):
    """[..., H, W, C] to a float64 tensor [..., C, H, W] that takes gradients."""
    return twin.torch.tensor(np.moveaxis(np.asarray(array, np.float64), -1, -3), requires_grad=True)


@pytest.mark.parametrize("block", [None, 5])
def test_a_map_of_real_size_is_pytorchs(twin, full_compilation, block):
    # As users compile it; 5 rows do not divide 16.
    form = Form("real size", (16, 8, 64), (2, 16, 8, 64), 3)
    given, cotangent = form.inputs(3)
    as_users_do = jax.jit(partial(op_and_gradients, block=block))
    for given["scale"] in SCALES:
        assert_pytorchs(twin, as_users_do(given, cotangent), given, cotangent)


@pytest.mark.parametrize("dtype, block", [(jnp.bfloat16, None), (jnp.bfloat16, 3), (np.float16, None)])
def test_half_precision_keeps_its_type_and_sums_in_float32(twin, dtype, block):
    form = Form("half precision", (8, 8, 32), (2, 8, 8, 32), 3, block=block)
    given, cotangent = form.inputs(4)
    given |= {name: given[name].astype(dtype) for name in ("current", "adjacent")}
    # Small, as of a mean: the gradients of single pairs are then below what float16 has.
    cotangent = (cotangent / 2048).astype(dtype)
    got, gradients = form.run(given, cotangent)
    assert got.dtype == gradients["current"].dtype == gradients["adjacent"].dtype == dtype
    # Values: half a unit of the result's rounding, 3.9e-3 of bfloat16 and 4.9e-4 of float16. Gradients: two.
    unit = float(jnp.finfo(dtype).eps)
    assert_pytorchs(twin, (got, gradients), given, cotangent, bounds=(unit / 2, 2 * unit))

    # Sums as short as these would not show in what type they are made.
    program = operations(partial(op_and_gradients, block=block), given, cotangent)
    made = [array.aval.dtype for operation in program for array in operation.outvars
            if operation.primitive.name in ("dot_general", "exp")]
    assert made and set(made) == {np.dtype(np.float32)}
    assert jax.eval_shape(attention_weights, given["current"], given["adjacent"]).dtype == jnp.float32


def test_result_has_the_type_of_current():
    half, single = MAP.astype(jnp.bfloat16), MAP
    assert jax.eval_shape(temporal_attention, half, single).dtype == jnp.bfloat16
    assert jax.eval_shape(temporal_attention, single, half).dtype == jnp.float32


@pytest.fixture
def float64():
    """Numbers are float64 within the test, and float32 after it."""
    with jax.enable_x64(True):
        yield
    assert jnp.ones(()).dtype == jnp.float32


@pytest.mark.parametrize("masked, block", [(True, None), (True, 2), (False, 1)])
def test_gradients_are_those_of_finite_differences(float64, masked, block):
    form = replace(THREE_FRAMES, block=block)
    given, _ = form.inputs(5, masked=masked)
    mask = {"mask": given.pop("mask")} if masked else {}
    given = {name: np.float64(x) for name, x in given.items()}

    # One compiled program is the function, where the cotangent does not matter, and its pullback.
    def value_and_pullback(differentiable):
        out, _ = form.run(differentiable | mask, np.zeros(form.result))
        assert out.dtype == jnp.float64
        return out, lambda cotangent: (form.run(differentiable | mask, cotangent)[1],)

    for given["scale"] in np.float64([0.5, 5]):
        # Differences of 1e-4 leave its square, times the curvature.
        check_vjp(lambda x: value_and_pullback(x)[0], value_and_pullback, (given,), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("block", [None, 2])
def test_precision_is_that_of_every_matrix_product(block):
    def loss(*maps):
        return temporal_attention(*maps, block_size=block, precision="high").sum()

    products = [operation.params for operation in operations(jax.grad(loss, (0, 1)), MAP, MAP)
                if operation.primitive.name == "dot_general"]
    assert len(products) == (6 if block is None else 7)  # blocks make the pairs again
    assert all(set(product["precision"]) == {jax.lax.Precision.HIGH} for product in products)


def test_finds_where_a_picture_moved():
    # What the op is for: the same content elsewhere is found, and brought back to where it is missed.
    (scene,) = maps(7, (12, 10, 8))
    current, adjacent = scene[2:10, 3:9], scene[1:9, 1:7]  # adjacent shows it 1 lower and 2 further right
    weights = np.asarray(weights_of({"current": current, "adjacent": adjacent, "scale": np.float32(100)}))
    for y in range(1, 6):
        for x in range(1, 3):
            assert np.unravel_index(weights[y, x].argmax(), weights.shape[2:]) == (y + 1, x + 2)


MASK = np.ones((4, 3), bool)
BOTH = np.stack([MAP] * 2)
op = partial(temporal_attention, MAP, MAP)
BAD = {
    **{f"a patch of {size}": (ValueError, f"patch_size .*Got {size}", partial(op, patch_size=size))
       for size in (4, 0, -1, 2.5, True)},
    **{f"a block of {rows}": (ValueError, f"block_size .*Got {rows}", partial(op, block_size=rows))
       for rows in (0, -2, 1.5, True)},
    "current's rank": (ValueError, r"\(2, 4, 3, 2\)", lambda: temporal_attention(BOTH, MAP)),
    "adjacent's rank": (ValueError, r"\(4, 3\)", lambda: temporal_attention(MAP, MAP[..., 0])),
    "channels": (ValueError, "2 and 1", lambda: temporal_attention(MAP, MAP[..., :1])),
    "no position": (ValueError, r"\(0, 3, 2\)", lambda: temporal_attention(MAP, MAP[:0])),
    "no channel": (ValueError, r"\(4, 3, 0\)", lambda: temporal_attention(MAP[..., :0], MAP[..., :0])),
    "no frame": (ValueError, r"\(0, 4, 3, 2\)", lambda: temporal_attention(MAP, BOTH[:0])),
    "many scales": (ValueError, r"softmax_scale .*\(2,\)", lambda: op(softmax_scale=np.ones(2))),
    "integers": (TypeError, "current .*uint8", lambda: temporal_attention(MAP.astype(np.uint8), MAP)),
    "integers beside": (TypeError, "adjacent .*int32", lambda: temporal_attention(MAP, MAP.astype(np.int32))),
    "a mask of numbers": (TypeError, "adjacent_mask .*float32", lambda: op(adjacent_mask=MAP[..., 0])),
    "the mask's positions": (ValueError, r"adjacent_mask .*\(4, 3\).*\(3, 4\)", lambda: op(adjacent_mask=MASK.T)),
    "the mask's channels": (ValueError, r"adjacent_mask .*\(4, 3, 2\)", lambda: op(adjacent_mask=MAP > 0)),
    "the mask's frames": (ValueError, r"adjacent_mask .*\(2, 4, 3\).*Got shape \(4, 3\)",
                          lambda: temporal_attention(MAP, BOTH, adjacent_mask=MASK)),
    "payload's positions": (ValueError, r"payload .*\(4, 2, 2\)", lambda: op(payload=MAP[:, :2])),
    "payload's rank": (ValueError, r"payload .*Got shape \(4, 3\)", lambda: op(payload=MAP[..., 0])),
    "payload's frames": (ValueError, r"payload .*\(2, 4, 3, 2\)", lambda: op(payload=BOTH)),
    "payload's channels": (ValueError, r"payload .*\(4, 3, 0\)", lambda: op(payload=MAP[..., :0])),
    "payload's type": (TypeError, "payload .*uint8", lambda: op(payload=MAP.astype(np.uint8))),
    "weights of a patch": (ValueError, "Got 2", lambda: attention_weights(MAP, MAP, patch_size=2)),
    "weights of a mask": (ValueError, r"\(3, 4\)", lambda: attention_weights(MAP, MAP, adjacent_mask=MASK.T)),
}


@pytest.mark.parametrize("error, said, call", BAD.values(), ids=BAD.keys())
def test_bad_input_raises_and_says_what_it_got(error, said, call):
    with pytest.raises(error, match=said):
        jax.eval_shape(call)  # shapes and types are all it takes


@pytest.mark.parametrize("block", [None, 1])
def test_second_derivatives_in_either_mode(block):
    """Of current, adjacent and the scale together, against differences of the equations in float64."""
    at = np.concatenate([maps(5, (8,))[0], [2.0]])

    def loss(attend, x):  # two maps of 2×1 positions and two channels, and the scale
        return (attend(x[:4].reshape(2, 1, 2), x[4:8].reshape(2, 1, 2), x[8]) ** 3).sum()

    def literally(x):
        return loss(lambda f, r, scale: literal_attention(f, r, scale=scale), x)

    step = 1e-4 * np.eye(len(at))
    wanted = np.zeros((len(at), len(at)))
    for i, j in zip(*np.triu_indices(len(at))):
        a, b = step[i], step[j]
        wanted[i, j] = wanted[j, i] = (literally(at + a + b) - literally(at + a - b) - literally(at - a + b)
                                       + literally(at - a - b)) / 4e-8
    ours = partial(loss, lambda f, r, scale: temporal_attention(f, r, softmax_scale=scale, block_size=block))
    gradient, at = jax.grad(ours), jnp.float32(at)
    # Forward over reverse, whose whole form `test_hessian_is_that_of_the_equations` has too, and reverse over reverse.
    for hessian in (*([jax.hessian(ours)] if block else []), jax.jacrev(gradient)):
        assert difference(compiled_quickly(hessian)(at), wanted) <= GRADIENTS
    # The op alone has no forward mode.
    for refused in (lambda at: jax.jvp(ours, (at,), (at,)), lambda at: jax.jacfwd(ours)(at),
                    lambda at: jax.linearize(ours, at)[1](at)):
        with pytest.raises(TypeError, match="forward-mode"):
            jax.jit(refused).lower(at)
