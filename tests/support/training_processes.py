"""Trainings by several processes, which tests start, kill and look at.

    python tests/support/training_processes.py

is a `tools.fork_server` of the processes of a training. The output of each goes to a separate file.
"""

import os
import re
import signal
import socket
import time
from pathlib import Path

import commands

from tools import fork_server


class Server(commands.Server):
    """A running server; `server.start("toy", …)` starts a training."""

    def __init__(self, cache):
        super().__init__(__file__, cache)

    def start(self, what, directory, *, processes=1, devices=1, only=None, slurm=False, **options):
        """Starts the processes of one of the functions below.

        Args:
          devices: of each process.
          only: options that a process has for itself, by its number.
          slurm: whether the processes find each other by Slurm's variables.
        """
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        directory.mkdir(parents=True, exist_ok=True)
        pids = []
        for index in range(processes):
            who = {} if processes == 1 else {"VRSTC_COORDINATOR": f"127.0.0.1:{port}",
                                             "VRSTC_PROCESSES": str(processes), "VRSTC_PROCESS": str(index)}
            if slurm:  # JAX makes the port of the job's number
                who = {"SLURM_JOB_ID": str(port), "SLURM_STEP_NODELIST": "localhost", "SLURM_LOCALID": "0",
                       "SLURM_NTASKS": str(processes), "SLURM_PROCID": str(index)}
            pids.append(self.ask(what=what, devices=devices, environment=who, log=str(directory / f"log{index}"),
                                 options={"directory": str(directory)} | options | (only or {}).get(index, {})))
        return Running(self, directory, pids)

    def end(self, *arguments, seconds=300, **options):
        """Starts a training and waits: (exit codes, what each process said)."""
        running = self.start(*arguments, **options)
        return running.wait(seconds), running.logs()

    def run(self, *arguments, code=0, **options):
        """Runs a training in which each process must end with a code: what each said."""
        codes, said = self.end(*arguments, **options)
        assert set(codes) == {code}, (codes, said)
        return said

    def run_killed(self, what, directory, killed, moment, **options):
        """Kills one process of two in the n-th call of a function, `moment`; the other must end by itself."""
        codes, said = self.end(what, directory, processes=2, only={killed: {"kill": moment}}, **options)
        assert codes[killed] == -signal.SIGKILL, (codes, said)
        assert_heard(codes[1 - killed], said[1 - killed])


def assert_heard(code, said):
    """The process ended because another did: JAX ended it, or it heard of it in a computation."""
    assert code in (1, -signal.SIGABRT), (code, said)
    assert re.search("another (task died|process of this run is gone)", said), said


class Running:
    """The processes of a training."""

    def __init__(self, server, directory, pids):
        self._server, self.directory, self._codes = server, directory, dict.fromkeys(pids)

    def signal(self, index, number):
        """Sends a signal to one of them."""
        os.kill(list(self._codes)[index], number)

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

    def wait_for(self, file, seconds=300):
        """Waits until the directory has a file."""
        end = time.monotonic() + seconds
        while not (self.directory / file).exists():
            assert set(self._poll()) == {None} and time.monotonic() < end, self.logs()
            time.sleep(0.005)

    def logs(self):
        """What each process said."""
        return [(self.directory / f"log{i}").read_text(errors="replace") for i in range(len(self._codes))]

    def _poll(self):
        for pid, code in self._codes.items():
            if code is None:
                self._codes[pid] = self._server.ask(pid=pid)
        return list(self._codes.values())


_CHILDREN = fork_server.Children()


def _answer(pid=None, log=None, **process):
    """The exit code of a process that was started, None while it runs; or starts one, and returns its id."""
    return _CHILDREN.start(lambda: _process(**process), out=log) if pid is None else _CHILDREN.code(pid)


def _process(what, devices, environment, options):
    import jax

    from vrstc_jax.runtime.lifecycle import run_as_command

    os.environ |= environment
    jax.config.update("jax_num_cpu_devices", devices)
    run_as_command(lambda: globals()[what](**options))


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

    from vrstc_jax.runtime import distributed
    from vrstc_jax.training import loop
    from vrstc_jax.training.devices import AXIS

    if kill:
        commands.kill_in(*kill)
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
        optimizers = {"reid": ("adam",), "stcnet": ("generators_adam", "discriminators_adam")}[network]
        for optimizer in optimizers:
            (moments,) = [part.mu for part in state.saved()[optimizer] if hasattr(part, "mu")]
            flat = np.concatenate([np.asarray(leaf).ravel() for leaf in jax.tree.leaves(moments)])
            seen.setdefault(f"{network} {optimizer}", []).append(flat)
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
    from five_steps_stand_ins import CONFIG, PROTOCOL, StandIns

    from vrstc_jax.data.inputs.sources import Source
    from vrstc_jax.data.tracklet_set import read_set, write_set
    from vrstc_jax.data.walkers import walker_splits
    from vrstc_jax.inference.completer import Completer
    from vrstc_jax.inference.results_folder import ResultsFolder
    from vrstc_jax.models.model_file import load_model
    from vrstc_jax.recipes import complete, five_steps
    from vrstc_jax.recipes.five_steps import networks
    from vrstc_jax.runtime import distributed, sharded_map
    from vrstc_jax.runtime.lifecycle import start_jax
    from vrstc_jax.runtime.storage import as_path

    if kill:
        commands.kill_in(*kill)
    if fail:
        setattr(*commands.find(fail), _failing)
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


def first_acts(directory, *, devices=1, rank=True, after=None, late=None, fail="", fail_early=False):
    """All get what process 0 alone does.

    Args:
      devices: of this process.
      rank: whether the launcher says which process this is; on TPU pods none does.
      after: a file that process 1 writes when it has its devices, and process 0 waits for in what it does.
      late: seconds that this process comes later, with its devices started; None: it starts them then.
      fail: what process 0 fails at.
      fail_early: whether this process fails before it has started its devices.
    """
    import jax

    from vrstc_jax.runtime import distributed

    jax.config.update("jax_num_cpu_devices", devices)
    distributed._PATIENCE = 1
    if not rank:
        distributed.rank_by_launcher = lambda environment: None
    distributed.initialize(heartbeat=10)
    if fail_early:
        raise RuntimeError("before the devices")

    def act():
        end = time.monotonic() + 60
        while after and not Path(directory, after).exists():
            assert time.monotonic() < end, "process 1 has no devices"
            time.sleep(0.05)
        if fail:
            raise RuntimeError(fail)
        return {"by": distributed.process_index(), "long": "x" * 5000}

    if after and distributed.process_index() == 1:
        jax.local_devices()
        Path(directory, after).touch()
    elif late is not None:
        jax.local_devices()
        time.sleep(late)
    print(len(distributed.run_on_first(act)["long"]), distributed.process_count(), jax.local_device_count(), flush=True)


def _failing(*_, **__):
    raise RuntimeError("made to fail")


if __name__ == "__main__":
    fork_server.serve(_answer, (
        "vrstc_jax.training.pair_scorer", "vrstc_jax.recipes.five_steps", "tools.killed_job", "vrstc_jax.data.walkers",
        "vrstc_jax.data.batches", "orbax.checkpoint.multihost", "tensorboardX.summary",
        "tensorboardX.event_file_writer"))
