"""The temporal attention op against equations 1 to 3 taken literally, in NumPy loops and in PyTorch.

Differences are the largest over the largest magnitude. In float32, whose unit is 6e-8, sums of a few hundred
products under a softmax scale of 10 leave about 5e-7; the bounds are 2e-6 for values, 1e-5 for gradients.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from comparing import difference
from vrstc_jax.attention import TemporalAttention, attention_weights, temporal_attention

pytestmark = pytest.mark.usefixtures("quick_compilation")

VALUES, GRADIENTS = 2e-6, 1e-5


# The equations, word by word, in float64.


def cut_out(maps, size):
    """Every size×size patch of maps [T, H, W, C], zeros outside: a list in the order of positions."""
    frames, height, width, channels = maps.shape
    half = size // 2
    out = []
    for t in range(frames):
        for y in range(height):
            for x in range(width):
                patch = np.zeros((size, size, channels))
                for dy in range(size):
                    for dx in range(size):
                        py, px = y + dy - half, x + dx - half
                        if 0 <= py < height and 0 <= px < width:
                            patch[dy, dx] = maps[t, py, px]
                out.append(patch)
    return np.stack(out)


def literal_weights(current, adjacent, size, scale):
    """Equations 1 and 2: [positions of current, positions of all of adjacent]."""
    def unit(patch):
        norm = np.sqrt((patch ** 2).sum())
        return patch / norm if norm > 0 else patch

    f = [unit(patch) for patch in cut_out(current[None], size)]
    r = [unit(patch) for patch in cut_out(adjacent, size)]
    similarity = scale * np.array([[(p * q).sum() for q in r] for p in f])
    weights = np.exp(similarity - similarity.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def literal_attention(current, adjacent, size=3, scale=10.0, payload=None):
    """Equation 3: the weighted patches laid back, overlapping, averaged by how many cover a position."""
    current, adjacent = (np.asarray(array, np.float64) for array in (current, adjacent))
    adjacent = adjacent if adjacent.ndim == 4 else adjacent[None]
    payload = adjacent if payload is None else np.asarray(payload, np.float64)
    payload = payload if payload.ndim == 4 else payload[None]
    weights = literal_weights(current, adjacent, size, scale)
    rebuilt = np.tensordot(weights, cut_out(payload, size), axes=1)
    height, width = current.shape[:2]
    total, cover = np.zeros((height, width, payload.shape[-1])), np.zeros((height, width, 1))
    half = size // 2
    for at, patch in enumerate(rebuilt):
        for dy in range(size):
            for dx in range(size):
                y, x = at // width + dy - half, at % width + dx - half
                if 0 <= y < height and 0 <= x < width:
                    total[y, x] += patch[dy, dx]
                    cover[y, x] += 1
    return total / cover


def maps(seed, *shapes):
    random = np.random.default_rng(seed)
    return [random.standard_normal(shape).astype(np.float32) for shape in shapes]


CASES = {  # current, adjacent, patch size
    "another size": ((5, 7, 4), (6, 3, 4), 3),
    "three frames": ((5, 4, 3), (3, 5, 4, 3), 3),
    "patch of one": ((4, 6, 5), (4, 6, 5), 1),
    "patch of five": ((6, 5, 3), (2, 7, 4, 3), 5),
    "patch larger than both maps": ((2, 1, 3), (1, 2, 3), 5),
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
each_scale = pytest.mark.parametrize("scale", [1.0, 10.0])


@partial(jax.jit, static_argnames="size")
def everything(current, adjacent, cotangent, scale, *, size):
    """The op, its gradients and its weights, in one compilation for both scales."""
    options = {"patch_size": size, "softmax_scale": scale}
    out, pullback = jax.vjp(partial(temporal_attention, **options), current, adjacent)
    return out, pullback(cotangent), attention_weights(current, adjacent, **options)


@each_case
@each_scale
def test_values_and_weights_are_the_equations(case, scale):
    current_shape, adjacent_shape, size = case
    current, adjacent = maps(0, current_shape, adjacent_shape)
    got, _, weights = everything(current, adjacent, current, scale, size=size)
    assert got.dtype == jnp.float32
    assert difference(got, literal_attention(current, adjacent, size, scale)) <= VALUES

    assert weights.shape == (*current_shape[:2], *adjacent_shape[:-1])
    frames = adjacent if adjacent.ndim == 4 else adjacent[None]
    wanted = literal_weights(current.astype(np.float64), frames.astype(np.float64), size, scale)
    assert difference(weights, wanted.reshape(weights.shape)) <= VALUES
    np.testing.assert_allclose(weights.sum(tuple(range(2, weights.ndim))), 1.0, rtol=1e-6)


@each_case
@each_scale
def test_values_and_gradients_are_pytorchs(twin, case, scale):
    current_shape, adjacent_shape, size = case
    current, adjacent, cotangent = maps(2, current_shape, adjacent_shape, current_shape)

    f, r = to_torch(twin, current), to_torch(twin, adjacent)
    wanted = twin.temporal_attention(f, r if r.ndim == 4 else r[None], size, scale)
    wanted.backward(to_torch(twin, cotangent).detach())

    got, gradients, _ = everything(current, adjacent, cotangent, scale, size=size)
    assert difference(got, np.moveaxis(wanted.detach().numpy(), 0, -1)) <= VALUES
    for ours, theirs in zip(gradients, (f.grad, r.grad)):
        theirs = np.moveaxis(theirs.numpy(), -3, -1)
        if np.abs(theirs).max() < 1e-12:  # one position has weight 1 whatever current is
            assert np.abs(ours).max() < 1e-6
        else:
            assert difference(ours, theirs) <= GRADIENTS


@each_scale
def test_a_map_of_real_size_is_pytorchs(twin, full_compilation, scale):
    inputs = maps(1, (32, 16, 32), (32, 16, 32), (32, 16, 32))
    f, r, cotangent = (to_torch(twin, array) for array in inputs)
    wanted = twin.temporal_attention(f, r[None], 3, scale)
    wanted.backward(cotangent.detach())
    got, gradients = real_size(*inputs, scale)
    assert difference(got, np.moveaxis(wanted.detach().numpy(), 0, -1)) <= VALUES
    for ours, theirs in zip(gradients, (f.grad, r.grad)):
        assert difference(ours, np.moveaxis(theirs.numpy(), 0, -1)) <= GRADIENTS


@jax.jit
def real_size(current, adjacent, cotangent, scale):
    out, pullback = jax.vjp(partial(temporal_attention, softmax_scale=scale), current, adjacent)
    return out, pullback(cotangent)


def to_torch(twin, array):
    """[..., H, W, C] to a float64 tensor [..., C, H, W] that takes gradients."""
    return twin.torch.tensor(np.moveaxis(array, -1, -3), dtype=twin.torch.float64, requires_grad=True)


def test_gradients_of_a_payload_and_of_the_scale_are_pytorchs(twin):
    current, adjacent, payload, cotangent = maps(3, (5, 4, 3), (2, 6, 4, 3), (2, 6, 4, 7), (5, 4, 7))
    tensors = [to_torch(twin, array) for array in (current, adjacent, payload)]
    scale = twin.torch.tensor(4.0, dtype=twin.torch.float64, requires_grad=True)
    wanted = twin.temporal_attention(*tensors[:2], 3, scale, tensors[2])
    wanted.backward(to_torch(twin, cotangent).detach())

    @jax.jit
    def ours(*inputs):
        out, pullback = jax.vjp(lambda f, r, p, s: temporal_attention(f, r, payload=p, softmax_scale=s),
                                *inputs)
        return out, pullback(jnp.asarray(cotangent))

    got, (*gradients, of_scale) = ours(current, adjacent, payload, 4.0)
    assert difference(got, np.moveaxis(wanted.detach().numpy(), 0, -1)) <= VALUES
    for gradient, tensor in zip(gradients, tensors):
        assert difference(gradient, np.moveaxis(tensor.grad.numpy(), -3, -1)) <= GRADIENTS
    assert of_scale == pytest.approx(scale.grad.item(), rel=GRADIENTS)


op = jax.jit(temporal_attention, static_argnames="patch_size")


def test_payload_is_carried_by_the_same_weights():
    current, adjacent, payload = maps(6, (4, 3, 2), (2, 3, 4, 2), (2, 3, 4, 5))
    got = op(current, adjacent, payload=payload)
    assert difference(got, literal_attention(current, adjacent, payload=payload)) <= VALUES
    single = op(current, adjacent[0], payload=payload[0])
    assert difference(single, literal_attention(current, adjacent[0], payload=payload[0])) <= VALUES
    itself = op(current, adjacent, payload=adjacent)
    assert difference(itself, literal_attention(current, adjacent)) <= VALUES


def test_plain_is_jit_is_vmap_is_layer():
    current, adjacent = maps(7, (2, 4, 3, 2), (2, 2, 3, 4, 2))
    plain = np.stack([temporal_attention(f, r) for f, r in zip(current, adjacent)])
    layer = TemporalAttention()
    shapes = jax.eval_shape(layer.init, jax.random.key(0), current, adjacent)
    assert not shapes, "the layer has no parameters"
    others = {
        "jit": [jax.jit(temporal_attention)(f, r) for f, r in zip(current, adjacent)],
        "vmap": jax.jit(jax.vmap(temporal_attention))(current, adjacent),
        "layer": jax.jit(layer.apply)({}, current, adjacent),
        "layer, one example each": [layer.apply({}, f, r) for f, r in zip(current, adjacent)],
    }
    for name, other in others.items():
        # The same sums in another order: a few units of float32.
        assert difference(np.stack(other), plain) <= 1e-6, name


def test_layer_passes_its_options_and_a_payload_on():
    current, adjacent, payload = maps(8, (2, 5, 4, 3), (2, 4, 4, 3), (2, 4, 4, 6))
    layer = TemporalAttention(patch_size=1, softmax_scale=3.0)
    got = jax.jit(layer.apply)({}, current, adjacent, payload)
    for out, f, r, p in zip(got, current, adjacent, payload):
        assert difference(out, literal_attention(f, r, 1, 3.0, p)) <= VALUES


def test_gradients_of_a_batch_are_those_of_its_examples():
    current, adjacent, cotangent = maps(9, (3, 5, 7, 4), (3, 6, 3, 4), (3, 5, 7, 4))
    (_, batched, _) = jax.vmap(partial(everything, scale=10.0, size=3))(current, adjacent, cotangent)
    for i, example in enumerate(zip(current, adjacent, cotangent)):
        _, single, _ = everything(*example, 10.0, size=3)
        for whole, part in zip(batched, single):
            assert difference(whole[i], part) <= VALUES


DEGENERATE = {
    "current is zero": lambda f, r: (f * 0, r),
    "adjacent is zero": lambda f, r: (f, r * 0),
    "both are zero": lambda f, r: (f * 0, r * 0),
    "both are constant": lambda f, r: (f * 0 + 2, r * 0 + 2),
    "zeros in a corner": lambda f, r: (f.at[:3, :3].set(0), r.at[..., -3:, -3:, :].set(0)),
    "very large": lambda f, r: (f * 1e15, r * 1e15),
}


@pytest.mark.parametrize("change", DEGENERATE.values(), ids=DEGENERATE.keys())
def test_degenerate_maps_give_numbers_forward_and_backward(change):
    current, adjacent = change(*map(jnp.asarray, maps(10, (5, 4, 3), (3, 5, 4, 3))))
    got, gradients, _ = everything(current, adjacent, jnp.ones_like(current), 10.0, size=3)
    assert np.isfinite(got).all()
    for gradient in gradients:
        assert np.isfinite(gradient).all()
    wanted = literal_attention(current, adjacent)
    if np.abs(wanted).max():
        assert difference(got, wanted) <= VALUES
    else:
        assert not np.asarray(got).any()


def test_finds_where_a_picture_moved():
    # What the op is for: the same content elsewhere is found, and brought back to where it is missed.
    (scene,) = maps(11, (12, 10, 8))
    current, adjacent = scene[2:10, 3:9], scene[1:9, 1:7]  # adjacent shows it 1 lower and 2 further right
    weights = np.asarray(jax.jit(attention_weights)(current, adjacent, softmax_scale=100.0))
    for y in range(1, 6):
        for x in range(1, 3):
            assert np.unravel_index(weights[y, x].argmax(), weights.shape[2:]) == (y + 1, x + 2)
    same = op(scene, scene, softmax_scale=200.0)
    # A softmax as sharp as this leaves the neighbours e^-50 or so.
    assert difference(same, scene) <= 1e-5


@given(seed=st.integers(0, 2**16), size=st.sampled_from([1, 3]), scale=st.floats(0.0, 30.0))
def test_stays_within_what_it_was_given(seed, size, scale):
    current, adjacent = maps(seed, (4, 3, 2), (2, 3, 4, 2))
    out = np.asarray(op(current, adjacent, patch_size=size, softmax_scale=scale))
    # An average of adjacent's values and of the zeros around it, channel by channel.
    values = adjacent.reshape(-1, 2)
    low, high = np.minimum(values.min(0), 0), np.maximum(values.max(0), 0)
    slack = 1e-6 * np.abs(values).max()
    assert (out >= low - slack).all() and (out <= high + slack).all()


@given(seed=st.integers(0, 2**16), order=st.permutations(range(2)), factor=st.floats(0.01, 100.0))
def test_order_of_frames_and_brightness_of_current_do_not_matter(seed, order, factor):
    current, adjacent = maps(seed, (4, 3, 2), (2, 3, 4, 2))
    out = op(current, adjacent)
    assert difference(op(current, adjacent[np.array(order)]), out) <= 1e-6
    # Cosine similarity: ten times its rounding comes back out of the softmax.
    assert difference(op(current * np.float32(factor), adjacent), out) <= 1e-5


@given(seed=st.integers(0, 2**16))
def test_one_softmax_over_all_frames(seed):
    # A frame given twice is a frame given once; a softmax for each frame would fail the second line.
    current, first, second = maps(seed, (4, 3, 2), (3, 4, 2), (3, 4, 2))
    once = literal_attention(current, first)
    assert difference(op(current, np.stack([first, first])), once) <= VALUES
    both = np.stack([first, second])
    assert difference(op(current, both), literal_attention(current, both)) <= VALUES


def test_half_precision_keeps_its_type_and_sums_in_float32():
    current, adjacent = maps(12, (6, 4, 8), (6, 4, 8))
    halves = [jnp.asarray(array, jnp.bfloat16) for array in (current, adjacent)]
    got = op(*halves)
    assert got.dtype == jnp.bfloat16
    wanted = literal_attention(*(np.asarray(half, np.float32) for half in halves))
    # Only the result is rounded: half a unit of bfloat16's 8 bits, of each value.
    assert difference(np.asarray(got, np.float32), wanted) <= 2 ** -8


MAP = np.zeros((4, 3, 2), np.float32)
BAD = {
    "current's rank": (ValueError, r"\(2, 4, 3, 2\)", lambda: temporal_attention(np.stack([MAP] * 2), MAP)),
    "adjacent's rank": (ValueError, r"\(4, 3\)", lambda: temporal_attention(MAP, MAP[..., 0])),
    "channels": (ValueError, "2 and 1", lambda: temporal_attention(MAP, MAP[..., :1])),
    "no position": (ValueError, r"\(0, 3, 2\)", lambda: temporal_attention(MAP, MAP[:0])),
    "an even patch": (ValueError, "Got 4", lambda: temporal_attention(MAP, MAP, patch_size=4)),
    "no patch": (ValueError, "Got 0", lambda: temporal_attention(MAP, MAP, patch_size=0)),
    "half a patch": (ValueError, r"Got 2\.5", lambda: temporal_attention(MAP, MAP, patch_size=2.5)),
    "integers": (TypeError, "uint8", lambda: temporal_attention(MAP.astype(np.uint8), MAP)),
    "integers beside": (TypeError, "adjacent .* int32",
                        lambda: temporal_attention(MAP, MAP.astype(np.int32))),
    "payload's positions": (ValueError, r"\(4, 2, 2\)",
                            lambda: temporal_attention(MAP, MAP, payload=MAP[:, :2])),
    "payload's rank": (ValueError, r"payload .*\(4, 3\)",
                       lambda: temporal_attention(MAP, MAP, payload=MAP[..., 0])),
    "payload's frames": (ValueError, "payload",
                         lambda: temporal_attention(MAP, MAP, payload=np.stack([MAP] * 2))),
    "weights": (ValueError, "Got 2", lambda: attention_weights(MAP, MAP, patch_size=2)),
    "the layer's batch": (ValueError, r"\(2, 4, 3, 2\)",
                          lambda: TemporalAttention().apply({}, np.stack([MAP] * 2), np.stack([MAP] * 3))),
}


@pytest.mark.parametrize("error, said, call", BAD.values(), ids=BAD.keys())
def test_bad_input_raises_and_says_what_it_got(error, said, call):
    with pytest.raises(error, match=said):
        jax.eval_shape(call)  # shapes and types are all it takes
