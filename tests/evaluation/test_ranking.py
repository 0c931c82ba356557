"""Ranking, distances and re-ranking against plain loops, numbers by hand, and what must not change them."""

import dataclasses
import json
import sys
import tracemalloc

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from scipy.spatial.distance import cdist

from tools import benchmark_evaluation
from vrstc_jax.evaluation import distances, first_entries, rank, rerank

pytestmark = pytest.mark.usefixtures("quick_compilation")


def plain_rank(matrix, query_ids, gallery_ids, query_cameras, gallery_cameras):
    """The evaluator as the field writes it: (cmc, mAP, average precisions, first hits), NaN and 0 for left out."""
    cmc, precisions, firsts = np.zeros(len(gallery_ids)), [], []
    for i, row in enumerate(matrix):
        order = [j for j in sorted(range(len(row)), key=lambda j: (row[j], j)) if gallery_ids[j] != -1
                 and not (gallery_ids[j] == query_ids[i] and gallery_cameras[j] == query_cameras[i])]
        hits = [position for position, j in enumerate(order, start=1) if gallery_ids[j] == query_ids[i]]
        precisions.append(np.mean([k / position for k, position in enumerate(hits, start=1)]) if hits else np.nan)
        firsts.append(hits[0] if hits else 0)
        if hits:
            cmc[hits[0] - 1:] += 1
    return cmc / max(1, np.count_nonzero(firsts)), np.nanmean(precisions), precisions, firsts


def random_case(seed, queries=37, gallery=61, people=9, cameras=3):
    """Ids with junk and with queries that match nothing (identity 99), and cameras."""
    rng = np.random.default_rng(seed)
    query_ids = np.where(rng.random(queries) < 0.1, 99, rng.integers(0, people, queries))
    return rng, (query_ids, rng.integers(-1, people, gallery), rng.integers(0, cameras, queries),
                 rng.integers(0, cameras, gallery))


def assert_as_plain(matrix, labels):
    got, (cmc, mean_ap, precisions, firsts) = rank(matrix, *labels), plain_rank(matrix, *labels)
    # The promise is 1e-6; both are sums of few float64 terms.
    np.testing.assert_allclose(got.cmc, cmc, atol=1e-12)
    assert got.mean_ap == pytest.approx(mean_ap, abs=1e-12)
    np.testing.assert_allclose(got.average_precision, precisions, atol=1e-12)
    np.testing.assert_array_equal(got.first_hit, firsts)
    np.testing.assert_array_equal(got.counted, np.array(firsts) > 0)
    assert got.left_out == firsts.count(0)
    assert got.cmc.dtype == np.float64 and got.cmc.shape == (len(labels[1]),)
    return got


def assert_same_figures(got, expected):
    np.testing.assert_array_equal(got.average_precision, expected.average_precision)
    np.testing.assert_array_equal(got.cmc, expected.cmc)


def test_by_hand():
    # Query 0: entry 0 is junk (same camera), entry 4 shows nobody; right are 2 (second) and 5 (fourth).
    # Query 1: right is 1 alone (last of six: its own camera has nobody of identity 8).
    ids, cameras = [7, 8, 7, 3, -1, 7], [1, 2, 2, 1, 1, 3]
    matrix = np.array([[0.0, 0.3, 0.2, 0.1, 0.05, 0.4], [0.1, 0.9, 0.2, 0.3, 0.95, 0.4], [0.1] * 6])
    got = rank(matrix, [7, 8, 5], ids, [1, 1, 1], cameras)
    np.testing.assert_allclose(got.average_precision, [(1 / 2 + 2 / 4) / 2, 1 / 5, np.nan])
    np.testing.assert_array_equal(got.first_hit, [2, 5, 0])
    # Two queries count; query 0's order has only four entries, and the curve stays where it was.
    np.testing.assert_array_equal(got.cmc, [0, 0.5, 0.5, 0.5, 1, 1])
    assert got.mean_ap == pytest.approx((0.5 + 0.2) / 2)
    assert got.left_out == 1 and got.counted.tolist() == [True, True, False]
    with pytest.raises(dataclasses.FrozenInstanceError):
        got.mean_ap = 1


ODD = [0.0, -0.0, np.inf, -np.inf, 1e-45, -1e-45, -2.5]  # zeros of both signs tie


@pytest.mark.parametrize("dtypes, draw", [
    ("float32 float64 float16", lambda rng, dtype: rng.normal(size=(37, 61))),
    ("float32 float64 int32 uint8", lambda rng, dtype: rng.integers(0, 4, (37, 61))),
    ("float32 float64 int32 uint8", lambda rng, dtype: np.full((37, 61), 3)),
    ("float32 float64", lambda rng, dtype: rng.choice([*ODD, np.finfo(dtype).max], (37, 61)))],
    ids=["normal", "some tie", "all tie", "zeros and infinities"])
@pytest.mark.parametrize("seed", range(3))
def test_as_the_plain_evaluator(seed, dtypes, draw):
    rng, labels = random_case(seed)
    for dtype in dtypes.split():
        assert 0 < assert_as_plain(draw(rng, dtype).astype(dtype), labels).left_out < 37


def test_doubles_are_not_rounded():
    matrix = np.array([[1 + 1e-12, 1.0]])
    assert rank(matrix, [1], [2, 1], [0], [1, 1]).mean_ap == 1
    assert rank(matrix.astype(np.float32), [1], [2, 1], [0], [1, 1]).mean_ap == 0.5


def test_any_layout_in_memory_and_device_arrays():
    rng, labels = random_case(7)
    matrix = rng.random((61, 37), np.float32).T
    expected = assert_as_plain(matrix, labels)
    assert rank(jnp.asarray(matrix), *map(jnp.asarray, labels)).mean_ap == expected.mean_ap


def test_strings_are_identities_too():
    rng, labels = random_case(8)
    matrix = rng.random((37, 61))
    assert_same_figures(rank(matrix, *([str(label) for label in each] for each in labels)), rank(matrix, *labels))


def test_a_query_that_shows_nobody_matches_nothing():
    for junk, person in ((-1, 3), ("-1", "3")):
        got = rank(np.zeros((2, 2)), [junk, person], [junk, person], [0, 0], [1, 1])
        assert got.counted.tolist() == [False, True] and got.mean_ap == 1


def test_one_entry_and_one_query():
    got = rank(np.zeros((1, 1), np.float32), [4], [4], [0], [1])
    assert (got.cmc.tolist(), got.mean_ap, got.left_out) == ([1.0], 1.0, 0)


@st.composite
def cases(draw):
    """(rng, labels with one match at least, number of queries, size of the gallery)."""
    seed, queries, gallery = draw(st.tuples(st.integers(0, 10_000), st.integers(1, 20), st.integers(2, 40)))
    rng, labels = random_case(seed, queries, gallery, people=3)
    labels[0][0], labels[1][0], labels[2][0], labels[3][0] = 1, 1, 0, 1
    return rng, labels, queries, gallery


@given(cases())
def test_an_increasing_transformation_changes_nothing(case):
    rng, labels, *shape = case
    matrix = rng.integers(-9, 9, shape)  # with ties; exact in float32 after the transformation
    for transformed in ((2 * matrix + 7).astype(np.float32), np.exp(matrix), matrix**3):
        assert_same_figures(rank(transformed, *labels), rank(matrix, *labels))


@given(cases())
def test_the_gallery_order_tells_only_in_ties(case):
    rng, labels, queries, gallery = case
    matrix = rng.permuted(np.tile(np.arange(gallery, dtype=np.float32), (queries, 1)), axis=1)
    order = rng.permutation(gallery)
    got = rank(matrix[:, order], labels[0], labels[1][order], labels[2], labels[3][order])
    assert_same_figures(got, rank(matrix, *labels))


@given(cases())
def test_junk_changes_no_query(case):
    rng, labels, queries, gallery = case
    matrix = rng.random((queries, gallery + 5))
    expected = rank(matrix[:, :gallery], *labels)
    got = rank(matrix, labels[0], np.append(labels[1], [-1] * 5), labels[2], np.append(labels[3], [0] * 5))
    assert_same_figures(got, dataclasses.replace(expected, cmc=np.append(expected.cmc, [1] * 5)))


AGREE = {"matrix": np.zeros((2, 3)), "query_ids": [1, 2], "gallery_ids": [1, 2, 3], "query_cameras": [0, 0],
         "gallery_cameras": [1, 1, 1]}


@pytest.mark.parametrize("change, message", [
    ({"query_ids": [1]}, r"need 2 query and 3 gallery ids.*\[1\]"),
    ({"gallery_ids": [1, 2]}, r"need 2 query and 3 gallery ids.*\[2\]"),
    ({"query_cameras": [0, 0, 0]}, r"need 2 query and 3 gallery cameras.*\[3\]"),
    ({"gallery_cameras": []}, r"need 2 query and 3 gallery cameras.*\[0\]"),
    ({"gallery_ids": ["1", "2", "3"]}, "whole numbers or strings.*int64 and <U1"),
    ({"query_cameras": [0.5, 0]}, "cameras must be whole numbers.*float64"),
    ({"query_ids": [None, 1]}, "object"),
    ({"matrix": np.zeros(2)}, r"real numbers \[queries, gallery\].*\[2\]"),
    ({"matrix": np.zeros((2, 3), complex)}, "complex128")])
def test_what_does_not_agree_is_refused(change, message):
    rank(*AGREE.values())
    with pytest.raises(ValueError, match=message):
        rank(*(AGREE | change).values())


def test_numbers_of_both_kinds_are_not_rounded():
    """NumPy joins int64 and uint64 as floats, in which these two people are one."""
    one, other = 2 ** 60, 2 ** 60 + 1
    found = rank(np.array([[0.1, 0.2]]), np.array([one]), np.array([other, one], np.uint64), [0], [1, 1])
    assert found.mean_ap == 0.5
    with pytest.raises(ValueError, match=f"ids of which some are unsigned.*Got {2 ** 63}"):
        rank(np.zeros((1, 1)), np.array([-1]), np.array([2 ** 63], np.uint64), [0], [1])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nan_is_refused_even_among_junk(dtype):
    rng, labels = random_case(9)
    matrix = rng.random((37, 61)).astype(dtype)
    labels[1][17] = -1
    matrix[30, 17] = np.nan
    with pytest.raises(ValueError, match="NaN between query 30 and gallery entry 17"):
        rank(matrix, *labels)


@pytest.mark.parametrize("shape", [(2, 3), (0, 3), (2, 0), (0, 0)])
def test_without_any_match_there_is_no_figure(shape):
    with pytest.raises(ValueError, match=f"none of the {shape[0]} queries has a match among the {shape[1]}"):
        rank(np.zeros(shape), *(np.ones(count, int) for count in 2 * shape))


def test_first_entries_are_those_of_the_ranking():
    rng, labels = random_case(10)
    matrix = rng.integers(0, 20, (37, 61)).astype(np.float32)
    got = rank(matrix, *labels)
    for i in range(37):
        query = matrix[i], labels[0][i], labels[1], labels[2][i], labels[3]
        entries, right = first_entries(*query, count=61)
        assert (np.argmax(right) + 1 if right.any() else 0) == got.first_hit[i]
        np.testing.assert_array_equal(right, labels[1][entries] == labels[0][i])
        assert (np.diff(matrix[i][entries]) >= 0).all() and -1 not in labels[1][entries]
        few = first_entries(*query, count=4)
        np.testing.assert_array_equal(few, [entries[:4], right[:4]])


def peak_bytes(function, *arguments, **options):
    """What NumPy held at most while `function` ran; the device's memory is not seen."""
    function(*arguments, **options)
    tracemalloc.start()
    try:
        function(*arguments, **options)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_less_than_one_block_is_held_beyond_the_matrix():
    queries, gallery, block = 1100, 4000, 512
    rng, labels = random_case(11, queries, gallery, people=200)
    matrix = rng.random((queries, gallery), np.float32)
    assert peak_bytes(rank, matrix, *labels) < block * gallery * 4 < matrix.nbytes / 2
    features = rng.random((queries, 4), np.float32), rng.random((gallery, 4), np.float32)
    assert peak_bytes(distances, *features) < matrix.nbytes + 1.1 * block * gallery * 4


def test_one_block_is_on_the_device_at_a_time(monkeypatch):
    before = []

    def block(*arguments, **options):
        before.append(sum(array.shape == (16, 333) for array in jax.live_arrays()))
        return original(*arguments, **options)

    module = sys.modules[distances.__module__]
    original = module._block
    monkeypatch.setattr(module, "_block", block)
    rng = np.random.default_rng(0)
    distances(rng.random((64, 5)), rng.random((333, 5)), block=16)
    assert before == [0] * 4


# --- distances


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("block", [1, 4, 7, 13, 100])
def test_distances(metric, block):
    rng = np.random.default_rng(1)
    query, gallery = rng.normal(size=(13, 64)) + 1, rng.normal(size=(29, 64)) + 1
    got = distances(query, gallery, metric=metric, block=block)
    assert got.dtype == np.float32 and got.shape == (13, 29)
    # float32 sums of 64 products of size 1; Euclidean distances are about 11.
    np.testing.assert_allclose(got, cdist(query, gallery, metric), atol=2e-6 if metric == "cosine" else 2e-5)


def test_the_cosine_of_very_short_and_very_long_features():
    rng = np.random.default_rng(2)
    query, gallery = rng.normal(size=(5, 32)), rng.normal(size=(6, 32))
    scales = np.array([1e-30, 1e-20, 1, 1e20, 1e30])[:, None]
    np.testing.assert_allclose(distances(query * scales, gallery * 1e25), cdist(query, gallery, "cosine"), atol=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 3e19, 1e30])
def test_the_euclidean_distance_of_very_short_and_very_long_features(scale):
    """Squares of such values are not in float32; the distances themselves are."""
    rng = np.random.default_rng(2)
    query, gallery = rng.normal(size=(9, 32)), rng.normal(size=(40, 32))
    got = distances(query * scale, gallery * scale, metric="euclidean")
    np.testing.assert_allclose(got, cdist(query, gallery) * scale, rtol=1e-5)
    np.testing.assert_allclose(rerank(query * scale, gallery * scale, k1=6, k2=3),
                               rerank(query, gallery, k1=6, k2=3), rtol=1e-5, atol=1e-6)


def test_features_of_length_zero_are_far_from_everything():
    query, gallery = np.array([[0.0, 0], [3, 4]]), np.array([[0.0, 0], [6, 8], [-3, -4]])
    np.testing.assert_allclose(distances(query, gallery), [[1, 1, 1], [1, 0, 2]], atol=1e-6)
    euclidean = distances(query, gallery, metric="euclidean")
    np.testing.assert_allclose(euclidean, [[0, 10, 5], [5, 5, 10]], atol=1e-5)


def test_equal_features_are_at_no_negative_distance():
    features = np.random.default_rng(3).random((50, 2048), np.float32)
    cosine, euclidean = distances(features, features), distances(features, features, metric="euclidean")
    assert cosine.min() >= 0 and np.diag(cosine).max() < 1e-6
    # |q|² + |g|² − 2 q·g cancels: the docstring's 1e-3 of a length, here about 26.
    assert euclidean.min() >= 0 and np.diag(euclidean).max() < 1e-3 * np.linalg.norm(features, axis=1).max()


def test_half_precision_whole_numbers_and_device_arrays_are_features():
    rng = np.random.default_rng(4)
    whole = rng.integers(-5, 5, (4, 8))
    expected = cdist(whole, whole)
    for features in (whole, whole.astype(np.float16), jnp.asarray(whole, jnp.bfloat16)):
        np.testing.assert_allclose(distances(features, features, metric="euclidean"), expected, atol=1e-5)


GOOD = np.ones((3, 4))


def one_value(value):
    """Features of which one value of the second is `value`."""
    features = GOOD.copy()
    features[1, 2] = value
    return features


@pytest.mark.parametrize("function", [distances, rerank])
@pytest.mark.parametrize("query, gallery, message", [
    (GOOD, np.ones((2, 5)), r"one length C.*\[3, 4\] and \[2, 5\]"),
    (GOOD[0], GOOD, r"\[4\]"), (GOOD[:, :0], GOOD[:, :0], r"\[3, 0\]"),
    *((GOOD, one_value(wrong), "gallery features must be finite.*1 of 3, first in number 1")
      for wrong in (np.nan, np.inf, 1e39)),
    (np.full((3, 4), "a"), GOOD, "query features must be real numbers. Got <U1")])
def test_features_that_do_not_fit_are_refused(function, query, gallery, message):
    with pytest.raises(ValueError, match=message):
        function(query, gallery)
    assert function(GOOD[:0], GOOD).shape == (0, 3) and function(GOOD, GOOD[:0]).shape == (3, 0)


@pytest.mark.parametrize("function, options, message", [
    (distances, {"metric": "manhattan"}, "'cosine' or 'euclidean'. Got 'manhattan'"),
    (distances, {"block": 0}, "at least 1 query. Got 0"),
    *((rerank, options, "k1 and k2 must be at least 1 and the weight in")
      for options in ({"k1": 0}, {"k2": 0}, {"weight": -0.1}, {"weight": 1.1}, {"weight": np.nan}))])
def test_options_are_checked(function, options, message):
    with pytest.raises(ValueError, match=message):
        function(GOOD, GOOD, **options)


# --- re-ranking


def plain_rerank(query, gallery, k1=20, k2=6, weight=0.3):
    """The published algorithm, set by set and pair by pair, in float64."""
    features = np.concatenate([query, gallery]).astype(np.float64)
    n, queries = len(features), len(query)
    squared = cdist(features, features, "sqeuclidean")
    order = np.argsort(squared - np.eye(n), axis=1, kind="stable")  # an item before its duplicates
    original = squared / squared.max(axis=1, keepdims=True)

    def reciprocal(i, k):
        return {j for j in order[i, :k + 1] if i in order[j, :k + 1]}

    vectors = np.zeros((n, n))
    for i in range(n):
        first = reciprocal(i, k1)
        grown = set(first)
        for candidate in first:
            others = reciprocal(candidate, int(np.around(k1 / 2)))
            if len(others & first) > 2 / 3 * len(others):
                grown |= others
        total = sum(np.exp(-original[i, j]) for j in grown)
        for j in grown:
            vectors[i, j] = np.exp(-original[i, j]) / total
    expanded = np.array([np.mean([vectors[j] for j in order[i, :k2]], axis=0) for i in range(n)])
    result = np.empty((queries, n - queries))
    for i in range(queries):
        for j in range(queries, n):
            smaller, larger = (f(expanded[i], expanded[j]).sum() for f in (np.minimum, np.maximum))
            result[i, j - queries] = weight * original[i, j] + (1 - weight) * (1 - smaller / larger)
    return result


def people_features(seed, queries=17, gallery=46, people=6, spread=0.8):
    rng = np.random.default_rng(seed)
    who = rng.integers(0, people, queries + gallery)
    features = rng.normal(size=(people, 12))[who] + spread * rng.normal(size=(len(who), 12))
    return features[:queries].astype(np.float32), features[queries:].astype(np.float32), who


def assert_as_plain_rerank(query, gallery, **options):
    """Options that are not given are by default the published ones."""
    got = rerank(query, gallery, **options)
    assert got.dtype == np.float32
    # float32 throughout: distances of about 20 are good to a few 1e-6 of the largest.
    np.testing.assert_allclose(got, plain_rerank(query, gallery, **options), atol=5e-6, rtol=0)


@pytest.mark.parametrize("options", [
    {}, {"k1": 7, "k2": 3}, {"k1": 5, "k2": 1, "weight": 0.0}, {"k1": 1, "k2": 9},
    {"k1": 10, "k2": 2, "weight": 1.0}, {"k1": 500, "k2": 300, "weight": 0.1}], ids=str)
@pytest.mark.parametrize("seed", [0, 1])
def test_rerank_as_the_plain_algorithm(seed, options):
    assert_as_plain_rerank(*people_features(seed)[:2], **options)


def test_rerank_keeps_the_order_of_equal_distances():
    rng = np.random.default_rng(2)
    features = rng.integers(0, 3, (70, 3)).astype(np.float32)  # their squared distances are exact
    assert len(np.unique(features, axis=0)) < 30
    for k1, k2 in ((6, 3), (2, 2)):
        assert_as_plain_rerank(features[:12], features[12:], k1=k1, k2=k2)


@pytest.mark.parametrize("queries", [20, 270])
def test_rerank_of_more_items_than_a_block(queries):
    """300 items are two blocks of 256; the first has about 11,600 weights, which are three chunks of `_PAIRS`."""
    query, gallery, _ = people_features(3, queries=queries, gallery=300 - queries, people=10)
    assert_as_plain_rerank(query, gallery, k1=40, k2=4)


def test_rerank_finds_people_better():
    query, gallery, who = people_features(4, queries=40, gallery=300, people=20, spread=1.1)
    labels = who[:40], who[40:], np.zeros(40, int), np.ones(300, int)
    before = rank(distances(query, gallery, metric="euclidean"), *labels).mean_ap
    assert rank(rerank(query, gallery, k1=12, k2=4), *labels).mean_ap > before + 0.02


def test_rerank_of_duplicates():
    same = rerank(np.ones((3, 4)), np.ones((40, 4)))
    assert ((same >= 0) & (same <= 1)).all()
    rng = np.random.default_rng(5)
    features = np.repeat(rng.normal(size=(5, 6)), 4, axis=0)
    got = rerank(features[::4], features, k1=3, k2=2)
    assert (got.argmin(axis=1) // 4 == np.arange(5)).all() and np.isfinite(got).all()


def test_rerank_makes_no_matrix_of_all_pairs():
    rng = np.random.default_rng(6)
    query, gallery = rng.random((100, 8), np.float32), rng.random((3900, 8), np.float32)
    assert peak_bytes(rerank, query, gallery) < 4000 * 4000 * 4 / 5


# --- the benchmark


def test_benchmark(tmp_path, capsys):
    output = tmp_path / "figures.json"
    benchmark_evaluation.main(["--size", "smoke", "--rounds", "1", "--output", str(output)])
    printed, written = capsys.readouterr().out, json.loads(output.read_text())
    assert list(written["rows"]) == list(benchmark_evaluation.EVALUATORS)
    for name, row in written["rows"].items():
        assert name in printed
        seconds = row["seconds"]
        assert seconds["both"] == pytest.approx(seconds["distances"] + seconds["ranking"])
    with pytest.raises(SystemExit, match="2"):
        benchmark_evaluation.main(["--rounds", "0"])
    assert capsys.readouterr().err == "vrstc: --rounds must be 1 or more. Got 0.\n"


def test_the_benchmark_compares_evaluators_that_agree(monkeypatch):
    features, labels = benchmark_evaluation.made_up(benchmark_evaluation.SIZES["smoke"])
    matrix = distances(*features)
    cmc, mean_ap, _, _ = plain_rank(matrix, *labels)
    for name, evaluator in benchmark_evaluation.EVALUATORS.items():
        got = evaluator.ranking(evaluator.distances(*features), *labels)
        np.testing.assert_allclose(got[0], cmc, atol=1e-6, err_msg=name)
        assert got[1] == pytest.approx(mean_ap, abs=1e-6), name
    wrong = benchmark_evaluation.Evaluator(distances, lambda *_: (cmc, mean_ap + 1e-5))
    monkeypatch.setitem(benchmark_evaluation.EVALUATORS, "wrong", wrong)
    with pytest.raises(SystemExit, match="'wrong' finds mAP"):
        benchmark_evaluation.run(benchmark_evaluation.Options(size="smoke", rounds=1))
