"""Times the evaluation, features to CMC and mAP, beside plain NumPy evaluators as published code has them.

    python -m tools.benchmark_evaluation --output benchmark.json

In one process, on random features at MARS's size (1,980 queries, 11,310 gallery entries, 2,048 channels, 625 people,
junk among them). There are two plain evaluators, since published ones are of two kinds. "one product, ranks one by
one" is deep-person-reid's and those derived from it: all distances in one matrix product, then each query's precisions
in a list over all ranks. "row by row, sets" is that of the authors' group (AP3D): a product for each query, then
NumPy's set operations. Both need a Python loop over queries. All rank the same matrix, and nothing is reported unless
they find the same mAP.

Times are medians of rounds in which each evaluator has its turn; "both" is the sum. Our extra memory is NumPy's peak
during a part, without the distance matrix, traced in a pass that is not timed. Expected on two CPU cores: ours 1.2 s,
the others 21 to 31 and 5.7 to 6.7 times that. `--size smoke` tries it out.
"""

import json
import os
import statistics
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import tyro

from tools.machine import load_average
from vrstc_jax.evaluation import distances, rank
from vrstc_jax.runtime import lock
from vrstc_jax.runtime.errors import require_range
from vrstc_jax.runtime.flags import require_flags
from vrstc_jax.runtime.lifecycle import run_as_command
from vrstc_jax.runtime.storage import replace_file
from vrstc_jax.runtime.text_tables import text_table

FURTHEST = 1e-6  # two evaluators' mAP may differ by


class Size(NamedTuple):
    """The numbers of what is ranked."""

    queries: int
    gallery: int
    channels: int
    people: int
    cameras: int


SIZES = {"mars": Size(1980, 11310, 2048, 625, 6), "smoke": Size(40, 200, 16, 12, 3)}


@dataclass(frozen=True)
class Options:
    """What to time.

    Attributes:
      size: how much to rank; `smoke` tries the tool out.
      rounds: turns of each evaluator.
      output: a JSON file for all figures.
    """

    size: Literal["mars", "smoke"] = "mars"
    rounds: int = 3
    output: Path | None = None


class Evaluator(NamedTuple):
    """The two parts of an evaluation.

    `distances(query, gallery)` gives the matrix, `ranking(matrix, *labels)` (CMC [G], mAP).
    """

    distances: Callable[..., np.ndarray]
    ranking: Callable[..., tuple[np.ndarray, float]]


def our_ranking(matrix: np.ndarray, *labels: np.ndarray) -> tuple[np.ndarray, float]:
    """(CMC, mAP) of `evaluation.rank`."""
    result = rank(matrix, *labels)
    return result.cmc, result.mean_ap


def one_product(query: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Cosine distances by one matrix product."""
    return 1 - _unit(query) @ _unit(gallery).T


def row_by_row(query: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Cosine distances by a product for each query."""
    query, gallery = _unit(query), _unit(gallery)
    result = np.zeros((len(query), len(gallery)), np.float32)
    for i in range(len(query)):
        result[i] = -(query[i:i + 1] @ gallery.T)
    return result


def _unit(features: np.ndarray) -> np.ndarray:
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def ranks_one_by_one(matrix: np.ndarray, query_ids: np.ndarray, gallery_ids: np.ndarray, query_cameras: np.ndarray,
                     gallery_cameras: np.ndarray) -> tuple[np.ndarray, float]:
    """CMC and mAP with each query's precisions in a list over its ranks."""
    orders = np.argsort(matrix, axis=1)
    matches = (gallery_ids[orders] == query_ids[:, None]).astype(np.int32)
    curves, precisions = np.zeros(len(gallery_ids)), []
    for i, order in enumerate(orders):
        junk = (gallery_ids[order] == query_ids[i]) & (gallery_cameras[order] == query_cameras[i])
        hits = matches[i][~(junk | (gallery_ids[order] == -1))]
        if not hits.any():
            continue
        found = hits.cumsum()
        curves[np.argmax(hits):] += 1
        at_ranks = np.asarray([count / (index + 1.0) for index, count in enumerate(found)])
        precisions.append((at_ranks * hits).sum() / hits.sum())
    return curves / len(precisions), float(np.mean(precisions))


def sets(matrix: np.ndarray, query_ids: np.ndarray, gallery_ids: np.ndarray, query_cameras: np.ndarray,
         gallery_cameras: np.ndarray) -> tuple[np.ndarray, float]:
    """CMC and mAP with each query's right and junk entries as sets of numbers."""
    orders = np.argsort(matrix, axis=1)
    curves, precisions = np.zeros(len(gallery_ids)), []
    distractors = np.flatnonzero(gallery_ids == -1)
    for i, order in enumerate(orders):
        person = np.flatnonzero(gallery_ids == query_ids[i])
        here = np.flatnonzero(gallery_cameras == query_cameras[i])
        right = np.setdiff1d(person, here, assume_unique=True)
        if not right.size:
            continue
        junk = np.append(np.intersect1d(person, here), distractors)
        order = order[np.isin(order, junk, invert=True)]
        ranks = np.flatnonzero(np.isin(order, right))
        curves[ranks[0]:] += 1
        precisions.append(sum((n + 1) / (rank + 1) for n, rank in enumerate(ranks)) / len(ranks))
    return curves / len(precisions), float(np.mean(precisions))


OURS = "ours"
EVALUATORS = {OURS: Evaluator(distances, our_ranking),
              "one product, ranks one by one": Evaluator(one_product, ranks_one_by_one),
              "row by row, sets": Evaluator(row_by_row, sets)}


def made_up(size: Size) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """(features of queries and gallery, float32; ids and cameras as `rank` takes them); always the same."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, size.people, size.queries), rng.integers(-1, size.people, size.gallery)
    cameras = [rng.integers(0, size.cameras, len(each)) for each in ids]
    looks = rng.standard_normal((size.people + 1, size.channels), np.float32)
    features = [4 * rng.standard_normal((len(each), size.channels), np.float32) for each in ids]
    for each, own in zip(ids, features):
        own += looks[each]
    return tuple(features), (*ids, *cameras)


def run(options: Options) -> dict[str, Any]:
    """Measures, prints the table, writes the file, and returns all figures."""
    require_flags(options)
    require_range(options, "rounds", least=1)
    if options.output:
        lock.take(options.output, beside=True)
    size = SIZES[options.size]
    features, labels = made_up(size)
    matrix = distances(*features)  # compiles, so that no timed call does
    expected = rank(matrix, *labels).mean_ap
    times = {name: {"distances": [], "ranking": []} for name in EVALUATORS}
    for _ in range(options.rounds):
        for name, evaluator in EVALUATORS.items():
            times[name]["distances"].append(_timed(evaluator.distances, *features)[0])
            seconds, (_, mean_ap) = _timed(evaluator.ranking, matrix, *labels)
            times[name]["ranking"].append(seconds)
            if not abs(mean_ap - expected) <= FURTHEST:
                raise SystemExit(f"'{name}' finds mAP {mean_ap:.8f}, ours {expected:.8f}: results that differ are not "
                                 "timed.")
    rows = {}
    for name, samples in times.items():
        parts = {part: statistics.median(seconds) for part, seconds in samples.items()}
        rows[name] = {"seconds": parts | {"both": sum(parts.values())}, "samples": samples}
    memory = {"distances": max(0, _peak_bytes(distances, *features) - matrix.nbytes),
              "ranking": _peak_bytes(rank, matrix, *labels)}
    result = {"size": size._asdict(), "options": asdict(options) | {"output": None}, "rows": rows,
              "mean_ap": expected, "matrix_bytes": matrix.nbytes, "our_extra_bytes": memory,
              "device": jax.devices()[0].device_kind, "cores": os.cpu_count(), "load_average": load_average()}
    print(_report(result))
    if options.output:
        replace_file(options.output, json.dumps(result, indent=1).encode())
    return result


def _timed(function: Callable, *arguments: np.ndarray) -> tuple[float, Any]:
    start = time.perf_counter()
    value = function(*arguments)
    return time.perf_counter() - start, value


def _peak_bytes(function: Callable, *arguments: np.ndarray) -> int:
    tracemalloc.start()
    try:
        function(*arguments)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _report(result: dict[str, Any]) -> str:
    size, rows = Size(**result["size"]), result["rows"]
    parts = ("distances", "ranking", "both")
    lines = []
    for name, row in rows.items():
        times = [row["seconds"][part] / rows[OURS]["seconds"][part] for part in parts]
        lines.append([name, *(f"{row['seconds'][part]:.3g}" for part in parts), *(f"{t:.3g}" for t in times)])
    columns = ["", *(f"{part}, s" for part in parts), *(f"{part}, × ours" for part in parts)]
    table = text_table(columns, lines, markdown=True)
    load = "" if result["load_average"] is None else f", load average {result['load_average']:.1f}"
    memory = {part: f"{extra / 1e6:.1f} MB" for part, extra in result["our_extra_bytes"].items()}
    block = min(512, size.queries) * size.gallery * 4
    return (f"{size.queries:,} queries, {size.gallery:,} gallery entries, {size.channels:,} channels, "
            f"{size.people} people; {result['device']}, {result['cores']} cores{load}; medians of "
            f"{result['options']['rounds']} rounds; mAP {result['mean_ap']:.4f} by all\n\n{table}\n\n"
            f"Ours holds beyond the matrix of {result['matrix_bytes'] / 1e6:.1f} MB: for distances "
            f"{memory['distances']} on the host and, on the device, the features and a block of 512 queries "
            f"({block / 1e6:.1f} MB); for ranking {memory['ranking']}.")


def main(arguments: list[str] | None = None) -> None:
    """Parses and calls `run`; bad options are one line and exit code 2."""
    run_as_command(lambda: run(tyro.cli(Options, prog="benchmark_evaluation", args=arguments, description=__doc__)))


if __name__ == "__main__":
    main()
