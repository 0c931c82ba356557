"""Every network against its PyTorch twin: outputs and gradients, with the same random weights and biases.

The twin computes in float64, so a difference is the rounding of the float32 under test. Differences are the
largest over the largest magnitude of the same array. A float32 sum of a few hundred products is good to some
1e-7, and gradients pass through the layers twice: OUTPUTS and GRADIENTS leave a few times what is measured.
The ResNet has up to 50 layers, each adding its own, and its bounds are wider.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from comparing import assert_trees_close, difference, largest_difference, pictures, some_masks
from people import random_reid
from random_training import random_parameters

from vrstc_jax import config as configs
from vrstc_jax.models import generators
from vrstc_jax.models.blend import from_blocks, to_blocks
from vrstc_jax.models.discriminators import DiscriminatorPair
from vrstc_jax.models.reid import ReidNet, initial_variables
from vrstc_jax.ops.convolution import deconvolution

pytestmark = pytest.mark.usefixtures("quick_compilation")

OUTPUTS, GRADIENTS = 2e-6, 2e-5
RESNET_OUTPUTS, RESNET_GRADIENTS = 2e-5, 1e-4

# The same loops as the paper's and as few turns as show them: compiling is most of the time here.
NARROW = configs.Autoencoder(widths=(4, 6, 8), strides=(1, 2, 2), dilated_width=8, dilations=(2, 4), decoder_width=6)
PLAIN = configs.STCnet(height=32, width=16, spatial=NARROW, temporal=NARROW)
OPTIONS = dataclasses.replace(PLAIN, frames_per_side=2, share_neighbour_encoders=False, patch_size=1,
                              learned_scale=True, transport=True, blend_width=4)
PLAYERS = configs.Discriminators(widths=(4, 4, 8))


def compare(weights, network, module, params, inputs, *, differentiate):
    """Both outputs, and gradients in all parameters and in the inputs numbered `differentiate`."""
    module = weights.load(module, params)
    tensors = [weights.tensor(x, grad=i in differentiate) for i, x in enumerate(inputs)]
    wanted = module(*tensors)
    cotangents = [np.random.default_rng(9 + i).standard_normal(weights.array(w).shape).astype(np.float32)
                  for i, w in enumerate(wanted)]
    sum((w * weights.tensor(c)).sum() for w, c in zip(wanted, cotangents)).backward()

    @jax.jit
    def ours(params, chosen):
        def forward(params, chosen):
            return network.apply({"params": params}, *(chosen.get(i, x) for i, x in enumerate(inputs)))

        out, pullback = jax.vjp(forward, params, chosen)
        return out, *pullback(tuple(map(jnp.asarray, cotangents)))

    out, of_params, of_inputs = ours(params, {i: inputs[i] for i in differentiate})
    for got, w in zip(out, wanted, strict=True):
        assert difference(got, weights.array(w)) <= OUTPUTS
    assert_trees_close(of_params, weights.gradients(module, params), GRADIENTS)
    for i in differentiate:
        assert difference(of_inputs[i], weights.array(tensors[i].grad)) <= GRADIENTS, f"input {i}"


def generator_inputs(config, seed=6):
    """Frames, masks, previous and following neighbours."""
    sides = (2, config.frames_per_side, 32, 16, 3)
    return [pictures(seed, 2, 32, 16, 3), some_masks(2, 32, 16), pictures(seed + 1, *sides), pictures(seed + 2, *sides)]


# Generators.


def test_deconvolution_is_pytorchs_and_its_gradients_are_autodiffs(torch):
    random = np.random.default_rng(0)
    x, kernel, cotangent = (random.standard_normal(shape).astype(np.float32)
                            for shape in ((2, 5, 3, 4), (4, 4, 6, 4), (2, 10, 6, 6)))
    tensors = [torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in (x, kernel)]
    wanted = torch.nn.functional.conv_transpose2d(tensors[0].permute(0, 3, 1, 2), tensors[1].permute(3, 2, 0, 1),
                                                  stride=2, padding=1).permute(0, 2, 3, 1)
    wanted.backward(torch.tensor(cotangent, dtype=torch.float64))
    out, pullback = jax.vjp(deconvolution, x, kernel)
    gradients = pullback(jnp.asarray(cotangent))
    for got, tensor in zip((out, *gradients), (wanted.detach(), *(t.grad for t in tensors)), strict=True):
        assert difference(got, tensor) <= 1e-6  # single sums of at most 2·10·6 products


@pytest.mark.parametrize("config", [PLAIN, OPTIONS], ids=["plain", "all options"])
def test_generators_are_their_twins(twin, weights, config):
    """Both generators in sequence, with copy-back: x̂1 and x̂2."""
    network = generators.Generators(config)
    inputs = generator_inputs(config)
    params = random_parameters(network, 9, *inputs)
    compare(weights, network, twin.Generators(config), params, inputs, differentiate=[0, 2, 3])


def test_generators_leave_the_visible_part_alone_and_do_not_see_the_hole():
    config = dataclasses.replace(PLAIN, transport=True, learned_scale=True, blend_width=4)
    network = generators.Generators(config)
    frames, masks, *sides = generator_inputs(config, 10)
    variables = {"params": random_parameters(network, 13, frames, masks, *sides)}
    apply = jax.jit(network.apply)
    completed = apply(variables, frames, masks, *sides)
    hidden = np.broadcast_to(masks > 0.5, frames.shape)
    for out in map(np.asarray, completed):
        np.testing.assert_array_equal(out[~hidden], frames[~hidden])
        assert (out[hidden] != frames[hidden]).mean() > 0.99
    other = np.where(hidden, np.float32(np.nan), frames)
    for out, same in zip(apply(variables, other, masks, *sides), completed):
        np.testing.assert_array_equal(out, same)


def test_neighbours_encoded_before_give_the_same_completion():
    network = generators.Generators(OPTIONS)
    frames, masks, *sides = generator_inputs(OPTIONS, 14)
    variables = {"params": random_parameters(network, 17, frames, masks, *sides)}

    @jax.jit
    def from_encoded(variables):
        encoded = []
        for side, following in zip(sides, (False, True)):
            features = network.apply(variables, side.reshape(4, 32, 16, 3), following=following,
                                     method="encode_neighbours")
            encoded.append((side, features.reshape(2, 2, *features.shape[1:])))
        return network.apply(variables, frames, masks, *encoded, method="complete_from_encoded")

    whole = jax.jit(network.apply)(variables, frames, masks, *sides)
    for got, wanted in zip(from_encoded(variables), whole):
        assert difference(got, wanted) <= 1e-6  # the same sums, fused otherwise


def test_blocks_are_the_pixels_behind_each_position():
    frames = pictures(18, 2, 3, 8, 12, 3)
    blocks = to_blocks(frames, 4)
    assert blocks.shape == (2, 3, 2, 3, 48)
    np.testing.assert_array_equal(np.sort(blocks[1, 2, 1, 2]), np.sort(frames[1, 2, 4:8, 8:12].ravel()))
    np.testing.assert_array_equal(from_blocks(blocks[:, 0], 4), frames[:, 0])


# Discriminators.


def test_discriminators_are_their_twins(twin, weights):
    # On the hole's box; on the masked frame they are compared in test_parity.py.
    config = dataclasses.replace(PLAYERS, local_input="cropped")
    network = DiscriminatorPair(config)
    frames, masks = pictures(19, 3, 32, 16, 3), some_masks(3, 32, 16)
    params = random_parameters(network, 20, frames, masks)
    compare(weights, network, twin.DiscriminatorPair(config, (32, 16)), params, [frames, masks], differentiate=[0])


def test_local_discriminator_does_not_see_the_visible_part():
    network = DiscriminatorPair(PLAYERS)
    frames, masks = pictures(21, 2, 32, 16, 3), some_masks(2, 32, 16)
    params = random_parameters(network, 22, frames, masks)
    other = np.where(masks > 0.5, frames, pictures(23, 2, 32, 16, 3))
    apply = jax.jit(network.apply)
    (whole, part), (other_whole, other_part) = (apply({"params": params}, x, masks) for x in (frames, other))
    np.testing.assert_array_equal(part, other_part)
    assert (whole != other_whole).all()


# The re-ID network.

BASIC = configs.Reid(height=32, width=16, blocks=(1, 1, 1, 1), bottleneck=False, base_width=4, stem_pool=False)
BOTTLENECK = configs.Reid(height=32, width=16, blocks=(1, 2, 1, 1), base_width=4)
FIFTY = configs.Reid(height=32, width=16, base_width=4)  # the paper's 50 layers, narrower


def random_network(config):
    """The network for five people, and its random weights and running statistics."""
    variables = random_reid(config, identities=tuple("abcde")).variables
    return ReidNet(config, 5), variables["params"], variables["batch_stats"]


def compare_in_training(twin, weights, config, precision):
    """The largest differences of logits, weight gradients, the input's gradient and running statistics."""
    network, params, stats = random_network(config)
    clips, cotangent = pictures(27, 4, 2, config.height, config.width, 3), pictures(30, 4, 5)

    module = weights.load(twin.ReidNet(config, 5).train(), params, stats)
    tensor = weights.tensor(clips, grad=True)
    wanted = module(tensor)
    wanted.backward(weights.tensor(cotangent))

    @jax.jit
    def ours(params, stats, clips, cotangent):
        def forward(params, clips):
            return network.apply({"params": params, "batch_stats": stats}, clips, train=True, mutable=["batch_stats"])

        out, pullback, updated = jax.vjp(forward, params, clips, has_aux=True)
        return out, updated["batch_stats"], *pullback(cotangent)

    inputs = jax.tree.map(lambda leaf: np.asarray(leaf, precision), (params, stats, clips, cotangent))
    out, new_stats, of_params, of_clips = ours(*inputs)
    assert out.dtype == precision
    wanted_stats = weights.biased_statistics(module, stats, weights.statistics(module, stats))
    return (difference(out, weights.array(wanted)),
            largest_difference(of_params, weights.gradients(module, params)),
            difference(of_clips, weights.array(tensor.grad)), largest_difference(new_stats, wanted_stats))


def test_reid_network_is_its_twin_in_training(twin, weights):
    # Of bottlenecks; of basic blocks in test_parity.py.
    out, of_params, of_clips, stats = compare_in_training(twin, weights, BOTTLENECK, np.float32)
    assert out <= RESNET_OUTPUTS and stats <= RESNET_OUTPUTS
    assert of_params <= RESNET_GRADIENTS and of_clips <= RESNET_GRADIENTS


@pytest.mark.slow
def test_fifty_layers_are_their_twin_in_training(twin, weights):
    # Over so many layers a float32 rounding flips a ReLU or two, in PyTorch as here, and a gradient with it.
    # In float64 nothing flips, and what is left is a thousand times smaller than any mistake.
    with jax.enable_x64(True):
        assert max(compare_in_training(twin, weights, FIFTY, np.float64)) <= 1e-9


@pytest.mark.parametrize("config", [BASIC, FIFTY], ids=["basic", "50 layers"])
def test_reid_network_is_its_twin_with_fixed_statistics(twin, weights, config):
    """Feature maps and logits, as locating and guiding use them."""
    network, params, stats = random_network(config)
    module = weights.load(twin.ReidNet(config, 5).eval(), params, stats)
    clips = pictures(30, 2, 2, config.height, config.width, 3)

    @jax.jit
    def ours(variables, clips):
        return network.apply(variables, clips), network.apply(variables, clips[:, 0], method="maps")

    logits, maps = ours({"params": params, "batch_stats": stats}, clips)
    assert difference(logits, weights.array(module(weights.tensor(clips)))) <= RESNET_OUTPUTS
    assert difference(maps, weights.array(module.maps(weights.tensor(clips[:, 0])))) <= RESNET_OUTPUTS


@pytest.mark.parametrize("size", [(16, 8), (48, 40)], ids=["smaller", "larger"])
def test_frames_of_another_size_are_resized_as_pytorch_does(twin, weights, size):
    # Smaller is the guider's case; the larger are averaged over what a pixel covers.
    network, params, stats = random_network(BASIC)
    module = weights.load(twin.ReidNet(BASIC, 5).eval(), params, stats)
    clips = pictures(33, 2, 1, *size, 3)
    got = jax.jit(network.apply)({"params": params, "batch_stats": stats}, clips)
    assert difference(got, weights.array(module(weights.tensor(clips)))) <= RESNET_OUTPUTS


def test_bands_are_means_of_the_feature_map():
    config = configs.Reid(height=96, width=16, blocks=(1, 1, 1, 1), bottleneck=False, base_width=4)
    network, params, stats = random_network(config)
    variables, frames = {"params": params, "batch_stats": stats}, pictures(36, 3, 96, 16, 3)
    maps, bands = (jax.jit(partial(network.apply, method=method))(variables, frames) for method in ("maps", "bands"))
    assert maps.shape == (3, 6, 1, 32)
    np.testing.assert_allclose(bands, maps.reshape(3, 3, 2, 1, 32).mean((2, 3)), rtol=1e-5, atol=1e-6)


# The paper's shapes; nothing is computed.


def count(tree):
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


@pytest.fixture(scope="module")
def paper():
    config = configs.get("full")
    frames, masks, sides = shape(2, 128, 64, 3), shape(2, 128, 64, 1), shape(2, 1, 128, 64, 3)
    network = generators.Generators(config.stcnet)
    variables = jax.eval_shape(network.init, jax.random.key(0), frames, masks, sides, sides)
    return config, network, variables, (frames, masks, sides, sides)


def test_shapes_of_the_papers_generators(paper):
    _, network, variables, inputs = paper
    first, second = jax.eval_shape(network.apply, variables, *inputs)
    assert first.shape == second.shape == (2, 128, 64, 3)
    features = jax.eval_shape(partial(network.apply, method="encode_neighbours"), variables, inputs[0])
    assert features.shape == (2, 32, 16, 256)
    temporal = variables["params"]["temporal"]
    assert temporal["decoder"]["deconv1"]["kernel"].shape == (4, 4, 128, 768)
    assert temporal["current_encoder"]["conv1"]["kernel"].shape == (3, 3, 4, 64)
    assert temporal["neighbour_encoder"]["conv1"]["kernel"].shape == (3, 3, 3, 64)
    assert set(temporal) == {"current_encoder", "neighbour_encoder", "decoder"}


def test_number_of_weights_of_the_papers_generators(paper):
    # 3×3 kernels and biases: widths 64-128-128-256-256, four dilated ones of 256; 4×4 deconvolutions.
    def encoder(channels):
        widths = [channels, 64, 128, 128, 256, 256, 256, 256, 256, 256]
        return sum(9 * i * o + o for i, o in zip(widths, widths[1:]))

    def decoder(channels):
        return 16 * channels * 128 + 128 + 16 * 128 * 3 + 3

    params = paper[2]["params"]
    assert count(params["spatial"]) == encoder(4) + decoder(256)
    assert count(params["temporal"]) == encoder(4) + encoder(3) + decoder(768)
    assert count(params) == 12_517_254


def test_shapes_of_the_papers_discriminators(paper):
    config = paper[0]
    network = DiscriminatorPair(config.discriminators)
    inputs = paper[3][:2]
    variables = jax.eval_shape(network.init, jax.random.key(0), *inputs)
    assert [out.shape for out in jax.eval_shape(network.apply, variables, *inputs)] == [(2,), (2,)]
    # Six strides of 2 leave 2×1 positions of 512 channels.
    assert variables["params"]["global"]["unit"]["kernel"].shape == (2 * 1 * 512, 1)
    widths = [3, 64, 128, 256, 512, 512, 512]
    one = sum(9 * i * o + o for i, o in zip(widths, widths[1:])) + 1024 + 1
    assert count(variables["params"]) == 2 * one


def test_shapes_of_the_papers_resnet(paper):
    config = paper[0].reid
    variables = jax.eval_shape(lambda: initial_variables(config, 625, jax.random.key(0)))
    # torchvision's resnet50 has 25,557,032 weights, 2,049,000 of them its classifier of 1000 classes.
    assert count(variables["params"]["backbone"]) == 25_557_032 - 2_049_000
    assert count(variables["params"]["classifier"]) == 2048 * 625 + 625
    network = ReidNet(config, 625)
    for method, given, wanted in (("maps", shape(2, 256, 128, 3), (2, 16, 8, 2048)),
                                  ("bands", paper[3][0], (2, 3, 2048)),
                                  ("__call__", shape(2, 4, 256, 128, 3), (2, 625))):
        assert jax.eval_shape(partial(network.apply, method=method), variables, given).shape == wanted
