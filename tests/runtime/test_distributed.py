"""Several processes: how they find each other, that they train as one does, and what happens when one of them ends."""

import dataclasses
import itertools
import os
import shutil
import signal
from types import SimpleNamespace
from typing import NamedTuple
from unittest import mock

import jax
import numpy as np
import pytest
from refusals import refused
from training_processes import assert_heard

from vrstc_jax import config as configs
from vrstc_jax.data.batches import TrainingFrames, reid_batches, stcnet_batches
from vrstc_jax.runtime import cluster, distributed
from vrstc_jax.runtime.cluster import may_be_in_cluster, rank_by_launcher
from vrstc_jax.runtime.compilation_cache import enable_compilation_cache
from vrstc_jax.training.metrics_log import read_metrics

SMOKE = configs.get("smoke")


SLURM = {"SLURM_JOB_ID": "1", "SLURM_STEP_NODELIST": "n[1-2]", "SLURM_NTASKS": "2", "SLURM_PROCID": "1",
         "SLURM_LOCALID": "0"}


def given(*values):
    names = "VRSTC_COORDINATOR", "VRSTC_PROCESSES", "VRSTC_PROCESS"
    return {name: value for name, value in zip(names, values) if value is not None}


def initialize(**variables):
    with mock.patch.dict(os.environ, variables):
        distributed.initialize()


class TestFinding:
    @pytest.fixture
    def connect(self, monkeypatch):
        """In place of JAX's function; nothing of this machine's is in the environment."""
        for name in list(os.environ):
            if name.startswith(("VRSTC_", "SLURM_", "OMPI_", "TPU_", "MEGASCALE_", "KUBERNETES_", "JOB_")):
                monkeypatch.delenv(name)
        monkeypatch.setattr(distributed, "_rank", None)  # and afterwards again
        with mock.patch.object(jax.distributed, "initialize") as connect:
            yield connect

    def test_nothing_is_asked_for_on_a_plain_machine(self, connect):
        initialize()
        assert not connect.called and distributed.is_first()
        assert (distributed.process_index(), distributed.process_count()) == (0, 1)
        distributed.barrier("nobody else")

    @pytest.mark.parametrize("alone", [
        {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "8"},  # in an allocation, not under srun
        {"SLURM_JOB_ID": "1", "SLURM_STEP_NODELIST": "n1", "SLURM_NTASKS": "1", "SLURM_PROCID": "0"},
        {"KUBERNETES_SERVICE_HOST": "10.0.0.1"},
        {"TPU_WORKER_HOSTNAMES": "localhost"},
        given("host:1", "1", "0")])
    def test_nor_where_it_is_one_of_one(self, connect, alone):
        initialize(**alone)
        assert not connect.called

    def test_a_cluster_is_left_to_jax(self, connect):
        initialize(**SLURM)
        options = connect.call_args.kwargs
        assert set(options) == {"heartbeat_timeout_seconds", "shutdown_timeout_seconds"}
        assert options["heartbeat_timeout_seconds"] <= 60

    @pytest.mark.parametrize("environment, rank", [
        (SLURM, (1, 2)), ({**SLURM, "SLURM_NTASKS": "1"}, None), ({}, None),
        ({"OMPI_MCA_orte_hnp_uri": "1.0;tcp://10.0.0.1:1", "OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "8",
          **SLURM}, (3, 8))])
    def test_a_launcher_says_who_this_is(self, connect, environment, rank):
        assert rank_by_launcher(environment) == rank
        initialize(**environment)
        assert connect.called == (rank is not None)
        assert (distributed.process_index(), distributed.process_count()) == (rank or (0, 1))

    @pytest.mark.parametrize("variables, several", [
        ({}, True),  # a TPU VM: the others are known to its metadata server
        ({"TPU_SKIP_MDS_QUERY": "1"}, False),
        ({"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost"}, False),
        ({"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "job-0-0.job,job-0-1.job"}, True),  # GKE
        ({"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost", "MEGASCALE_NUM_SLICES": "2"}, True)])
    def test_tpus(self, monkeypatch, variables, several):
        assert not may_be_in_cluster(variables)
        # As JAX has it on a machine with TPUs: it prefers them, and their library is installed.
        monkeypatch.setattr(cluster, "jax", SimpleNamespace(config=SimpleNamespace(
            values={"jax_platforms": "tpu,cpu"})))
        assert not may_be_in_cluster(variables)
        monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda name: name == "libtpu" or None)
        assert may_be_in_cluster(variables) == several

    def test_variables_win_over_the_cluster(self, connect):
        initialize(**SLURM, **given("host-0.job:8476", "3", "2"))
        # Without 'deactivate' Slurm chooses the GPU.
        expected = {"coordinator_address": "host-0.job:8476", "num_processes": 3, "process_id": 2,
                    "cluster_detection_method": "deactivate"}
        connect.assert_called_once()
        assert connect.call_args.kwargs.items() >= expected.items()

    @pytest.mark.parametrize("values, said", [
        (("host:1", None, "0"), "VRSTC_PROCESSES is not set, but VRSTC_COORDINATOR and VRSTC_PROCESS is"),
        ((None, "2", None), "VRSTC_COORDINATOR is not set"),
        (("host", "2", "0"), "VRSTC_COORDINATOR=host: must be host:port"),
        ((":80", "2", "0"), "VRSTC_COORDINATOR=:80: must be"),
        (("host:99999", "2", "0"), "VRSTC_COORDINATOR=host:99999: must be"),
        (("host:1", "two", "0"), "VRSTC_PROCESSES=two: must be"),
        (("host:1", "0", "0"), "VRSTC_PROCESSES=0: must be"),
        (("host:1", "2", "2"), "VRSTC_PROCESS=2: must be this process' number, 0 to 1"),
        (("host:1", "2", "-1"), "VRSTC_PROCESS=-1: must be")])
    def test_wrong_variables(self, connect, values, said):
        with refused(said):
            initialize(**given(*values))
        assert not connect.called

    def test_not_finding_each_other_is_one_line(self, connect):
        connect.side_effect = RuntimeError("DEADLINE_EXCEEDED: no answer\nand much more")
        with refused("host:1, process 1 of 2: ", "no answer"):
            initialize(**given("host:1", "2", "1"))


class TestRows:
    """Each process' rows, one under the other, are the batch that one process has."""

    orders = {
        "stcnet": (stcnet_batches, None),
        "reid": (reid_batches, SMOKE.reid_training),
        "each once": (reid_batches, dataclasses.replace(SMOKE.reid_training, each_once=True)),
        "people": (reid_batches, dataclasses.replace(SMOKE.reid_training, clips_per_identity=4))}

    @pytest.fixture(scope="class")
    def data(self):
        random = np.random.default_rng(0)
        frames = [random.integers(0, 256, (40, 20, 3)).astype(np.uint8) for _ in range(60)]

        class InMemory:
            frame = staticmethod(frames.__getitem__)
            thumbnail = staticmethod([frame[:16, :8] for frame in frames].__getitem__)

        return InMemory, [TrainingFrames(20 * k, np.arange(0, 20, 1 + k % 2), k % 2) for k in range(3)]

    def drawn(self, data, name, start):
        batches, training = self.orders[name]
        task = dataclasses.replace(SMOKE.first_reid, training=training) if training else SMOKE.stcnet_task
        found = batches(*data, task, start=start)
        return [next(found) for _ in range(2)]

    @pytest.mark.parametrize("name", orders)
    @pytest.mark.parametrize("count", [2, 4])
    def test_together_they_are_the_batch(self, data, monkeypatch, name, count):
        expected = self.drawn(data, name, 3)
        monkeypatch.setattr(distributed, "process_count", lambda: count)
        parts = []
        for index in range(count):
            monkeypatch.setattr(distributed, "process_index", lambda: index)
            parts.append(self.drawn(data, name, 3))
        for number, batch in enumerate(expected):
            for key, rows in batch.items():
                assert len(rows) == 8 and len(parts[0][number][key]) == 8 // count
                np.testing.assert_array_equal(np.concatenate([part[number][key] for part in parts]), rows)

    def test_a_batch_that_does_not_divide(self, data, monkeypatch):
        monkeypatch.setattr(distributed, "process_count", lambda: 3)
        with refused("batch of 8 does not divide by 3 processes"):
            stcnet_batches(*data, SMOKE.stcnet_task)


ALONE = 1, 1  # processes, and devices of each


@pytest.mark.slow  # compiling, in every process, is most of it
def test_the_same_gradients_and_losses(server, tmp_path):
    """STCnet and re-ID, the same global batches, whatever the processes and devices.

    Adam's first moments add up the gradients of all steps, so they are compared after each.
    """
    found, steps, forms = {}, 20, (ALONE, (1, 4), (2, 2), (4, 1))

    def train(place, form, parallel, steps):
        server.run("networks", tmp_path / place, processes=form[0], devices=form[1], steps=steps, checkpoint_every=100,
                   parallel=parallel, seconds=1200)
        with np.load(tmp_path / place / "moments.npz") as moments:
            return dict(moments)

    for parallel, form in itertools.product(("pmap", "mesh"), forms):
        found[parallel, form] = train(f"{parallel} {form}", form, parallel, steps)
    # Each goes on from the other's checkpoint, on other processes and devices.
    for first, then in (("pmap", "mesh"), ("mesh", "pmap")):
        begun, rest = (train(first + then, forms[1], first, 8), train(first + then, forms[2], then, steps))
        found[first + then] = {key: np.concatenate([begun[key], rest[key]]) for key in begun}
    expected = found.pop(("pmap", ALONE))
    assert {"reid adam", "stcnet generators_adam", "stcnet discriminators_adam", "reid metric cross_entropy",
            "stcnet metric reconstruction"} <= set(expected)
    for form, other in found.items():
        assert other.keys() == expected.keys()
        for key, values in expected.items():
            assert len(values) == steps
            for step, (ours, theirs) in enumerate(zip(values, other[key], strict=True), 1):
                # Float32 adds up in another order: 2e-6 after 20 steps.
                far = np.abs(ours - theirs).max() / max(np.abs(ours).max(), 1e-6)
                assert far < 1e-5, (form, key, step, far)


OFTEN = {"steps": 20, "checkpoint_every": 3, "log_every": 2, "heartbeat": 10}


@pytest.fixture(scope="module")
def undisturbed(server, tmp_path_factory):
    """Where two processes trained undisturbed, and what it gave: the result, and the lines of metrics."""
    place = tmp_path_factory.mktemp("undisturbed")
    server.run("toy", place, processes=2, **OFTEN)
    return place, *left_by(place)


def left_by(place):
    lines = [{k: v for k, v in line.items() if k != "steps_per_second"} for line in read_metrics(place)]
    return np.load(place / "total.npy"), lines


def goes_on_to_the_same(server, place, undisturbed):
    said = server.run("toy", place, processes=2, **OFTEN)
    total, lines = left_by(place)
    np.testing.assert_array_equal(total, undisturbed[1])
    assert lines == undisturbed[2]
    return said


def test_one_computes_and_the_other_waits(server, tmp_path):
    assert "in all 10" in server.run("one_computes", tmp_path, processes=2, seconds=60)[1]


class TestWhatProcess0DoesForAll:
    def test_it_may_take_long(self, server, tmp_path):
        """Longer than devices wait for each other, so it comes after their start."""
        for said in server.run("first_acts", tmp_path, processes=2, seconds=100, after="started"):
            assert "5000 2 1" in said

    def test_processes_may_have_unlike_devices(self, server, tmp_path):
        said = server.run("first_acts", tmp_path, processes=2, only={1: {"devices": 3}})
        assert "5000 2 1" in said[0] and "5000 2 3" in said[1]

    @pytest.mark.parametrize("rank", [True, False])
    def test_in_a_cluster_that_jax_finds(self, server, tmp_path, rank):
        for said in server.run("first_acts", tmp_path, processes=2, slurm=True, rank=rank):
            assert "5000 2 1" in said

    def test_its_failure_is_not_blamed_on_one_that_comes_late(self, server, tmp_path):
        said = server.run("first_acts", tmp_path, processes=2, code=1, fail="made to fail",
                          only={0: {"late": 0}, 1: {"late": 3}})
        assert "RuntimeError: made to fail" in said[0] and "takes the others down" in said[0]
        assert "another process of this run is gone" in said[1] and "Traceback" not in said[1]

    @pytest.mark.parametrize("rank, who", [
        (True, "vrstc: process 1 of 2: failed"), (False, "vrstc: failed")])
    @pytest.mark.slow
    def test_the_report_of_an_early_failure_starts_no_devices(self, server, tmp_path, rank, who):
        codes, said = server.end("first_acts", tmp_path, processes=2, seconds=60, slurm=True, rank=rank,
                                 only={1: {"fail_early": True}})
        assert codes[1] == 1 and f"{who} (RuntimeError), and takes the others down" in said[1]
        assert_heard(codes[0], said[0])


class TestSeveral:
    def test_only_the_first_speaks_and_writes_metrics(self, undisturbed):
        place, _, lines = undisturbed
        assert [line["step"] for line in lines] == sorted({*range(2, 21, 2), *range(3, 21, 3)})
        assert "toy: 100%" in (place / "log0").read_text() and "toy:" not in (place / "log1").read_text()
        assert len(list(place.glob("events.out.tfevents.*"))) == 1
        # and a checkpoint is of both
        assert {path.name for path in (place / "checkpoints/20/state").glob("ocdbt.process_*")} == {
            "ocdbt.process_0", "ocdbt.process_1"}

    def test_as_one_process_does(self, server, undisturbed, tmp_path):
        server.run("toy", tmp_path, **OFTEN)
        np.testing.assert_allclose(left_by(tmp_path)[0], undisturbed[1], rtol=1e-6)  # sums in another order

    @pytest.mark.parametrize("killed, moment", [
        (1, ("vrstc_jax.training.loop:shard", 8)),  # two steps after a checkpoint, which may not be done
        (0, ("orbax.checkpoint._src.path.atomicity:on_commit_callback", 2))])  # when the second one is written
    def test_killed(self, server, undisturbed, tmp_path, killed, moment):
        server.run_killed("toy", tmp_path, killed, moment, pause=0.02, **OFTEN)
        assert not (tmp_path / "total.npy").exists()
        goes_on_to_the_same(server, tmp_path, undisturbed)

    def test_one_that_fails_takes_the_other_down(self, server, undisturbed, tmp_path):
        codes, said = server.end("toy", tmp_path, processes=2, **OFTEN, only={1: {"fail": 8}})
        assert codes[1] == 1, (codes, said)
        assert "vrstc: process 1 of 2: failed (RuntimeError), and takes the others down" in said[1]
        assert_heard(codes[0], said[0])
        goes_on_to_the_same(server, tmp_path, undisturbed)

    @pytest.mark.parametrize("signalled", [[1], pytest.param([0, 1], marks=pytest.mark.slow)])
    def test_sigterm(self, server, undisturbed, tmp_path, signalled):
        running = server.start("toy", tmp_path, processes=2, pause=0.5, **OFTEN)
        running.wait_for("checkpoints/3/digests.json")
        for index in signalled:
            running.signal(index, signal.SIGTERM)
        assert running.wait() == [75, 75], running.logs()
        newest = max(int(path.name) for path in (tmp_path / "checkpoints").iterdir())
        assert newest < 20
        for index, text in enumerate(running.logs()):
            assert (f"vrstc: process {index} of 2: toy: preempted at step {newest}; the same command goes on from here"
                    in text)
        assert "half-written" not in goes_on_to_the_same(server, tmp_path, undisturbed)[0]

    def test_a_damaged_checkpoint(self, server, undisturbed, tmp_path):
        place = shutil.copytree(undisturbed[0], tmp_path / "copy")
        (place / "total.npy").unlink()
        file = max((place / "checkpoints/20/state").rglob("d/*"), key=lambda file: file.stat().st_size)
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 16
        file.write_bytes(data)
        said = goes_on_to_the_same(server, place, undisturbed)
        assert "the checkpoint of step 20 is damaged" in said[0] and "Going on from step 18." in said[0]
        assert "damaged" not in said[1]

    def test_more_devices_than_divide_the_batch(self, server, undisturbed, tmp_path):
        """Of three devices each process' four rows are on two."""
        said = server.run("toy", tmp_path, processes=2, devices=3, **OFTEN)
        assert "toy: on 4 of 6 devices, since the batch divides by no more" in said[0] and "6 devices" not in said[1]
        np.testing.assert_allclose(left_by(tmp_path)[0], undisturbed[1], rtol=1e-6)  # sums in another order

    def test_a_batch_that_does_not_divide(self, server, tmp_path):
        for text in server.run("toy", tmp_path, processes=3, code=2, **OFTEN):
            assert "The batch of 8 does not divide by 3 processes" in text and "Traceback" not in text

    def test_devices_of_a_batch(self, monkeypatch):
        """By hand: 8 devices of 2 processes."""
        class Device(NamedTuple):
            id: int
            process_index: int

        all_ = [Device(k, k // 2 % 2) for k in range(8)]  # as a pod may number them: 0 0 1 1 0 0 1 1
        monkeypatch.setattr(distributed, "jax", SimpleNamespace(devices=lambda: all_, local_device_count=lambda: 4))
        monkeypatch.setattr(distributed, "process_count", lambda: 2)
        for batch, expected in ((2, [0, 2]), (4, [0, 1, 2, 3]), (6, [0, 1, 4, 2, 3, 6]), (8, [0, 1, 4, 5, 2, 3, 6, 7]),
                                (10, [0, 2]), (64, [0, 1, 4, 5, 2, 3, 6, 7])):
            assert [device.id for device in distributed.batch_devices(batch)] == expected
        with refused("batch of 7 does not divide by 2 processes"):
            distributed.batch_devices(7)


@pytest.mark.slow
def test_other_numbers_of_devices(server, tmp_path):
    """From 4 devices to 1 and back, and to 2 processes of 2: the states agree with those of 4 all the way."""
    whole, changed = tmp_path / "whole", tmp_path / "changed"
    for steps, processes, devices in ((5, 1, 4), (10, 1, 1), (15, 1, 4), (20, 2, 2), (25, 1, 1)):
        for place, form in ((whole, (1, 4)), (changed, (processes, devices))):
            server.run("toy", place, processes=form[0], devices=form[1], **OFTEN | {"steps": steps})
        # Means in another order; a step lost or done twice changes the total by a hundredth.
        np.testing.assert_allclose(np.load(changed / "total.npy"), np.load(whole / "total.npy"), rtol=1e-5, atol=1e-6)


class TestCompiled:
    @pytest.fixture
    def enable(self, monkeypatch):
        """Switches it on as for users, given the folder of their caches: the directory; afterwards as before."""
        def enable(caches):
            monkeypatch.setenv("XDG_CACHE_HOME", str(caches))
            enable_compilation_cache()
            return jax.config.values["jax_compilation_cache_dir"]

        before = jax.config.values["jax_compilation_cache_dir"]
        jax.config.update("jax_compilation_cache_dir", None)
        yield enable
        jax.config.update("jax_compilation_cache_dir", before)

    def test_in_the_users_cache(self, enable, tmp_path):
        kept = enable(tmp_path)
        assert kept.startswith(str(tmp_path / "vrstc_jax/compiled/")) and os.path.isdir(kept)
        # What is set, by JAX_COMPILATION_CACHE_DIR for example, stays.
        assert enable(tmp_path / "other") == kept and not (tmp_path / "other").exists()

    def test_where_nothing_can_be_written(self, enable, tmp_path):
        (tmp_path / "file").write_text("")
        assert enable(tmp_path / "file") is None

    def test_switched_off(self, enable, tmp_path):
        jax.config.update("jax_enable_compilation_cache", False)
        try:
            assert enable(tmp_path) is None and not any(tmp_path.iterdir())
        finally:
            jax.config.update("jax_enable_compilation_cache", True)
