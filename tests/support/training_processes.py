"""Trainings by several processes, which tests start, kill and look at.

    python tests/support/training_processes.py

is a server that has the libraries imported, without having started JAX: it forks the processes of a training, which
saves the seconds that every start costs. Requests and answers are JSON, one a line. Each process ends as a program
does, and what it says goes to a file of its own.
"""

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Server:
    """A running server; `server.start("toy", …)` starts a training."""

    def __init__(self, cache):
        environment = os.environ | {
            "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
            "JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        self._server = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, env=environment)

    def start(self, what, directory, *, processes=1, devices=1, only=None, **options):
        """Starts the processes of one of the functions below.

        Args:
          devices: of each process.
          only: options that a process has for itself, by its number.
        """
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        directory.mkdir(parents=True, exist_ok=True)
        pids = []
        for index in range(processes):
            who = {} if processes == 1 else {"VRSTC_COORDINATOR": f"127.0.0.1:{port}",
                                             "VRSTC_PROCESSES": str(processes), "VRSTC_PROCESS": str(index)}
            pids.append(self.ask(do="start", what=what, devices=devices, environment=who,
                                 log=str(directory / f"log{index}"),
                                 options={"directory": str(directory)} | options | (only or {}).get(index, {})))
        return Running(self, directory, pids)

    def run(self, *arguments, seconds=300, **options):
        """Starts a training and waits: (exit codes, what each process said)."""
        running = self.start(*arguments, **options)
        return running.wait(seconds), running.logs()

    def ask(self, **request):
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())

    def close(self):
        self._server.stdin.close()
        self._server.wait(30)


class Running:
    """The processes of a training."""

    def __init__(self, server, directory, pids):
        self._server, self.directory, self._codes = server, directory, dict.fromkeys(pids)

    def signal(self, index, number):
        """Sends a signal to one of them."""
        os.kill(list(self._codes)[index], number)

    def going(self):
        """Whether all are alive."""
        return self._poll().count(None) == len(self._codes)

    def wait(self, seconds=300):
        """Their exit codes, minus the signal's number for those that one killed; those that take longer are killed,
        and 'hung'."""
        end = time.monotonic() + seconds
        while None in self._poll() and time.monotonic() < end:
            time.sleep(0.05)
        for pid, code in self._codes.items():
            if code is None:
                os.kill(pid, signal.SIGKILL)
                self._codes[pid] = "hung"
        return list(self._codes.values())

    def wait_for(self, *conditions, seconds=300):
        """Waits until the directory has a file for each pattern."""
        end = time.monotonic() + seconds
        while not all(any(self.directory.glob(pattern)) for pattern in conditions):
            assert self.going() and time.monotonic() < end, self.logs()
            time.sleep(0.005)

    def logs(self):
        """What each process said."""
        return [(self.directory / f"log{i}").read_text(errors="replace") for i in range(len(self._codes))]

    def _poll(self):
        for pid, code in self._codes.items():
            if code is None:
                self._codes[pid] = self._server.ask(do="poll", pid=pid)
        return list(self._codes.values())


def _serve():
    import training_processes  # by this name for `_find`, and imported before the first fork

    assert training_processes
    for module in ("vrstc_jax.training.pair_scorer", "vrstc_jax.recipes.five_steps", "tools.killed_job",
                   "vrstc_jax.data.walkers", "vrstc_jax.data.batches", "orbax.checkpoint.multihost",
                   "tensorboardX.summary", "tensorboardX.event_file_writer"):
        __import__(module)
    for line in sys.stdin:
        request = json.loads(line)
        if request.pop("do") == "poll":
            pid, status = os.waitpid(request["pid"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            answer = os.fork()
            if not answer:
                _process(**request)
        print(json.dumps(answer), flush=True)


def _process(what, devices, environment, log, options):
    import jax

    from vrstc_jax.runtime.lifecycle import run_as_command

    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.environ |= environment
    jax.config.update("jax_num_cpu_devices", devices)
    code = 70
    try:
        run_as_command(lambda: globals()[what](**options))
        code = 0
    except SystemExit as error:
        code = error.code
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def toy(directory, *, steps=20, pause=0.0, heartbeat=20, seed=0, size=1000, kill=None, fail=None, log_every=20,
        checkpoint_every=200):
    """A training of one array, by the loop, with batches of 8 numbers.

    Args:
      pause: seconds that each step takes longer.
      kill: ('module:function', n): the process kills itself, as `kill -9` does, in the n-th call of that function.
      fail: the step after which this process raises an error.
    """
    import jax
    import jax.numpy as jnp
    import numpy as np
    from commands import _kill_in

    from vrstc_jax.runtime import distributed
    from vrstc_jax.training import loop
    from vrstc_jax.training.devices import AXIS

    if kill:
        _kill_in(*kill)
    distributed.initialize(heartbeat=heartbeat)
    share = distributed.rows_per_process(8)

    def batches(start):
        for number in range(start + 1, 10 ** 6):
            rows = np.random.default_rng((seed, number)).standard_normal(8).astype(np.float32)
            if number > start + 1:
                time.sleep(pause)
            yield {"x": rows[distributed.process_index() * share:][:share]}

    def update(state, batch):
        mean = jax.lax.pmean(jnp.mean(batch["x"]), AXIS)
        total = state["total"] * 0.99 + mean
        return {"step": state["step"] + 1, "total": total}, {"loss": mean, "size": jnp.abs(total).max()}

    devices = distributed.batch_devices(8)
    pmapped = jax.pmap(update, axis_name=AXIS, in_axes=(None, 0), out_axes=(None, None), donate_argnums=0,
                       devices=devices)

    def step(state, batch):
        state, metrics = pmapped(state, batch)
        if fail is not None and int(state["step"]) == fail:
            raise RuntimeError("something of this process alone")
        return state, metrics

    start = {"step": np.zeros((), np.int32), "total": np.arange(size, dtype=np.float32)}
    run = loop.TrainingRun("toy", steps=steps, directory=directory, devices=devices,
                           intervals=loop.Intervals(log=log_every, checkpoint=checkpoint_every))
    state = loop.train(run, start, step, batches)
    if distributed.is_first():
        np.save(Path(directory) / "total.npy", np.asarray(state["total"]))


def networks(directory, *, steps, heartbeat=30, **options):
    """Trains both networks by `tools.killed_job.train`, and leaves moments.npz: after each step Adam's first moments,
    which add up the gradients, and the metrics."""
    import jax
    import numpy as np

    from tools.killed_job import train
    from vrstc_jax.runtime import distributed

    distributed.initialize(heartbeat=heartbeat)
    seen = {}

    def watch(network, state, metrics):
        players = {"reid": ("adam",), "stcnet": ("generators_adam", "discriminators_adam")}[network]
        for player in players:
            (moments,) = [part.mu for part in state.saved()[player] if hasattr(part, "mu")]
            flat = np.concatenate([np.asarray(leaf).ravel() for leaf in jax.tree.leaves(moments)])
            seen.setdefault(f"{network} {player}", []).append(flat)
        for name, value in metrics.items():
            seen.setdefault(f"{network} metric {name}", []).append(np.asarray(value))

    train(Path(directory), steps=steps, watch=watch, **options)
    if distributed.is_first():
        np.savez(Path(directory) / "moments.npz", **seen)


def bulk(directory, *, people=3, heartbeat=10, kill=None, fail=None, bucket=None):
    """The five steps with random variables for what would be trained, and `vrstc complete`'s job with the model and the
    queries of it. Leaves work/ and queries/, in gs://here if there is a folder for a `bucket`.

    Args:
      kill: as of `toy`, and, if there is a third, the number of the signal.
    """
    import dataclasses

    import bucket as buckets
    from commands import _find, _kill_in
    from five_steps_stand_ins import CONFIG, PROTOCOL, StandIns

    from vrstc_jax.data.inputs.sources import Source
    from vrstc_jax.data.tracklet_set import read_set, write_set
    from vrstc_jax.data.walkers import walker_splits
    from vrstc_jax.inference.complete import Completer
    from vrstc_jax.inference.results_folder import ResultsFolder
    from vrstc_jax.models.model_file import load_model
    from vrstc_jax.recipes import complete, five_steps
    from vrstc_jax.recipes.five_steps import networks
    from vrstc_jax.runtime import distributed, sharded_map
    from vrstc_jax.runtime.lifecycle import start_jax
    from vrstc_jax.runtime.storage import as_path

    if kill:
        _kill_in(*kill)
    if fail:
        setattr(*_find(fail), _failing)
    if bucket:
        buckets.install(bucket)
    distributed.initialize(heartbeat=heartbeat)
    start_jax()
    directory = as_path("gs://here" if bucket else directory)
    stand_ins = StandIns()
    networks.train_reid, networks.train_stcnet = stand_ins.reid, stand_ins.stcnet
    for function in (sharded_map.bounds, sharded_map.by_shards):
        function.__kwdefaults__["frames"] = 8  # two tracklets
    protocol = dataclasses.replace(PROTOCOL, train_people=people, test_people=people - people // 3,
                                   distractors=people // 3)
    five_steps.run(directory / "work", CONFIG, lambda path: write_set(path, walker_splits(protocol)),
                   options=five_steps.Options(compare=False))
    source = Source(read_set(directory / "work/data", "query").tracklets, "folder", directory / "work/data")
    model = load_model(directory / "work/model.safetensors")
    folder = ResultsFolder(directory / "queries", complete.model_identity(model))
    complete.complete_source(Completer(model), source, folder, command="")
    folder.finish()


def one_computes(directory):
    """Process 1 alone computes something, while process 0 waits for it."""
    import jax.numpy as jnp

    from vrstc_jax.runtime import distributed

    distributed.initialize()
    if distributed.process_index() == 1:
        print(f"in all {jnp.arange(5).sum()}", flush=True)
    distributed.barrier("the end")


def _failing(*_, **__):
    raise RuntimeError("made to fail")


if __name__ == "__main__":
    _serve()
