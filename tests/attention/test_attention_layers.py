"""Temporal attention as a Flax layer, Linen and NNX, against the equations taken literally."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attention_programs import compiled_quickly, maps, some_true
from comparing import difference, randomised
from flax import nnx
from literal_attention import literal_attention

from vrstc_jax.attention import TemporalAttention
from vrstc_jax.attention import nnx as attention_nnx

pytestmark = pytest.mark.usefixtures("quick_compilation")

# The op's own bound; and for a few products more before it.
VALUES, PROJECTED = 2e-6, 4e-6


def inputs(seed):
    """Two examples of three frames: (arrays, options)."""
    current, adjacent, payload = maps(seed, (2, 4, 3, 5), (2, 3, 3, 4, 5), (2, 3, 3, 4, 2))
    return (current, adjacent), {"adjacent_mask": some_true(seed, (2, 3, 3, 4)), "payload": payload}


def linen(parameters, **attributes):
    """The Linen layer as a function of what it is called with."""
    layer = TemporalAttention(**attributes)

    @compiled_quickly
    def function(*arrays, **options):
        return layer.apply({"params": parameters}, *arrays, **options)

    return function


def in_nnx(parameters, *, features=None, payload_features=None, **attributes):
    """The NNX module with the Linen layer's parameters."""
    module = nnx.eval_shape(lambda: attention_nnx.TemporalAttention(
        features, payload_features=payload_features, rngs=nnx.Rngs(0) if parameters else None, **attributes))
    for name, projection in parameters.items():
        for kind, value in projection.items():
            variable = getattr(getattr(module, name), kind)
            assert variable.shape == value.shape, (name, kind)
            variable.set_value(jnp.asarray(value))
    assert len(jax.tree.leaves(nnx.state(module, nnx.Param))) == len(jax.tree.leaves(parameters))
    return compiled_quickly(lambda *arrays, **options: module(*arrays, **options))


def literally(current, adjacent, *, adjacent_mask=None, payload=None, **options):
    return literal_attention(current, adjacent, mask=adjacent_mask, payload=payload, **options)


@pytest.mark.parametrize("layer", [linen, in_nnx])
def test_without_projections_it_is_the_op_over_a_batch(layer):
    (current, adjacent), options = inputs(0)
    function = layer({}, patch_size=1, softmax_scale=3.0, block_size=2)
    got = function(current, adjacent, **options)
    assert got.shape == (2, 4, 3, 2)
    for i in range(2):
        of_one = {name: x[i] for name, x in options.items()}
        wanted = literally(current[i], adjacent[i], **of_one, size=1, scale=3.0)
        assert difference(got[i], wanted) <= VALUES
    alone = function(current[0], adjacent[0], **{name: x[0] for name, x in options.items()})
    assert difference(alone, got[0]) <= VALUES
    single_frame = function(current, adjacent[:, 0])
    assert difference(single_frame[1], literally(current[1], adjacent[1, 0], size=1, scale=3.0)) <= VALUES


def test_it_has_no_parameters_unless_asked():
    arrays, options = inputs(1)
    assert not jax.eval_shape(TemporalAttention().init, jax.random.key(0), *arrays, **options)
    assert not jax.tree.leaves(nnx.state(attention_nnx.TemporalAttention()))


@pytest.mark.parametrize("compared, carried, with_payload", [
    (4, None, False), (4, None, True), (None, 6, True), (4, 6, False)])
def test_projections_are_made_before_the_op(compared, carried, with_payload):
    (current, adjacent), options = inputs(2)
    if not with_payload:
        del options["payload"]
    attributes = {"compared_features": compared, "carried_features": carried}
    layer = TemporalAttention(**attributes)
    shapes = jax.eval_shape(layer.init, jax.random.key(0), current, adjacent, **options)
    parameters = randomised(shapes["params"], 3)
    projections = {"current": compared, "adjacent": compared, "carried": carried}
    assert set(parameters) == {name for name, asked in projections.items() if asked}

    def projected(name, array):
        if name not in parameters:
            return array
        return array @ parameters[name]["kernel"].astype(np.float64) + parameters[name]["bias"]

    by_hand = {"current": projected("current", current), "adjacent": projected("adjacent", adjacent),
               "payload": projected("carried", options.get("payload", adjacent)),
               "adjacent_mask": options["adjacent_mask"]}
    got = linen(parameters, **attributes)(current, adjacent, **options)
    for i, out in enumerate(got):
        assert difference(out, literally(**{name: x[i] for name, x in by_hand.items()})) <= PROJECTED

    module = in_nnx(parameters, features=5, payload_features=2 if with_payload else None, **attributes)
    assert difference(module(current, adjacent, **options), got) <= PROJECTED


def test_every_parameter_is_trained():
    arrays, options = inputs(4)
    layer = TemporalAttention(compared_features=4, carried_features=6)
    parameters = randomised(jax.eval_shape(layer.init, jax.random.key(0), *arrays, **options), 5)

    def loss(parameters):
        return jnp.sum(layer.apply(parameters, *arrays, **options) ** 2)

    for gradient in jax.tree.leaves(compiled_quickly(jax.grad(loss))(parameters)):
        assert np.abs(gradient).max() > 1e-3


@pytest.mark.parametrize("layer", [TemporalAttention, attention_nnx.TemporalAttention])
def test_bad_input_raises_and_says_what_it_got(layer):
    layer = layer() if layer is attention_nnx.TemporalAttention else layer().bind({})
    image = np.zeros((4, 3, 2), np.float32)
    batch = np.stack([image] * 2)
    for current, adjacent, said in (
            (batch, np.stack([image] * 3), r"\(2, 4, 3, 2\) and \(3, 4, 3, 2\)"),
            (batch, image, r"same batch.*\(4, 3, 2\)"),
            (image[0], image, r"current .*\(3, 2\)"),
            (batch[None], batch[None], r"current .*\(1, 2, 4, 3, 2\)"),
            (image, image[..., :1], "2 and 1")):
        with pytest.raises(ValueError, match=said):
            layer(current, adjacent)
    with pytest.raises(ValueError, match=r"adjacent_mask .*\(3, 4\)"):
        layer(image, image, adjacent_mask=np.ones((3, 4), bool))


def test_nnx_projections_need_channels_and_keys():
    with pytest.raises(ValueError, match="features=None"):
        attention_nnx.TemporalAttention(compared_features=4, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="rngs=None"):
        attention_nnx.TemporalAttention(5, carried_features=4)
