"""Equations 4 to 10 and the re-ID losses, by hand, in loops and against PyTorch's own."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from comparing import difference

from vrstc_jax.models import losses

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_reconstruction_by_hand():
    frames = jnp.zeros((1, 1, 2, 3))
    first = frames.at[0, 0, 0].set(jnp.array([1.0, -2, 0]))  # sum of |.| 3, of squares 5, over six values
    second = frames.at[0, 0, 1, 2].set(3.0)
    assert losses.reconstruction(frames, first, second) == pytest.approx(3 / 6 + 3 / 6)
    assert losses.reconstruction(frames, first, second, kind="l2") == pytest.approx(5 / 6 + 9 / 6)
    with pytest.raises(KeyError):
        losses.reconstruction(frames, first, second, kind="l3")


def test_adversarial_losses_by_hand():
    # σ(ln 3) = 3/4, σ(−ln 3) = 1/4.
    three = float(np.log(3))
    real, fake = jnp.array([three, 0.0]), jnp.array([-three, three])
    wanted = -(np.log(3 / 4) + np.log(1 / 2)) / 2 - (np.log(1 - 1 / 4) + np.log(1 - 3 / 4)) / 2
    assert losses.discriminator(real, fake) == pytest.approx(wanted, rel=1e-6)
    assert losses.adversarial(fake) == pytest.approx(-(np.log(1 / 4) + np.log(3 / 4)) / 2, rel=1e-6)
    undecided = jnp.zeros(5)  # D = 1/2 everywhere
    assert losses.discriminator(undecided, undecided) == pytest.approx(2 * np.log(2))
    assert losses.adversarial(undecided) == pytest.approx(np.log(2))


def test_sure_discriminators_give_numbers():
    sure = jnp.array([500.0, -500.0])
    loss, gradient = jax.value_and_grad(losses.adversarial)(sure)
    assert loss == pytest.approx(250)
    np.testing.assert_allclose(gradient, [0, -0.5], atol=1e-7)
    assert losses.discriminator(sure[:1], sure[1:]) == 0
    assert losses.discriminator(sure[1:], sure[:1]) == pytest.approx(1000)


def test_identity_by_hand():
    # softmax (0, ln 3) = (1/4, 3/4)
    logits = jnp.array([[0.0, np.log(3)], [0.0, 0.0]])
    wanted = -(np.log(3 / 4) + np.log(1 / 2)) / 2
    assert losses.identity(logits, jnp.array([1, 0])) == pytest.approx(wanted, rel=1e-6)
    # Smoothed by ε = 0.2, of two classes: 0.9 at the label, 0.1 elsewhere.
    wanted = -0.9 * np.log(3 / 4) - 0.1 * np.log(1 / 4)
    assert losses.identity(logits[:1], jnp.array([1]), smoothing=0.2) == pytest.approx(wanted, rel=1e-6)


def test_contrastive_by_hand():
    distances, same = jnp.array([3.0, 3.0, 1.0, 0.0]), jnp.array([True, False, False, False])
    wanted = (3 ** 2 + 0 + (2 - 1) ** 2 + 2 ** 2) / 2 / 4
    assert losses.contrastive(distances, same, margin=2.0) == pytest.approx(wanted)


def triplet_by_loops(torch, features, labels, margin):
    """Of PyTorch tensors, one anchor, one positive, one negative at a time."""
    total = 0.0
    for a, person in enumerate(labels):
        positives = [torch.dist(features[a], features[i]) for i, p in enumerate(labels) if p == person and i != a]
        negatives = [torch.dist(features[a], features[i]) for i, p in enumerate(labels) if p != person]
        if negatives:
            total = total + torch.clamp(margin + max(positives, default=0.0) - min(negatives), min=0)
    return total / len(labels)


@pytest.mark.parametrize("labels", [[0, 0, 0, 1, 1, 1, 2, 2], [4, 0, 0, 4, 1, 0, 1, 9], [3] * 8])
def test_triplets_are_those_of_loops(torch, labels):
    """All, some and no clips with others of their person and of others; value and gradient."""
    features = np.random.default_rng(1).standard_normal((8, 5)).astype(np.float32)
    tensor = torch.tensor(features, dtype=torch.float64, requires_grad=True)
    wanted = triplet_by_loops(torch, tensor, labels, 0.7) + 0 * tensor.sum()
    wanted.backward()
    loss = partial(losses.batch_hard_triplet, margin=0.7)
    got, gradient = jax.jit(jax.value_and_grad(loss))(features, np.array(labels))
    assert got == pytest.approx(wanted.item(), rel=1e-6)
    np.testing.assert_allclose(gradient, tensor.grad, atol=1e-6)  # sums of a few float32 numbers near 1


def test_triplets_of_equal_features():
    loss = jax.jit(jax.value_and_grad(partial(losses.batch_hard_triplet, margin=0.3)))
    value, gradient = loss(jnp.ones((4, 3)), jnp.array([0, 0, 1, 1]))
    assert value == pytest.approx(0.3)
    np.testing.assert_array_equal(gradient, 0)


def test_triplets_over_devices_are_those_of_the_whole_batch(eight_devices):
    """Gradients of each device's loss, averaged afterwards, as the trainers do it."""
    random = np.random.default_rng(2)
    inputs, kernel = random.standard_normal((16, 6)), random.standard_normal((6, 5))
    labels = np.repeat(np.arange(8), 2)  # with four devices, positives elsewhere too
    order = random.permutation(16)
    inputs, labels = inputs[order].astype(np.float32), labels[order]

    def loss(kernel, inputs, labels, axis_name=None):
        return losses.batch_hard_triplet(jnp.tanh(inputs @ kernel), labels, margin=0.7, axis_name=axis_name)

    wanted, wanted_gradient = jax.jit(jax.value_and_grad(loss))(kernel, inputs, labels)
    for devices in (2, 4):
        def mean(kernel, inputs, labels):
            here = jax.value_and_grad(partial(loss, axis_name="d"))(kernel, inputs, labels)
            return jax.lax.pmean(here, "d")

        parts = (x.reshape(devices, -1, *x.shape[1:]) for x in (inputs, labels))
        step = jax.pmap(mean, "d", in_axes=(None, 0, 0), out_axes=None, devices=eight_devices[:devices])
        got, gradient = step(kernel, *parts)
        assert got == pytest.approx(float(wanted), rel=1e-6)
        assert difference(gradient, wanted_gradient) <= 2e-6  # the same sums in another order


LABELS = np.array([2, 0, 0, 3])


@pytest.mark.parametrize("ours, theirs, shape", [
    (losses.discriminator, lambda twin, *x: twin.discriminator_loss(*x), (2, 7)),
    (losses.adversarial, lambda twin, x: twin.adversarial_loss(x), (1, 7)),
    (losses.reconstruction, lambda twin, *x: twin.reconstruction_loss(*x), (3, 2, 4, 5, 3)),
    (partial(losses.reconstruction, kind="l2"), lambda twin, *x: twin.reconstruction_loss(*x, kind="l2"),
     (3, 2, 4, 5, 3)),
    (lambda x: losses.identity(x, LABELS), lambda twin, x: twin.F.cross_entropy(x, twin.torch.tensor(LABELS)),
     (1, 4, 5)),
    (lambda x: losses.identity(x, LABELS, smoothing=0.1),
     lambda twin, x: twin.F.cross_entropy(x, twin.torch.tensor(LABELS), label_smoothing=0.1), (1, 4, 5)),
], ids=["discriminator", "adversarial", "l1", "l2", "identity", "smoothed"])
def test_values_and_gradients_are_pytorchs(twin, ours, theirs, shape):
    inputs = (3 * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)
    tensors = [twin.torch.tensor(x, dtype=twin.torch.float64, requires_grad=True) for x in inputs]
    wanted = theirs(twin, *tensors)
    wanted.backward()
    got, gradients = jax.jit(jax.value_and_grad(ours, argnums=tuple(range(len(inputs)))))(*inputs)
    # One logarithm and a sum of at most 120 numbers in float32.
    assert got == pytest.approx(wanted.item(), rel=1e-6)
    for gradient, tensor in zip(gradients, tensors, strict=True):
        assert difference(gradient, tensor.grad) <= 2e-6
