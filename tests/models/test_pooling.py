"""Poolings over a clip, each against its equations in plain NumPy loops, and padding."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from comparing import difference, pictures, random_variables
from people import random_reid

from vrstc_jax import config as configs
from vrstc_jax.models.pooling import PairAttention, SequenceEmbedding, largest, pooling, pyramid_level
from vrstc_jax.models.reid import PairScorer, ReidNet

pytestmark = pytest.mark.usefixtures("quick_compilation")

# Float32 sums of at most some hundred products, twice in a row, and an exponential.
ROUNDING = 5e-6
CONFIG = configs.Reid(height=16, width=8, blocks=(1, 1), bottleneck=False, base_width=4, stem_pool=False,
                      non_local=(0, 1), attention_maps=3, attention_width=5, embedding=7, pyramid=(3, 2, 1))
POOLINGS = ("average", "maximum", "temporal_attention", "diverse_attention", "astpn_one_sequence")
BATCH, FRAMES = 2, 4
SHAPE = (BATCH, FRAMES, 4, 2, 6)


def named(name):
    return pooling(dataclasses.replace(CONFIG, pooling=name))


def softmax(scores, axis=0):
    weights = np.exp(scores - np.max(scores, axis, keepdims=True))
    return weights / weights.sum(axis, keepdims=True)


# What each pooling is: maps [T, h, w, C] of one clip and float64 parameters to (features, penalty).


def average(maps, p):
    return maps.mean((0, 1, 2)), 0


def maximum(maps, p):
    return maps.mean((1, 2)).max(0), 0


def temporal_attention(maps, p):
    means = maps.mean((1, 2))
    hidden = np.maximum(means @ p["hidden"]["kernel"] + p["hidden"]["bias"], 0)
    return softmax(hidden @ p["score"]["kernel"][:, 0]) @ means, 0


def diverse_attention(maps, p):
    parts, penalties = [], []
    for positions in maps.reshape(len(maps), -1, maps.shape[-1]):
        hidden = np.maximum(positions @ p["hidden"]["kernel"] + p["hidden"]["bias"], 0)
        attention = softmax(hidden @ p["spatial_score"]["kernel"]).T
        parts.append(attention @ positions @ p["project"]["kernel"] + p["project"]["bias"])
        # ‖R Rᵀ − I‖²_F by Hellinger distances: off the diagonal 1 − H², twice for each pair; on it nothing.
        penalties.append(sum((1 - ((np.sqrt(a) - np.sqrt(b)) ** 2).sum() / 2) ** 2
                             for i, a in enumerate(attention) for j, b in enumerate(attention) if i != j))
    features = [softmax(part @ score) @ part for part, score in zip(np.stack(parts, 1), p["temporal_score"])]
    return np.concatenate(features), np.mean(penalties)


def rows(maps, p, pyramid=CONFIG.pyramid):
    """P of ASTPN: [T, E]."""
    out = []
    for frame in maps:
        cells = np.concatenate([cell for n in pyramid for cell in cells_of(frame, n)])
        row = cells @ p["project"]["kernel"] + p["project"]["bias"]
        if out:
            row = row + np.tanh(out[-1]) @ p["recur"]["kernel"] + p["recur"]["bias"]
        out.append(row)
    return np.array(out)


def cells_of(frame, n):
    height, width = frame.shape[:2]
    for i, j in np.ndindex(n, n):
        rows, columns = (slice(k * size // n, -(-(k + 1) * size // n)) for k, size in ((i, height), (j, width)))
        yield frame[rows, columns].max((0, 1))


def pair(first, second, matrix):
    """v_p and v_g."""
    attention = np.tanh(first @ matrix @ second.T)
    return softmax(attention.max(1)) @ first, softmax(attention.max(0)) @ second


def astpn_one_sequence(maps, p):
    sequence = rows(maps, p["sequence"])
    return pair(sequence, sequence, p["attention"]["matrix"])[0], 0


def by_loops(name, maps, variables):
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables.get("params", {}))
    features, penalties = zip(*(globals()[name](clip.astype(np.float64), params) for clip in maps))
    return np.array(features), np.array(penalties)


@pytest.mark.parametrize("name", POOLINGS)
def test_is_its_equations_in_loops(name):
    network, maps = named(name), 2 * pictures(0, *SHAPE)
    variables = random_variables(network, 1, maps)
    features, penalty = jax.jit(network.apply)(variables, maps)
    wanted, penalties = by_loops(name, maps, variables)
    assert difference(features, wanted) <= ROUNDING
    assert penalty == pytest.approx(penalties.mean(), rel=ROUNDING)
    if name in ("maximum", "temporal_attention"):
        assert difference(features, maps.mean((1, 2, 3))) > 0.05


@pytest.mark.parametrize("name", POOLINGS)
def test_padding_counts_for_nothing(name):
    """Whatever it holds and wherever it is; a clip that is nothing else gives zeros."""
    network, maps = named(name), pictures(2, 3, *SHAPE[1:])
    variables = random_variables(network, 3, maps)
    valid = np.array([[True, True, True, False], [True, False, True, False], [False] * 4])
    padded = np.where(valid[..., None, None, None], maps, np.nan).astype(np.float32)
    features, penalty = jax.jit(lambda maps: network.apply(variables, maps, valid=valid))(padded)
    penalties = []
    for i in range(2):
        wanted, of_clip = by_loops(name, maps[i:i + 1, valid[i]], variables)
        assert difference(features[i:i + 1], wanted) <= ROUNDING
        penalties += [of_clip[0]] * valid[i].sum()
    np.testing.assert_array_equal(features[2], 0)
    assert penalty == pytest.approx(np.mean(penalties), rel=ROUNDING)


def test_a_fresh_temporal_attention_averages():
    maps = pictures(4, *SHAPE)
    network = named("temporal_attention")
    fresh = jax.jit(network.init)(jax.random.key(0), maps)
    assert difference(jax.jit(network.apply)(fresh, maps)[0], maps.mean((1, 2, 3))) <= 1e-6


def test_a_penalty_is_for_maps_that_are_alike():
    network, maps = named("diverse_attention"), pictures(5, *SHAPE)
    variables = random_variables(network, 6, maps)
    scores = variables["params"]["spatial_score"]

    def penalty(kernel):
        params = {**variables["params"], "spatial_score": {**scores, "kernel": kernel}}
        return network.apply({"params": params}, maps)[1]

    measured = jax.jit(jax.value_and_grad(penalty))
    same, _ = measured(np.repeat(scores["kernel"][:, :1], 3, 1))
    assert same == pytest.approx(3 * 2, rel=1e-5)  # K(K−1)
    # Sharp maps, whose weights are 0 in float32 almost everywhere: the gradient of their roots is a number.
    apart, gradient = measured(1e4 * scores["kernel"])
    assert 0 <= apart < same and np.isfinite(gradient).all()


def test_cells_of_the_pyramid_by_hand():
    maps = np.arange(12.0).reshape(1, 4, 3, 1)
    np.testing.assert_array_equal(pyramid_level(maps, 1)[0, :, 0], [11])
    np.testing.assert_array_equal(pyramid_level(maps, 2)[0, :, 0], [4, 5, 10, 11])  # the middle column twice
    np.testing.assert_array_equal(pyramid_level(maps[:, :1], 2)[0, :, 0], [1, 2, 1, 2])  # one row for both


def test_the_largest_and_its_gradient():
    x = jnp.array([[1.0, 3, 3], [-jnp.inf, -2, -5]])
    np.testing.assert_array_equal(largest(x, 1), [3, -2])
    np.testing.assert_array_equal(jax.grad(lambda x: largest(x, 1).sum())(x), [[0, 1, 0], [0, 1, 0]])


# The two parts of ASTPN, on a pair.


def test_sequences_of_a_pair_in_loops():
    first, second = 2 * pictures(7, 3, 4, 7), 2 * pictures(8, 3, 5, 7)
    network = PairAttention()
    variables = random_variables(network, 9, first, second)
    matrix = variables["params"]["matrix"]
    first_valid = np.array([[True] * 4, [True, True, False, False], [True] * 4])
    second_valid = np.array([[True] * 5, [True] * 5, [True, True, True, False, False]])
    blanked = (np.where(valid[..., None], x, 1e3).astype(np.float32)
               for x, valid in ((first, first_valid), (second, second_valid)))
    got = jax.jit(network.apply)(variables, *blanked, first_valid=first_valid, second_valid=second_valid)
    for i in range(3):
        wanted = pair(np.float64(first[i, first_valid[i]]), np.float64(second[i, second_valid[i]]), matrix)
        for ours, theirs in zip(got, wanted):
            assert difference(ours[i], theirs) <= ROUNDING


def test_rows_after_padding_go_on_from_the_last_frame():
    maps = pictures(10, 1, *SHAPE[1:])
    network = SequenceEmbedding(7, CONFIG.pyramid)
    variables = random_variables(network, 11, maps)
    valid = np.array([[False, True, False, True]])
    got = jax.jit(network.apply)(variables, maps, valid=valid)
    wanted = rows(maps[0, valid[0]].astype(float), variables["params"])
    assert difference(got[0, valid[0]], wanted) <= ROUNDING


def test_pair_scorer():
    """Distances of pairs, as of all with all; of padded clips, as of what they hold."""
    network, clips = PairScorer(dataclasses.replace(CONFIG, non_local=()), 5), pictures(12, 3, 2, 16, 8, 3)
    variables = random_variables(network, 13, clips, clips)

    @jax.jit
    def run(clips):
        direct = network.apply(variables, clips, clips[::-1])
        embedded = network.apply(variables, clips, method="embed")
        padded = jnp.concatenate([clips, jnp.full_like(clips[:, :1], jnp.nan)], 1)
        valid = jnp.arange(3)[None] < jnp.full((3, 1), 2)
        longer = network.apply(variables, padded, valid=valid, method="embed")
        return direct, embedded, network.apply(variables, embedded, longer, gallery_valid=valid,
                                               method="distances")

    (between, *logits), embedded, all_with_all = run(clips)
    assert [x.shape for x in (between, *logits, embedded)] == [(3,), (3, 5), (3, 5), (3, 2, 7)]
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    for q, g in np.ndindex(3, 3):
        v_p, v_g = pair(np.float64(embedded[q]), np.float64(embedded[g]), params["attention"]["matrix"])
        assert all_with_all[q, g] == pytest.approx(np.linalg.norm(v_p - v_g), rel=1e-4, abs=1e-5)
        if g == 2 - q:
            assert between[q] == pytest.approx(np.linalg.norm(v_p - v_g), rel=1e-4, abs=1e-5)
            wanted = v_p @ params["classifier"]["kernel"] + params["classifier"]["bias"]
            assert difference(logits[0][q], wanted) <= ROUNDING


# Within the network.


@pytest.mark.parametrize("name", ["average", "diverse_attention"])
def test_the_networks_outputs(name):
    """Logits are those of the features, and a padded clip has the features of what it holds."""
    config = dataclasses.replace(CONFIG, pooling=name)
    network = ReidNet(config, 5)
    variables = random_reid(config, identities=tuple("abcde")).variables
    clips = pictures(15, 2, 3, 16, 8, 3)

    @jax.jit
    def run(clips):
        padded = jnp.concatenate([clips, jnp.full_like(clips[:, :1], jnp.nan)], 1)
        valid = jnp.arange(4)[None] < jnp.full((2, 1), 3)
        return (network.apply(variables, clips), network.apply(variables, clips, method="outputs"),
                network.apply(variables, padded, valid=valid, method="features"))

    logits, (same_logits, features, penalty), of_padded = run(clips)
    np.testing.assert_array_equal(logits, same_logits)
    classifier = variables["params"]["classifier"]
    assert difference(logits, np.float64(features) @ classifier["kernel"] + classifier["bias"]) <= ROUNDING
    assert difference(of_padded, features) <= ROUNDING
    assert features.shape == (2, 8 if name == "average" else 3 * 7) and (penalty > 0) == (name != "average")
