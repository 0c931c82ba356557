"""The networks of the paper's ablation, which replace the temporal generator (Table 1).

Spa: G_s alone. Spa+AE: a second autoencoder without neighbours, its encoder's filters tripled. Spa+TAE: G_t
without attention.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from comparing import difference, pictures, some_masks
from people import SMOKE, changed, figures, masks_at, random_model, tracklet
from random_training import stcnet_batch

from vrstc_jax.inference.completer import Completer
from vrstc_jax.models.generators import Decoder, Encoder, Generators
from vrstc_jax.ops.pictures import resize, to_float, to_uint8
from vrstc_jax.training import stcnet

pytestmark = pytest.mark.usefixtures("quick_compilation")

FORMS = ("concatenation", "autoencoder", "none")


def config_of(form):
    return changed(SMOKE, stcnet={"temporal_form": form})


def inputs(config, batch=2):
    c = config.stcnet
    sides = (pictures(seed, batch, 1, c.height, c.width, 3) for seed in (1, 2))
    return pictures(0, batch, c.height, c.width, 3), some_masks(batch, c.height, c.width), *sides


def step(config):
    """Gradients of generators and discriminators and the metrics, of a fresh state on one batch."""
    state, batch = stcnet.initial_state(config.stcnet_task), stcnet_batch(config, 0, size=2)
    batch["labels"] %= 3
    return jax.jit(lambda batch: stcnet.gradients(config.stcnet_task, 3, state, None, batch))(batch)


def test_concatenation_decodes_the_three_feature_maps_as_they_are():
    config = config_of("concatenation")
    params, (frames, masks, previous, following) = random_model(config).generators, inputs(config)
    first, second = Generators(config.stcnet).apply({"params": params}, frames, masks, previous, following)
    parts, shape = params["temporal"], config.stcnet.temporal
    features = [Encoder(shape).apply({"params": parts[name]}, x) for name, x in (
        ("current_encoder", jnp.concatenate([first, masks], -1)), ("neighbour_encoder", previous[:, 0]),
        ("neighbour_encoder", following[:, 0]))]
    wanted = Decoder(shape).apply({"params": parts["decoder"]}, jnp.concatenate(features, -1))
    wanted = np.where(masks > 0.5, wanted, frames)
    assert difference(second, wanted) <= 2e-6  # the same sums, compiled together or one by one
    assert set(parts) == {"current_encoder", "neighbour_encoder", "decoder"}


def test_autoencoder_has_three_times_the_filters_and_sees_no_neighbour():
    config = config_of("autoencoder")
    params, (frames, masks, previous, following) = random_model(config).generators, inputs(config)
    c, encoder = config.stcnet.temporal, params["temporal"]["current_encoder"]
    assert encoder["conv1"]["kernel"].shape == (3, 3, 4, 3 * c.widths[0])
    assert encoder["dilated1"]["kernel"].shape == (3, 3, 3 * c.widths[-1], 3 * c.dilated_width)
    # What it hands to the decoder is as wide as the three maps of G_t.
    assert params["temporal"]["decoder"]["deconv1"]["kernel"].shape[-1] == 3 * c.dilated_width
    network = Generators(config.stcnet)
    first, second = network.apply({"params": params}, frames, masks, previous, following)
    again = network.apply({"params": params}, frames, masks, -previous, 0 * following)
    np.testing.assert_array_equal(second, again[1])
    hidden = np.broadcast_to(masks > 0.5, frames.shape)
    assert not np.allclose(np.asarray(first)[hidden], np.asarray(second)[hidden])


def test_spatial_alone_has_one_completion():
    config = config_of("none")
    params = random_model(config).generators
    assert set(params) == {"spatial"}
    first, second = Generators(config.stcnet).apply({"params": params}, *inputs(config))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("form", FORMS)
def test_completing_is_the_network_s_own_forward_pass(form):
    model = random_model(config_of(form))
    frames = figures(6, sizes=((32, 16),))
    masks = masks_at(frames, [2, 3])
    done = list(Completer(model).stream(tracklet(frames, masks)))
    c = model.config.stcnet
    side = [to_float(np.stack([resize(frames[i], c.height, c.width)] * 2))[:, None] for i in (1, 4)]
    _, wanted = Generators(c).apply({"params": model.generators}, to_float(np.stack(frames[2:4])),
                                    np.stack(masks[2:4])[..., None].astype(np.float32), *side)
    for entry, picture in zip(done[2:4], to_uint8(wanted), strict=True):
        assert entry.how == "stcnet"
        # A grey level: sums in another order, at another batch size, may round to the next one.
        assert np.abs(entry.frame.astype(int) - np.asarray(picture).astype(int)).max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_a_step_moves_every_weight_there_is(form):
    grads, _, metrics = step(config_of(form))
    assert all(np.any(leaf) for leaf in jax.tree.leaves(grads["generators"]))
    assert np.isfinite(metrics["generators"])


@pytest.mark.slow
@pytest.mark.parametrize("one, other", [("global", "local"), ("local", "global")])
def test_one_discriminator_alone(one, other):
    """Its loss is L_r and λ1 times its own, and that one's alone."""
    losses = {f"{other}_discriminator": False, "adversarial": 0.5, "identity": 0.0}
    _, _, metrics = step(changed(SMOKE, losses=losses))
    wanted = metrics["reconstruction"] + 0.5 * metrics[f"adversarial_{one}"]
    assert metrics["generators"] == pytest.approx(float(wanted), rel=1e-6)  # float32


@pytest.mark.slow
def test_without_a_discriminator_none_is_trained():
    losses = {"global_discriminator": False, "local_discriminator": False, "identity": 0.0}
    grads, _, metrics = step(changed(SMOKE, losses=losses))
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(grads["discriminators"]))
    assert metrics["generators"] == metrics["reconstruction"] and "adversarial_global" not in metrics
