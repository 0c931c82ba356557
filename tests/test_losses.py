"""Equations 4 to 10, by hand and against PyTorch's own losses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from comparing import difference
from vrstc_jax import losses

pytestmark = pytest.mark.usefixtures("quick_compilation")

LN2 = 0.6931471805599453


def test_reconstruction_by_hand():
    frames = jnp.zeros((1, 1, 2, 3))
    first = frames.at[0, 0, 0].set(jnp.array([1.0, -2, 0]))  # sum of |.| 3, of squares 5, over six values
    second = frames.at[0, 0, 1, 2].set(3.0)
    assert losses.reconstruction(frames, first, second) == pytest.approx(3 / 6 + 3 / 6)
    assert losses.reconstruction(frames, first, second, kind="l2") == pytest.approx(5 / 6 + 9 / 6)
    with pytest.raises(KeyError):
        losses.reconstruction(frames, first, second, kind="l3")


def test_adversarial_losses_of_an_undecided_discriminator():
    undecided = jnp.zeros(5)  # D = 1/2 everywhere
    assert losses.discriminator(undecided, undecided) == pytest.approx(2 * LN2)
    assert losses.adversarial(undecided) == pytest.approx(LN2)


def test_adversarial_losses_by_hand():
    # σ(ln 3) = 3/4, σ(−ln 3) = 1/4.
    three = float(np.log(3))
    real, fake = jnp.array([three, 0.0]), jnp.array([-three, three])
    wanted = -(np.log(3 / 4) + np.log(1 / 2)) / 2 - (np.log(1 - 1 / 4) + np.log(1 - 3 / 4)) / 2
    assert losses.discriminator(real, fake) == pytest.approx(wanted, rel=1e-6)
    assert losses.adversarial(fake) == pytest.approx(-(np.log(1 / 4) + np.log(3 / 4)) / 2, rel=1e-6)


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


def test_values_and_gradients_are_pytorchs(twin):
    random = np.random.default_rng(0)
    cases = {
        "discriminator": (losses.discriminator, twin.discriminator_loss,
                          [3 * random.standard_normal(7), 3 * random.standard_normal(7)]),
        "adversarial": (losses.adversarial, twin.adversarial_loss, [3 * random.standard_normal(7)]),
        "l1": (losses.reconstruction, twin.reconstruction_loss,
               list(random.standard_normal((3, 2, 4, 5, 3)))),
        "l2": (lambda *x: losses.reconstruction(*x, kind="l2"),
               lambda *x: twin.reconstruction_loss(*x, kind="l2"),
               list(random.standard_normal((3, 2, 4, 5, 3)))),
    }
    labels = np.array([2, 0, 0, 3])
    cases["identity"] = (lambda x: losses.identity(x, labels),
                         lambda x: twin.F.cross_entropy(x, twin.torch.tensor(labels)),
                         [4 * random.standard_normal((4, 5))])
    for name, (ours, theirs, inputs) in cases.items():
        inputs = [np.asarray(x, np.float32) for x in inputs]
        tensors = [twin.torch.tensor(x, dtype=twin.torch.float64, requires_grad=True) for x in inputs]
        wanted = theirs(*tensors)
        wanted.backward()
        got, gradients = jax.jit(jax.value_and_grad(ours, argnums=tuple(range(len(inputs)))))(*inputs)
        # One logarithm and a sum of at most 120 numbers in float32.
        assert got == pytest.approx(wanted.item(), rel=1e-6), name
        for gradient, tensor in zip(gradients, tensors):
            assert difference(gradient, tensor.grad.numpy()) <= 2e-6, name
