"""Training re-ID networks beyond the paper's cross-entropy: losses that join it, pairs, people in batches,
and beginning from other weights.

The step itself is compared with PyTorch in test_parity.py.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from comparing import assert_trees_close, randomised

from vrstc_jax import config as configs
from vrstc_jax.data.batches import TrainingFrames, reid_batches
from vrstc_jax.data.tracklet_set import read_set, write_set
from vrstc_jax.data.tracklets import Tracklet
from vrstc_jax.models import losses
from vrstc_jax.models.reid import PairScorer, ReidNet, initial_variables
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.training import loop, optimiser, pair_scorer, reid, step
from vrstc_jax.training.devices import AXIS
from vrstc_jax.training.state import TrainState, initial_state

pytestmark = pytest.mark.usefixtures("quick_compilation")

IDENTITIES = 5
# Two stages are enough for what the losses ask of a network.
TINY = configs.Reid(height=16, width=8, blocks=(1, 1), bottleneck=False, base_width=4, stem_pool=False,
                    clip=2, attention_maps=2, attention_width=3, embedding=4, pyramid=(2, 1))
SMOKE = configs.get("smoke")
# On several devices the same numbers are summed in another order, and a gradient passes through every layer
# twice; the largest of some numbers, and its gradient with it, may not change for that.
DEVICES = 2e-5


def task(losses=configs.ReidLosses(), clips_per_identity=2, **network):
    return dataclasses.replace(
        SMOKE.first_reid, network=dataclasses.replace(TINY, **network), losses=losses,
        training=configs.Training(steps=9, batch=8, learning_rate=1e-3, clips_per_identity=clips_per_identity))


def random_network(identities=IDENTITIES):
    return random_state(task(), lambda key: initial_variables(TINY, identities, key)).result


def random_state(task, make):
    shapes = jax.eval_shape(make, jax.random.key(0))
    params, stats = (randomised(shapes[part], seed) for seed, part in enumerate(("params", "batch_stats")))
    adam = jax.eval_shape(optimiser.adam(task.training).init, params)
    return TrainState(step=np.zeros((), np.int32), params=params, batch_stats=stats,
                      adam=jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), adam))


def batch(seed=0):
    random = np.random.default_rng(seed)
    return {"clips": random.integers(0, 256, (8, 2, 16, 8, 3), np.uint8),
            "labels": np.array([0, 0, 3, 3, 1, 1, 4, 4], np.int32)}


def on_four_devices(module, task, state):
    """Gradients and metrics of a step's global batch, by `module.training_step`."""
    parts = {k: v.reshape(4, -1, *v.shape[1:]) for k, v in batch().items()}
    step = module.training_step(task, IDENTITIES, devices=jax.devices()[:4])
    state, metrics = jax.device_get(step(state, parts))
    (moments,) = [part for part in state.adam if isinstance(part, optax.ScaleByAdamState)]
    return jax.tree.map(lambda m: np.asarray(m) / 0.1, moments.mu), metrics


def assert_whole_batchs(module, task, state, by_hand):
    """A step on four devices has the gradients and metrics of `by_hand`, of (parameters, frames, labels)."""
    frames = batch()["clips"].astype(np.float32) / 127.5 - 1
    wanted, wanted_metrics = jax.jit(jax.grad(by_hand, has_aux=True))(state.params, frames, batch()["labels"])
    got, metrics = on_four_devices(module, task, state)
    assert metrics.keys() == wanted_metrics.keys()
    for name, value in wanted_metrics.items():
        assert metrics[name] == pytest.approx(float(value), rel=DEVICES), name
    assert_trees_close(got, wanted, DEVICES)
    return metrics


@pytest.mark.slow
def test_losses_that_join_on_several_devices_are_those_of_the_whole_batch(eight_devices):
    """Each with its weight; gradients and metrics."""
    weights = configs.ReidLosses(label_smoothing=0.1, triplet=0.5, margin=5.0, diversity=0.3)
    everything = task(weights, pooling="diverse_attention")
    network = ReidNet(everything.network, IDENTITIES)
    state = random_state(everything, lambda key: initial_variables(everything.network, IDENTITIES, key))

    def by_hand(params, frames, labels):
        variables = {**state.result, "params": params}
        (logits, features, penalty), _ = network.apply(variables, frames, train=True, method="outputs",
                                                       mutable=["batch_stats"])
        entropy = losses.identity(logits, labels, smoothing=0.1)
        triplet = losses.batch_hard_triplet(features, labels, margin=5.0)
        return entropy + 0.5 * triplet + 0.3 * penalty, {
            "cross_entropy": entropy, "triplet": triplet, "diversity": penalty,
            "accuracy": (logits.argmax(1) == labels).mean()}

    metrics = assert_whole_batchs(reid, everything, state, by_hand)
    assert min(metrics["triplet"], metrics["diversity"]) > 0.01


@pytest.mark.slow
def test_pairs_on_several_devices_are_those_of_the_whole_batch(eight_devices):
    """Neighbours, and each first clip with the second one of the person who follows."""
    network, clips = PairScorer(TINY, IDENTITIES), np.zeros((1, 1, 16, 8, 3), np.float32)
    state = random_state(task(), lambda key: network.init(key, clips, clips))
    left, right = np.array([0, 2, 4, 6, 0, 2, 4, 6]), np.array([1, 3, 5, 7, 3, 5, 7, 1])

    def by_hand(params, frames, labels):
        variables = {**state.result, "params": params}
        rows, _ = network.apply(variables, frames, train=True, method="embed", mutable=["batch_stats"])
        distances, *logits = network.apply(variables, rows[left], rows[right], method="compare")
        contrastive = (distances[:4] ** 2).sum() + (jnp.maximum(2 - distances[4:], 0) ** 2).sum()
        entropy = losses.identity(logits[0], labels[left]) + losses.identity(logits[1], labels[right])
        return contrastive / 16 + entropy, {"contrastive": contrastive / 16, "cross_entropy": entropy,
                                            "accuracy": (logits[0].argmax(1) == labels[left]).mean()}

    assert_whole_batchs(pair_scorer, task(), state, by_hand)


def test_batches_must_hold_what_the_losses_need():
    with pytest.raises(ValueError, match="two clips of a person .* Got 1"):
        reid.training_step(task(configs.ReidLosses(triplet=1.0), clips_per_identity=1), IDENTITIES)
    with pytest.raises(ValueError, match="must be 2. Got 4"):
        pair_scorer.training_step(task(clips_per_identity=4), IDENTITIES)


def test_the_running_mean_is_the_result(eight_devices, tmp_path):
    """Of any network, kept by hand, batch statistics too; what is trained does not change for it."""
    rows = np.random.default_rng(0).standard_normal((4, 8, 3)).astype(np.float32)

    def network(key):
        return {"params": {"w": jax.random.normal(key, (3,))}, "batch_stats": {"seen": jnp.zeros(3)}}

    def gradients(state, batch):
        mean = jax.lax.pmean(batch["rows"].mean(0), AXIS)
        return ({"w": state.params["w"] - mean}, {"seen": 0.9 * state.batch_stats["seen"] + 0.1 * mean},
                {"loss": jnp.sum(state.params["w"])})

    def trained(average, directory, steps=4):
        training = configs.Training(steps=4, batch=8, learning_rate=0.1, average=average)
        states, update = [], step.training_step(gradients, training)

        def watched(state, batch):
            state, metrics = update(state, batch)
            states.append(jax.device_get(state))
            return state, metrics

        run = loop.TrainingRun("test", steps, tmp_path / directory)
        last = loop.train(run, initial_state(network, training, seed=3), watched,
                          lambda start: ({"rows": each} for each in rows[start:]))
        return states, jax.device_get(last.result)

    (states, result), (plain, last) = trained(0.25, "averaged"), trained(0.0, "plain")
    wanted = initial_state(network, configs.Training(steps=4, batch=8, learning_rate=0.1), seed=3).result
    for number, (state, other) in enumerate(zip(states, plain, strict=True), 1):
        assert_trees_close(state.params, other.params, 0)
        decay = min(0.25, (1 + number) / (10 + number))  # 2/11, 0.25, 0.25, 0.25
        wanted = jax.tree.map(lambda mean, now: decay * mean + (1 - decay) * now, wanted, other.result)
    assert_trees_close(result, wanted, 1e-6)  # float32's rounding
    assert_trees_close(last, plain[-1].result, 0)
    for now, mean in zip(jax.tree.leaves(last), jax.tree.leaves(result)):
        assert np.abs(now - mean).min() > 1e-3
    trained(0.25, "stopped", steps=2)  # and it goes on from a checkpoint
    assert_trees_close(trained(0.25, "stopped")[1], result, 0)


def test_the_running_mean_begins_with_what_training_begins_with():
    averaged = dataclasses.replace(task(), training=dataclasses.replace(task().training, average=0.5))
    for start_from in (random_network(), None):
        state = reid.initial_state(averaged, IDENTITIES, start_from=start_from)
        assert_trees_close(state.result, {"params": state.params, "batch_stats": state.batch_stats}, 0)
    assert reid.initial_state(task(), IDENTITIES).mean is None


class TestBeginning:
    def test_the_first_networks_weights_in_the_final_one(self):
        """What the first has is taken over; non-local blocks are fresh, and so change nothing yet."""
        trained = random_network()
        state = reid.initial_state(task(non_local=(0, 1)), IDENTITIES, start_from=trained)
        new = state.params["backbone"].pop("stage2_non_local1")
        stats = state.batch_stats["backbone"].pop("stage2_non_local1")
        assert_trees_close(state.result, trained, 0)
        np.testing.assert_array_equal(new["norm"]["scale"], 0)
        assert new["query"]["kernel"].std() > 0 and set(stats) == {"norm"}

    def test_the_classifier_of_other_people_is_fresh(self):
        trained = random_network(identities=9)
        state = reid.initial_state(task(), IDENTITIES, start_from=trained)
        assert state.params["classifier"]["kernel"].shape == (8, IDENTITIES)
        assert np.abs(state.params["classifier"]["kernel"]).max() < 0.01
        assert_trees_close(state.params["backbone"], trained["params"]["backbone"], 0)

    @pytest.mark.parametrize("name, shape, message", [
        ("stem_conv", (7, 7, 3, 5), r"stem_conv/kernel of shape \[7, 7, 3, 5\]; its own is \[7, 7, 3, 4\]"),
        ("stem_conf", (7, 7, 3, 4), "backbone/stem_conf/kernel of shape")])
    def test_what_does_not_fit_is_refused(self, name, shape, message):
        with pytest.raises(ValueError, match=message):
            reid.initial_state(task(), IDENTITIES,
                               start_from={"params": {"backbone": {name: {"kernel": np.zeros(shape)}}}})


class TestPeopleInBatches:
    """Batches of B/K people with K clips each; a tracklet's frames all have its number as their grey."""

    PERSON = (0, 0, 1, 1, 1, 2, 3, 3, 4)  # of each tracklet

    @pytest.fixture(scope="class")
    def stored(self, tmp_path_factory):
        directory = tmp_path_factory.mktemp("set") / "set"
        write_set(directory, [Tracklet(name=f"t{k}", frames=[np.full((16, 8, 3), 20 * k, np.uint8)] * 5,
                                       frame_names=tuple("abcde")) for k in range(len(self.PERSON))])
        data = read_set(directory)
        given = [TrainingFrames(first, np.arange(5), person) for first, person in zip(data.first, self.PERSON)]
        given[8] = dataclasses.replace(given[8], frames=np.zeros(0, int))  # nothing of person 4 is left
        return data, given

    def drawn(self, stored, count, start=0, **changes):
        training = dataclasses.replace(task().training, shift=0.1, clips_per_identity=count, **changes)
        return reid_batches(*stored, dataclasses.replace(task(), training=training), start=start)

    def test_what_a_batch_holds(self, stored):
        drawn, together = self.drawn(stored, 2), set()
        for _ in range(40):
            found = next(drawn)
            assert found["clips"].shape == (8, 2, 16, 8, 3) and found["labels"].dtype == np.int32
            people = found["labels"].reshape(4, 2)
            assert (people[:, 0] == people[:, 1]).all() and sorted(people[:, 0]) == [0, 1, 2, 3]
            tracklets = found["clips"][:, 0, 0, 0, 0].reshape(4, 2) // 20
            for person, two in zip(people[:, 0], tracklets):
                assert [self.PERSON[k] for k in two] == [person] * 2
                assert (two[0] != two[1]) == (person != 2)  # where there are two tracklets, they are two
            together |= {tuple(people[:, 0])}
        assert len(together) > 10

    def test_are_a_function_of_seed_and_step(self, stored):
        drawn = self.drawn(stored, 4)
        batches = [next(drawn) for _ in range(8)]
        for start in (1, 5):
            again = self.drawn(stored, 4, start)
            for wanted in batches[start:]:
                jax.tree.map(np.testing.assert_array_equal, next(again), wanted)
        assert not np.array_equal(batches[0]["clips"], batches[1]["clips"])
        # Beyond the length after which the order begins anew, batches do not.
        assert not np.array_equal(next(self.drawn(stored, 4, 1000))["clips"], batches[0]["clips"])

    def test_more_places_than_people_and_a_batch_that_does_not_divide(self, stored):
        labels = next(self.drawn(stored, 2, batch=12))["labels"]
        assert labels.shape == (12,) and set(labels) <= {0, 1, 2, 3}
        with pytest.raises(InputError, match="batch of 8 does not divide by 3 clips"):
            self.drawn(stored, 3)
