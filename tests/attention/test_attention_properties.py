"""What holds of temporal attention whatever it is given: properties over shapes, patches, masks and values.

Shapes and block sizes come from a short list, since each is a compilation; values, masks and scales do not.
Rounding is bounded as in `test_attention.py`: 2e-6 of the largest magnitude, 1e-5 for gradients; and at 1e-6
where the same sums are only taken in another order.
"""

from dataclasses import replace
from functools import partial

import attention_programs as programs
import jax
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from literal_attention import cut_out, literal_attention, unit

from vrstc_jax.attention import temporal_attention

pytestmark = pytest.mark.usefixtures("quick_compilation")

VALUES, GRADIENTS, REORDERED = 2e-6, 1e-5, 1e-6
EPSILON = 1.2e-7  # float32's, to which a sum is rounded beside its terms
OFTEN = settings(max_examples=40)

# Of those that `test_attention.py` has compiled.
WITHOUT_BLOCKS = (programs.ANOTHER_SIZE, programs.THREE_FRAMES, programs.PATCH_OF_ONE, programs.PATCH_OF_FIVE)
BLOCKS = tuple(form for form in programs.IN_BLOCKS if form.block in (2, 3))
FORMS = WITHOUT_BLOCKS + BLOCKS
SEVERAL_FRAMES = tuple(form for form in FORMS if len(form.adjacent) == 4)

scales = st.floats(0, 10, width=32).map(np.float32)


def features(shape):
    """As of a layer; or of few values, in eighths, so that patches are alike, collinear or zero."""
    eighths = hnp.arrays(np.int8, shape, elements=st.integers(-16, 16)).map(lambda x: np.float32(x) / 8)
    return st.integers(0, 2**16).map(lambda seed: programs.maps(seed, shape)[0]) | eighths


@st.composite
def inputs(draw, forms=FORMS, features=features):
    """(a form, what it is given, a cotangent). The mask may leave everything, or nothing."""
    form = draw(st.sampled_from(forms))
    arrays = {"current": draw(features(form.current)), "adjacent": draw(features(form.adjacent)),
              "mask": draw(hnp.arrays(bool, form.adjacent[:-1])), "scale": draw(scales)}
    if form.payload:
        arrays["payload"] = draw(features(form.carried))
    return form, arrays, programs.maps(0, form.result)[0]


def carried(arrays):
    return arrays.get("payload", arrays["adjacent"])


def assert_close(got, wanted, bound, *, beside=0.0):
    """Within `bound` of the largest magnitude, of what is wanted or of what it is made from."""
    largest = max(np.abs(wanted).max(), np.abs(beside).max())
    assert np.abs(np.asarray(got, np.float64) - np.asarray(wanted, np.float64)).max() <= bound * largest


@OFTEN
@given(inputs(BLOCKS))
def test_blocks_of_rows_are_the_whole(example):
    form, arrays, cotangent = example
    out, gradients = form.run(arrays, cotangent)
    wanted, wanted_gradients = replace(form, block=None).run(arrays, cotangent)
    assert_close(out, wanted, VALUES, beside=carried(arrays))
    assert_gradients_close(gradients, wanted_gradients, arrays, cotangent)


def assert_gradients_close(got, wanted, arrays, cotangent):
    # Where gradients cancel each other, rounding is that of what they are sums of. The scale's is one sum over all
    # pairs, and the op documents that it is divided by the scale.
    largest = max(np.abs(each).max() for each in wanted.values())
    terms = np.abs(cotangent).sum(dtype=np.float64) * np.abs(carried(arrays)).max() / min(arrays["scale"] or 1, 1)
    for name, gradient in got.items():
        summed = terms * EPSILON / GRADIENTS if name == "scale" else 0
        assert_close(gradient, wanted[name], GRADIENTS, beside=max(largest, summed))


@OFTEN
@given(inputs())
def test_each_channel_lies_within_the_attended_values_and_zero(example):
    form, arrays, cotangent = example
    out, _ = form.run(arrays, cotangent)
    # A usable position lies in the patch around itself, so each is attended. Zeros surround the maps.
    values = carried(arrays)[arrays["mask"]]
    low, high = values.min(0, initial=0), values.max(0, initial=0)
    slack = REORDERED * np.abs(values).max(initial=0)
    assert (out >= low - slack).all() and (out <= high + slack).all()
    # Nothing left to attend gives zeros.
    nothing = form.run(arrays | {"mask": np.zeros_like(arrays["mask"])}, cotangent)
    assert not any(array.any() for array in jax.tree.leaves(nothing))


@OFTEN
@given(inputs(SEVERAL_FRAMES), st.randoms(use_true_random=False))
def test_order_of_frames_changes_nothing(example, random):
    form, arrays, cotangent = example
    order = random.sample(range(form.adjacent[0]), form.adjacent[0])
    frames = {name: arrays[name][order] for name in ("adjacent", "payload", "mask")}
    out, gradients = form.run(arrays, cotangent)
    moved, moved_gradients = form.run(arrays | frames, cotangent)
    assert_close(moved, out, REORDERED, beside=carried(arrays))
    assert_gradients_close(moved_gradients, {
        name: gradient[np.array(order)] if name in frames else gradient for name, gradient in gradients.items()},
        arrays, cotangent)


@pytest.mark.parametrize("size, block", [(1, None), (3, None), (3, 2)])
def test_a_map_of_distinct_patches_attending_to_itself_returns_itself(size, block):
    @programs.compiled_quickly
    def op(scene, scale):
        return temporal_attention(scene, scene, softmax_scale=scale, patch_size=size, block_size=block)

    @given(st.integers(0, 2**16), scales)
    def returns_itself(seed, some_scale):
        (scene,) = programs.maps(seed, (4, 3, 3))
        patches = np.stack([unit(patch).ravel() for patch in cut_out(np.float64(scene)[None], size)])
        cosines = patches @ patches.T
        np.fill_diagonal(cosines, -1)
        gap = 1 - cosines.max()
        assume(gap > 1e-3)
        # Each patch's own weight is 1 but for (P − 1) exp(−gap · scale). The last scale leaves none of that.
        for scale in (some_scale, np.float32(30 / gap)):
            of_others = min(1, (len(patches) - 1) * np.exp(-gap * scale))
            assert_close(op(scene, scale), scene, 2 * of_others + VALUES)

    returns_itself()


@OFTEN
@given(inputs(), st.sampled_from([0, 1, -1e30, np.inf, np.nan]))
def test_masked_positions_have_no_influence_and_no_gradient(example, instead):
    form, arrays, cotangent = example
    hidden = ~arrays["mask"]
    out, gradients = form.run(arrays, cotangent)
    others = {name: np.where(hidden[..., None], np.float32(instead), arrays[name])
              for name in ("adjacent", "payload") if name in arrays}
    jax.tree.map(np.testing.assert_array_equal, form.run(arrays | others, cotangent), (out, gradients))
    for name in others:
        assert not np.asarray(gradients[name])[hidden].any(), name


def flat(shape):
    """Features of which some places are zero, or that are the same everywhere."""
    some_zero = st.tuples(features(shape), hnp.arrays(bool, shape[:-1])).map(lambda x: x[0] * x[1][..., None])
    return some_zero | st.sampled_from([0, 1, -3e-4, 1e15]).map(lambda x: np.full(shape, x, np.float32))


@settings(max_examples=80)
@given(inputs() | inputs(features=flat))
def test_it_is_the_equations_and_gradients_are_numbers(example):
    """Where patches are zero and maps constant, too."""
    form, arrays, cotangent = example
    out, gradients = form.run(arrays, cotangent)
    assert_close(out, literal_attention(**arrays, size=form.size), VALUES, beside=carried(arrays))
    for name, gradient in gradients.items():
        assert np.isfinite(gradient).all(), name


@pytest.mark.parametrize("length, counts", [(0.9e-6, False), (1.1e-6, True)])
def test_patches_shorter_than_the_docstring_says_count_as_zero(length, counts):
    # Of two positions, the second is what current shows.
    adjacent, current = np.float32([[[1, 0], [0, 1]]]), np.float32([[[0, length]]])
    _, second = programs.weights_of({"current": current, "adjacent": adjacent}, size=1)[0, 0, 0]
    assert second == pytest.approx(1 / (1 + np.exp(-10)) if counts else 1 / 2, rel=1e-5)


@OFTEN
@given(inputs(WITHOUT_BLOCKS[:2]))
def test_weights_of_what_may_be_used_sum_to_one_or_are_all_zero(example):
    form, arrays, _ = example
    weights = np.asarray(form.weights(arrays))
    assert weights.shape == (*form.current[:2], *form.adjacent[:-1])
    assert (weights >= 0).all()
    assert not weights[:, :, ~arrays["mask"]].any()
    totals = weights.sum(tuple(range(2, weights.ndim)))
    # Sums of 60 numbers, none above 1.
    np.testing.assert_allclose(totals, float(arrays["mask"].any()), atol=1e-6)


@OFTEN
@given(inputs((programs.THREE_FRAMES, *BLOCKS)), st.sampled_from([1e-3, 0.37, 1e4]))
def test_brightness_does_not_change_what_is_similar(example, factor):
    form, arrays, cotangent = example
    out, _ = form.run(arrays, cotangent)
    brighter, _ = form.run(arrays | {"current": arrays["current"] * np.float32(factor)}, cotangent)
    # Ten times the cosines' rounding comes back out of the softmax.
    assert_close(brighter, out, 1e-5, beside=carried(arrays))


# The same under JAX's transformations, which take the same sums in another order.


each_way = pytest.mark.parametrize("form", [programs.THREE_FRAMES, replace(programs.THREE_FRAMES, block=3)], ids=str)


def assert_trees_close(got, wanted, bound):
    for ours, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        assert_close(ours, theirs, bound)


@each_way
def test_jit_vmap_and_pmap_agree(eight_devices, form):
    function = partial(programs.op_and_gradients, size=form.size, block=form.block)
    ways = [programs.compiled_quickly(way) for way in (jax.vmap(function), jax.pmap(function, devices=eight_devices))]

    @settings(max_examples=3)
    @given(st.integers(0, 2**16))
    def agree(seed):
        batch = [form.inputs(seed + i) for i in range(8)]
        wanted = together([form.run(*one) for one in batch])
        for way in ways:
            assert_trees_close(way(*together(batch)), wanted, VALUES)

    agree()


def together(trees):
    return jax.tree.map(lambda *x: np.stack(x), *trees)


def test_plain_and_jit_agree():
    arrays, cotangent = programs.THREE_FRAMES.inputs(6)
    plain = temporal_attention(arrays["current"], arrays["adjacent"], softmax_scale=arrays["scale"],
                               adjacent_mask=arrays["mask"], payload=arrays["payload"])
    assert_close(plain, programs.THREE_FRAMES.run(arrays, cotangent)[0], REORDERED)


@each_way
def test_shard_map_agrees_and_adds_up_the_gradients_of_what_devices_share(eight_devices, form):
    batch = [form.inputs(seed) for seed in range(8)]
    currents, cotangents = (np.stack(x) for x in zip(*((arrays["current"], ct) for arrays, ct in batch)))
    shared = {name: x for name, x in batch[0][0].items() if name != "current"}

    def function(current, shared, cotangent):
        out, gradients = programs.op_and_gradients({"current": current[0], **shared}, cotangent[0], size=form.size,
                                          block=form.block)
        return out[None], gradients.pop("current")[None], gradients

    each, everywhere = P("devices"), P()
    sharded = programs.compiled_quickly(jax.shard_map(
        function, mesh=Mesh(np.array(eight_devices), "devices"), in_specs=(each, everywhere, each),
        out_specs=(each, each, everywhere)))
    out, gradients = together([form.run({"current": current, **shared}, cotangent)
                               for current, cotangent in zip(currents, cotangents)])
    of_current = gradients.pop("current")
    totals = {name: gradient.sum(0) for name, gradient in gradients.items()}
    # What devices share gets the sum of eight gradients, some of which cancel.
    assert_trees_close(sharded(currents, shared, cotangents), (out, of_current, totals), GRADIENTS)
