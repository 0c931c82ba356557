"""Kills one of the processes of a run at random moments, and counts how often the end result is the same.

    python -m tools.kill_tally --times 20

First two processes of two CPU devices each train the re-ID network and STCnet, size `smoke`, on made-up walkers,
writing a checkpoint every few steps, and with these networks locate in and complete a data set; nobody disturbs them;
twice, which must give the same. Then, 20 times, the same run is started in a new directory, one of the two is killed
as `kill -9` does it, the other must end by itself with a message, the same command is given again, and what it leaves
is compared with the undisturbed result bit for bit: the networks, their optimisers, the lines of metrics, the scores
and every file of the completed set. A third of the moments are random ones, a third are while a checkpoint is just
being written, and a third are in the middle of completing. The seed is told, and makes the moments the same again.
"""

import dataclasses
import functools
import hashlib
import json
import math
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.lifecycle import run_as_command

_PATIENCE = 900  # seconds for a whole run
_PEOPLE = 12  # whose tracklets in two cameras are completed
_EVERY = 3  # steps from checkpoint to checkpoint


@dataclass(frozen=True)
class Arguments:
    """How often, and where."""

    times: int = 20
    """How often to kill."""
    seed: int | None = None
    """Of the moments; if left out, another one each time, which is told."""
    steps: int = 12
    """Of each training in a run."""
    workdir: Path | None = None
    """For all that is trained; if left out, a temporary directory, removed at the end."""


def main(arguments: Arguments) -> bool:
    """Kills and compares; prints the tally. Returns whether all end results were the same."""
    if arguments.times < 1 or arguments.steps < 4:
        raise InputError(f"--times must be 1 or more and --steps 4 or more. Got {arguments.times}, {arguments.steps}.")
    seed = random.randrange(10 ** 6) if arguments.seed is None else arguments.seed
    with tempfile.TemporaryDirectory() as temporary:
        work = (arguments.workdir or Path(temporary)).absolute()
        run = functools.partial(Run, steps=arguments.steps, cache=work / "compiled")
        expected, _ = undisturbed(run(work / "whole"))
        # Once more: those to be killed, too, find what the first has compiled.
        again, took = undisturbed(run(work / "again"))
        if again != expected:
            raise InputError(f"{work}: two undisturbed runs gave different results; so there is nothing to "
                             "compare with.")
        print(f"undisturbed, twice: the same; {took:.0f} s; seed {seed}", flush=True)
        drawn = moments(arguments.times, seed, seconds=took, checkpoints=2 * math.ceil(arguments.steps / _EVERY),
                        tracklets=2 * _PEOPLE)
        rows = [kill_once(run(work / f"killed{n}"), moment, expected) for n, moment in enumerate(drawn)]
    same = sum(row["same"] for row in rows)
    alone = sum(row["ended"] for row in rows)
    writing, completing = (sum(row[kind] for row in rows) for kind in ("writing", "completing"))
    print(f"{len(rows)} kills, {writing} of them while a checkpoint was written and {completing} during a completing "
          f"job: {same} end results are the same bit "
          f"for bit; {alone} times the other process ended by itself.")
    return same == alone == len(rows)


def undisturbed(run: "Run") -> tuple[dict, float]:
    """(the end result of a run from its start, the seconds that it took).

    Raises:
      InputError: it failed.
    """
    shutil.rmtree(run.directory, ignore_errors=True)
    began = time.monotonic()
    codes = run.start().wait()
    if any(codes):
        raise InputError(f"{run.directory}: the undisturbed run ended with {codes}; see its log files.")
    return result(run.directory), time.monotonic() - began


def moments(times: int, seed: int, *, seconds: float, checkpoints: int, tracklets: int = 0,
            ) -> list[tuple[int, str, float]]:
    """(which process, 'any', 'writing' or 'completing', when) of each kill.

    'any' is so many seconds after the start, of a run that takes `seconds`; 'writing' is in the n-th of its
    checkpoints, while it is being written; 'completing' is when n of its tracklets are completed, where there are any.
    """
    draw, kinds = random.Random(seed), ("any", "writing", *(["completing"] if tracklets else []))

    def when(kind):
        if kind == "any":
            return draw.uniform(0.2, 0.95) * seconds
        return draw.randint(1, checkpoints) if kind == "writing" else draw.randint(1, tracklets - 1)

    return [(draw.randrange(2), kind, when(kind)) for kind in (kinds[n % len(kinds)] for n in range(times))]


def kill_once(run: "Run", moment: tuple[int, str, float], expected: dict) -> dict:
    """Kills one process of a run at a moment, lets the other end, and starts again.

    A run that is done before the moment comes is done again, with an earlier one.

    Returns:
      {'same': whether the end result is the expected one, 'ended': whether the other process ended by itself, with a
      message,
      'writing': whether a checkpoint was half-written at that moment, 'completing': whether the data set was
      half-completed}; it is printed too.

    Raises:
      InputError: the run failed by itself.
    """
    which, kind, when = moment
    while not _reached(run, kind, when):
        if any(run.wait()):
            raise InputError(f"{run.directory}: the run failed before it was killed; see its log files.")
        when = when - 1 if kind != "any" and when > 1 else when * 0.8
    run.processes[which].kill()
    writing, completing = bool(_half_written(run)), _completed(run) > 0 and not (run.directory / "completed").exists()
    began = time.monotonic()
    codes = run.wait()
    waited = time.monotonic() - began
    # 0: it had nothing left to do with the one that was killed.
    ended = codes[1 - which] == 0 or codes[1 - which] != -signal.SIGKILL and bool(
        re.search("another (task died|process of this run is gone)", run.log(1 - which)))
    again = run.start().wait()
    same = not any(again) and result(run.directory) == expected
    place = ", ".join(f"{path.parent.name} {path.name}" for path in sorted(run.directory.glob("*/checkpoints")))
    what = ", a checkpoint half-written" if writing else ", the data set half-completed" if completing else ""
    print(f"process {which} killed ({kind} {when:.4g}{what}); the other "
          f"ended after {waited:.0f} s with {codes[1 - which]}; again: {again}, "
          f"{'the same' if same else 'ANOTHER RESULT in ' + place}", flush=True)
    return {"same": same, "ended": ended, "writing": writing, "completing": completing}


def _reached(run, kind, when):
    """Starts a run from nothing; whether the moment comes before its end."""
    shutil.rmtree(run.directory, ignore_errors=True)
    run.start()
    began, seen = time.monotonic(), set()
    while run.going():
        unfinished = _half_written(run)
        seen |= unfinished
        if {"any": lambda: time.monotonic() - began >= when, "writing": lambda: unfinished and len(seen) >= when,
                "completing": lambda: _completed(run) >= when}[kind]():
            return True
        time.sleep(0.002)
    return False


def _half_written(run):
    """(network, step) of the checkpoints that have no digests yet."""
    return {(path.parts[-3], path.name.split(".")[0]) for path in run.directory.glob("*/checkpoints/[0-9]*")
            if not (path / "digests.json").exists()}


def _completed(run):
    """How many tracklets are completed; 0 where the set stands."""
    return len(list(run.directory.glob("completed_details/scores/**/*.json")))


class Run:
    """A run by processes of its own, in a directory; their outputs are in log0, log1 and so on there."""

    def __init__(self, directory: Path, *, steps: int = 12, processes: int = 2, devices: int = 2,
                 cache: Path | None = None, program: tuple = ("-m", "tools.kill_tally"), heartbeat: int = 20,
                 options: dict | None = None):
        self.directory, self.processes = directory, []
        self._count, self._program = processes, program
        self._options = {"directory": str(directory), "steps": steps, "heartbeat": heartbeat} | (options or {})
        self._environment = os.environ | {
            "PYTHONPATH": str(Path(__file__).resolve().parents[1]), "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": str(devices), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        if cache is not None:
            self._environment |= {"JAX_COMPILATION_CACHE_DIR": str(cache)}

    def start(self, **options) -> "Run":
        """Starts all processes."""
        self.directory.mkdir(parents=True, exist_ok=True)
        port, self.processes = _free_port(), []
        for index in range(self._count):
            who = {"VRSTC_COORDINATOR": f"127.0.0.1:{port}", "VRSTC_PROCESSES": str(self._count),
                   "VRSTC_PROCESS": str(index)} if self._count > 1 else {}
            with open(self.directory / f"log{index}", "wb") as log:
                self.processes.append(subprocess.Popen(
                    [sys.executable, *self._program, "train", json.dumps(self._options | options)], stdout=log,
                    stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=self._environment | who,
                    cwd=self._environment["PYTHONPATH"]))
        return self

    def going(self) -> bool:
        """Whether all processes are alive."""
        return all(process.poll() is None for process in self.processes)

    def wait(self, seconds: float = _PATIENCE) -> list[int]:
        """The exit codes of all processes; those that take longer than so many seconds are killed."""
        end = time.monotonic() + seconds
        for process in self.processes:
            try:
                process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        return [process.returncode for process in self.processes]

    def log(self, index: int) -> str:
        """What a process said."""
        return (self.directory / f"log{index}").read_text(errors="replace")


def result(directory: Path) -> dict:
    """What a run left: the digest of each network with its optimiser, the lines of its metrics, and the digest of each
    file that locating and completing made."""
    left = json.loads((directory / "result.json").read_text()) if (directory / "result.json").exists() else {}
    for path in sorted(directory.glob("*/metrics.jsonl")):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        left[path.parent.name, "metrics"] = [{k: v for k, v in line.items() if k != "steps_per_second"}
                                             for line in lines]
    for path in (directory / "scores.npz", *sorted((directory / "completed").glob("*"))):
        left[path.name] = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None
    return left


def train(directory: Path, *, steps: int, networks: tuple[str, ...] = ("reid", "stcnet"),
          checkpoint_every: int = _EVERY, log_every: int = 2, watch=None, **options) -> dict:
    """Trains networks of size `smoke` on made-up walkers, among however many processes there are.

    Args:
      watch: (network, state, metrics), called after each step.
      options: of `loop.TrainingRun`.

    Returns:
      The last states, by network.
    """
    from vrstc_jax.training import loop, reid, stcnet

    config, data, usable, batches = _material()
    identities = len({each.label for each in usable})
    no_guider = dataclasses.replace(config.losses, identity=0.0)
    tasks = {"reid": config.first_reid, "stcnet": dataclasses.replace(config.stcnet_task, losses=no_guider)}
    steppers = {"reid": reid.pmap_step(tasks["reid"], identities),
                "stcnet": stcnet.pmap_step(tasks["stcnet"], identities)}
    starts = {"reid": lambda: reid.initial_state(tasks["reid"], identities),
              "stcnet": lambda: stcnet.initial_state(tasks["stcnet"])}
    states = {}
    for network in networks:
        def step(state, batch, network=network):
            state, metrics = (steppers["reid"](state, batch) if network == "reid"
                              else steppers["stcnet"](state, None, batch))
            if watch:
                watch(network, state, metrics)
            return state, metrics

        states[network] = loop.train(
            loop.TrainingRun(network, steps=steps, directory=directory / network, task=tasks[network],
                             intervals=loop.Intervals(log=log_every, checkpoint=checkpoint_every), **options),
            starts[network](), step,
            lambda start, network=network: batches[network](data, usable, tasks[network], start=start))
    return states


def _material():
    import numpy as np

    from vrstc_jax import config as configs
    from vrstc_jax.data.batches import TrainingFrames, reid_batches, stcnet_batches
    from vrstc_jax.data.walkers import WalkerConfig, make_tracklets, people
    from vrstc_jax.ops.pictures import thumbnail

    config = configs.get("smoke")
    tracklets = make_tracklets(people("train", 4), cameras=1, config=WalkerConfig(height=40, width=20, frames=8))
    frames = [frame for tracklet in tracklets for frame in tracklet.frames]

    class InMemory:
        frame = staticmethod(frames.__getitem__)
        thumbnail = staticmethod([thumbnail(frame) for frame in frames].__getitem__)

    usable = [TrainingFrames(8 * k, np.arange(8), k) for k in range(len(tracklets))]
    return config, InMemory, usable, {"reid": reid_batches, "stcnet": stcnet_batches}


def complete(directory: Path, states: dict) -> None:
    """Locates in a data set of made-up walkers and completes it, by the networks that `train` left: data/, scores.npz
    and completed/."""
    import jax

    from vrstc_jax import config as configs
    from vrstc_jax.data.tracklet_set import read_set, write_set
    from vrstc_jax.data.walkers import WalkerConfig, make_tracklets, people
    from vrstc_jax.inference.locate import Locator, choose_tau
    from vrstc_jax.models.model_file import Model
    from vrstc_jax.recipes import five_steps
    from vrstc_jax.recipes.fit import locate_tracklets
    from vrstc_jax.runtime import distributed

    def write():
        if not (directory / "data").exists():
            write_set(directory / "data", make_tracklets(people("test", _PEOPLE), cameras=2, config=WalkerConfig(
                height=40, width=20, frames=8)))

    distributed.run_on_first(write)
    config, data = configs.get("smoke"), read_set(directory / "data")
    identities = tuple(map(str, range(len(_material()[2]))))
    reid = jax.device_get(states["reid"].result)
    scores = locate_tracklets(directory / "scores.npz", data, Locator(config.reid, reid, len(identities)))
    model = Model(config, jax.device_get(states["stcnet"].result), jax.device_get(states["stcnet"].params["discriminators"]),
                  reid, identities, choose_tau(scores, 0.2))
    if not distributed.run_on_first((directory / "completed").exists):
        five_steps.complete_sets({"train": data}, model, five_steps.Located({"train": scores}, model.tau), directory)


def _run_as_one_process(directory, *, heartbeat, **options):
    """What each process of a `Run` does."""
    import jax
    import numpy as np

    from vrstc_jax.runtime import distributed
    from vrstc_jax.runtime.storage import replace_file

    distributed.initialize(heartbeat=heartbeat)
    states = train(Path(directory), **options)
    digests = {name: hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state))).hexdigest()
               for name, state in states.items()}
    if distributed.is_first():
        replace_file(Path(directory) / "result.json", json.dumps(digests).encode())
    complete(Path(directory), states)


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _main():
    if sys.argv[1:2] == ["train"]:
        options = json.loads(sys.argv[2])
        run_as_command(lambda: _run_as_one_process(**options))
    else:
        run_as_command(lambda: sys.exit(0 if main(tyro.cli(Arguments, description=__doc__)) else 1))


if __name__ == "__main__":
    _main()
