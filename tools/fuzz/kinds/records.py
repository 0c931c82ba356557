"""What runs leave and read again: results, checkpoints, scores, metrics, work folders. Each damaged, then read."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image

from tools.fuzz import checking, mutation
from tools.fuzz.good import Good
from tools.fuzz.judging import silently
from tools.fuzz.tries import Try, command

_STEPS = (3, 6)  # of the good checkpoints


def damage(rng: random.Random, folder: Path, files: list[Path], *, count: int = 1) -> list[Path]:
    """Damages some files below a folder, or puts something else there; returns which."""
    chosen = rng.sample(sorted(files), min(count, len(files)))
    for path in chosen:
        if not path.is_file() or path.is_symlink():
            continue
        kind = rng.random()
        if kind < 0.35:
            mutation.replace(rng, path)
        elif kind < 0.7 and path.suffix == ".json":
            path.write_bytes(mutation.damaged_json(rng, json.loads(path.read_bytes())))
        elif kind < 0.8:
            mutation.replace(rng, rng.choice([parent for parent in path.parents if parent.is_relative_to(folder)
                                              and parent != folder] or [path]))
        else:
            path.write_bytes(mutation.damaged(rng, path.read_bytes()))
    return chosen


def workdirs(rng: random.Random, folder: Path, good: Good) -> Try:
    """The results of a finished `vrstc complete`, in which files are damaged, missing or more; then the same again."""
    words = ("complete", "in", "--output", "o", "--model", good.model_file)

    def make(where: Path) -> None:
        good.crops(where / "in")
        silently(command(*words).call, where)

    good.finished(folder, "results", make)
    expected = {path.relative_to(folder / "in").with_suffix("").as_posix(): np.array(Image.open(path))
                for path in (folder / "in").rglob("*.png")}
    output, unknown = folder / "o", frozenset()
    match rng.choice(("record", "record", "record", "picture", "more", "cut", "half", "input", "none")):
        case "record":
            damage(rng, output, [path for path in output.rglob("*") if path.suffix in (".json", ".html")],
                   count=rng.choice((1, 1, 3)))
        case "picture":
            hit = damage(rng, output, list(output.rglob("*.png")))
            # A picture of the results that still is one is the user's to change.
            unknown = frozenset(expected if hit else ())
        case "more":
            target = output / rng.choice(("work", "scores/c.json", "scores/..json", "masks/c", "c", "a/9999.png", "x",
                                          "scores/a/b.json", "work/spool/index.json", ".run.json.partial", ".x.lock"))
            if not target.exists() and (target.parent.is_dir() or not target.parent.exists()):
                target.parent.mkdir(parents=True, exist_ok=True)
                rng.choice((lambda: target.mkdir(), lambda: target.write_bytes(b"{}"), lambda: target.symlink_to(".."),
                            lambda: target.write_text("x")))()
        case "cut":
            for path in rng.sample(sorted(path for path in output.rglob("*") if path.is_file()), 3):
                path.unlink()
        case "half":
            (output / "scores/b.json").unlink()
            mutation.replace(rng, output / rng.choice(("b", "masks/b", "masks", "scores", "a")))
        case "input":
            damage(rng, folder / "in", list((folder / "in").rglob("*.png")))
            read = checking.as_read(folder / "in", folder.parent / "tmp/spool")
            return command(*words, outputs=("o",), resumed=True, check=checking.completed(output, read))
    if unknown:
        return command(*words, outputs=("o",), resumed=True)
    extra = {name for path in output.rglob("*.png") if path.relative_to(output).parts[0] != "masks"
             for name in [path.relative_to(output).with_suffix("").as_posix()]} - set(expected)
    return command(*words, outputs=("o",), resumed=True,
                   check=None if extra else checking.completed(output, expected))


def checkpoints(rng: random.Random, folder: Path, good: Good) -> Try:
    """Two checkpoints of a small state, of which files are damaged; then the newest whole one is restored."""
    from vrstc_jax.training.checkpoints import Checkpoints

    def state(step: int) -> dict[str, np.ndarray]:
        return {"w": np.arange(100, dtype=np.float32) * step, "n": np.asarray(step)}

    def make(where: Path) -> None:
        with Checkpoints(where / "c") as opened:
            for step in _STEPS:
                opened.save(step, state(step))

    good.finished(folder, "checkpoints", make)
    files = [path for path in (folder / "c").rglob("*") if path.is_file()]
    damage(rng, folder / "c", files, count=rng.choice((0, 1, 1, 2, 5)))
    if rng.random() < 0.1 and (folder / "c").is_dir():
        (folder / "c" / mutation.name(rng)[:50]).mkdir(exist_ok=True)
    restored: list[Any] = []

    def call() -> None:
        with Checkpoints(folder / "c") as opened:
            restored.extend(opened.restore(state(0)))

    def check() -> str | None:
        found, step = restored
        same = step in (0, *_STEPS) and all(np.array_equal(found[key], value) for key, value in state(step).items())
        return None if same else f"the state of step {step} is another one"

    return Try(call, "Checkpoints(c).restore(…)", outputs=("c",), resumed=True, check=check)


def records(rng: random.Random, folder: Path, good: Good) -> Try:
    """A file of scores, a log of metrics, or a record of a fit, damaged; then read as a run that goes on reads it."""
    from vrstc_jax.runtime.sharded_map import by_shards
    from vrstc_jax.training.metrics_log import MetricsLog, curves, read_metrics

    lengths = (3, 5, 2)
    arrays = [np.full((length, 3), index, np.float32) for index, length in enumerate(lengths)]
    lines = [{"step": step, "loss": 1 / step} for step in (1, 2, 3)]
    results: list[Any] = []
    if rng.random() < 0.5:
        np.savez(folder / "s.npz", *arrays)
        damage(rng, folder, [folder / "s.npz"])

        def scores() -> None:
            results.extend(by_shards(folder / "s.npz", lengths, lambda indices: [arrays[index] for index in indices],
                                     fits=lambda array, length: array.shape == (length, 3)))

        return Try(scores, "by_shards(s.npz, …)", outputs=("s.npz", ".s.parts"), resumed=True,
                   check=lambda: None if all(map(np.array_equal, results, arrays)) else "other scores")
    (folder / "log").mkdir()
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "log/metrics.jsonl").write_text(text)
    if rng.random() < 0.5:
        changed = [json.dumps(mutation.damaged_value(rng, line) if rng.random() < 0.5 else line) for line in lines]
        (folder / "log/metrics.jsonl").write_bytes(mutation.damaged_text(rng, changed))
    else:
        damage(rng, folder / "log", [folder / "log/metrics.jsonl"])

    def metrics() -> None:
        read_metrics(folder / "log")
        curves(folder / "log")
        with MetricsLog(folder / "log", 2) as log:
            log.write(3, {"loss": 1.0})

    return Try(metrics, "MetricsLog(log)", outputs=("log",), resumed=True)


def untrained(each: Try, good: Good) -> Try:
    """A `vrstc fit` in which the trainings are left out: the networks are the good model's."""
    call = each.call

    def fit() -> None:
        with (mock.patch("vrstc_jax.recipes.fit.train_reid", lambda *given, **_: good.reid(given[3])),
              mock.patch("vrstc_jax.recipes.fit.train_stcnet",
                         lambda *_, **__: (good.model.generators, good.model.discriminators))):
            call()

    each.call = fit
    return each


def fits(rng: random.Random, folder: Path, good: Good) -> Try:
    """A finished `vrstc fit`, without its trainings, in which files are damaged; then the same again."""
    words = ("fit", "in", "--output", "m", "--size", "smoke", *(("--hold-out", 1) if rng.random() < 0.3 else ()))

    def make(where: Path) -> None:
        good.crops(where / "in", people=("a", "b", "c"))
        silently(untrained(command(*words), good).call, where)

    good.finished(folder, f"fit{len(words)}", make)
    work = folder / "m.work"
    actions: dict[str, Callable[[], object]] = {
        "work": lambda: damage(rng, work, [path for path in work.rglob("*") if path.is_file()],
                               count=rng.choice((1, 1, 3))),
        "model": lambda: damage(rng, folder, [folder / "m"]),
        "input": lambda: damage(rng, folder / "in", list((folder / "in").rglob("*.png"))),
        "more": lambda: (work / mutation.name(rng)[:50]).write_text("x"), "none": lambda: None}
    actions[rng.choice(("work", "work", "work", "model", "input", "more", "none"))]()
    return untrained(command(*words, outputs=("m", "m.work"), resumed=True), good)
