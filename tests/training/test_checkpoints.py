"""Checkpoints: what is in them, damaged ones, full disks, preemption, and those of earlier versions."""

import dataclasses
import hashlib
import json
import logging
import os
import shutil
import signal
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from damage import DAMAGES
from refusals import refused
from small_disk import small_disk  # noqa: F401

from vrstc_jax import config as configs
from vrstc_jax.runtime.errors import InputError, Preempted
from vrstc_jax.runtime.lifecycle import run_as_command, start_jax
from vrstc_jax.training import loop
from vrstc_jax.training.checkpoints import Checkpoints
from vrstc_jax.training.metrics_log import read_metrics

TASK = configs.get("smoke").first_reid
START = {"step": np.int32(0), "total": np.arange(50, dtype=np.float32)}


def counting(state, batch):
    """A step in which one done twice, or left out, shows."""
    total = state["total"] * 1.01 + jnp.sum(batch["x"])
    # Thirds, which float32 rounds: a mean of them shows how it was made.
    return {"step": jnp.asarray(state["step"]) + 1, "total": total}, {"loss": jnp.float32(batch["x"][0, 0]) / 3}


def numbers(start):
    return ({"x": np.full(8, i, np.float32)} for i in range(start + 1, 10 ** 6))


def train(directory, *, steps=20, step=counting, state=START, intervals=loop.Intervals(log=4, checkpoint=6), **options):
    return loop.train(loop.TrainingRun("test", steps, directory, intervals=intervals, **options), state, step, numbers)


def lines(directory):
    return [{k: v for k, v in line.items() if k != "steps_per_second"} for line in read_metrics(directory)]


def said_once(capsys):
    message, = [line for line in capsys.readouterr().err.splitlines() if line.startswith("vrstc:")]
    return message


def assert_alike(directory, last, undisturbed):
    """A training that was disturbed ended, and is logged, as another that was not."""
    np.testing.assert_array_equal(last["total"], undisturbed[1]["total"])
    assert lines(directory) == lines(undisturbed[0])


def assert_whole(path):
    digests = {str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
               for file in path.rglob("*") if file.is_file() and file.name != "digests.json"}
    assert json.loads((path / "digests.json").read_text()) == digests and len(digests) > 5


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Where a training went undisturbed, and its last state."""
    directory = tmp_path_factory.mktemp("whole")
    return directory, train(directory, task=TASK)


@pytest.fixture
def copied(whole, tmp_path):
    """A copy of it as it was after step 18, and that checkpoint's path; the one before is of step 12."""
    train(tmp_path, steps=18, task=TASK)
    return tmp_path, tmp_path / "checkpoints/18"


def test_what_is_in_them(whole):
    directory, last = whole
    assert sorted(path.name for path in (directory / "checkpoints").iterdir()) == ["18", "20"]
    for step in (18, 20):
        path = directory / f"checkpoints/{step}"
        assert_whole(path)
        about = json.loads((path / "about/metadata").read_text())
        assert about["step"] == about["data_position"] == step and about["pending"] == []
        assert about["versions"]["jax"] == jax.__version__
        assert about["config"] == json.loads(json.dumps(dataclasses.asdict(TASK)))
    with Checkpoints(directory / "checkpoints", task=TASK) as checkpoints:
        state, step = checkpoints.restore(START)
        older, before = checkpoints.restore(START, step=18)
    np.testing.assert_array_equal(state["total"], last["total"])
    assert (step, before, int(older["step"])) == (20, 18, 18)


def flip(path):
    file = max((path / "state").rglob("*"), key=lambda file: file.stat().st_size if file.is_file() else 0)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def empty(path):
    for file in (path / "state").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")


def rewritten(name, change):
    """Damage to one file of a checkpoint."""
    return lambda path: (path / name).write_bytes(change((path / name).read_bytes()))


def lost(name):
    return lambda path: (path / name).unlink()


@pytest.mark.parametrize("damage, said", [
    (flip, "is damaged (state/"), (empty, "is damaged (state/"),
    (rewritten("about/metadata", lambda data: data[:-1]), "is damaged (about/metadata)"),
    (rewritten("digests.json", lambda data: b'{"\xff'), "is damaged (digests.json)"),
    (lost("state/manifest.ocdbt"), "is damaged (state/manifest.ocdbt)"), (lost("digests.json"), "is half-written")])
def test_a_damaged_one_is_not_used(whole, copied, damage, said, capsys):
    directory, newest = copied
    damage(newest)
    # What a process leaves that is killed while it writes.
    shutil.copytree(newest, newest.with_name("24.orbax-checkpoint-tmp"))
    last = train(directory, task=TASK)
    message = said_once(capsys)
    assert message.startswith(f"vrstc: {directory}/checkpoints: the checkpoint of step 18 {said}")
    assert message.endswith("Going on from step 12.")
    assert_alike(directory, last, whole)
    assert sorted(path.name for path in newest.parent.iterdir()) == ["18", "20"]


@pytest.mark.parametrize("damage", [DAMAGES[name] for name in (
    "empty", "wrong types", "a folder with a file", "a pipe", "a link to itself", "a link to nothing",
    "a link to its folder")])
@pytest.mark.parametrize("what", ["18/digests.json", "18", *(
    pytest.param(each, marks=pytest.mark.slow) for each in ("18/state", "checkpoints"))])
def test_anything_in_place_of_one(whole, copied, damage, what):
    """The one before is used, or one line says what to remove."""
    directory, newest = copied
    path = newest.parent if what == "checkpoints" else newest.parent / what
    if path.is_dir():
        shutil.rmtree(path)
        path.write_text("x")
    damage(path)
    try:
        last = train(directory, task=TASK)
    except InputError as error:
        assert str(newest.parent) in str(error) and "\n" not in str(error)
    else:
        np.testing.assert_array_equal(last["total"], whole[1]["total"])
        assert [line["step"] for line in lines(directory)][-1] == 20


def test_with_none_that_is_whole_it_starts_anew(whole, copied, capsys):
    directory, newest = copied
    flip(newest)
    lost("digests.json")(newest.with_name("12"))
    last = train(directory, task=TASK)
    message = said_once(capsys)
    assert "step 18 is damaged" in message and "step 12 is half-written" in message
    assert message.endswith("Training starts anew.")
    assert_alike(directory, last, whole)


def test_an_older_one_that_was_asked_for_and_is_damaged(copied):
    directory, newest = copied
    flip(newest.with_name("12"))
    with Checkpoints(directory / "checkpoints") as checkpoints, refused("checkpoints/12: this checkpoint is damaged"):
        checkpoints.restore(START, step=12)


def test_those_of_earlier_versions(whole, tmp_path):
    """As `Checkpoints` wrote them before there were digests: one item, and nothing beside it."""
    state = jax.tree.map(np.asarray, train(tmp_path / "other", steps=12))
    with ocp.CheckpointManager(tmp_path / "run/checkpoints", options=ocp.CheckpointManagerOptions(
            max_to_keep=2, create=True)) as manager:
        for step in (6, 12):
            manager.save(step, args=ocp.args.StandardSave(state | {"step": np.int32(step)}))
    shutil.copy(tmp_path / "other/metrics.jsonl", tmp_path / "run/metrics.jsonl")
    assert sorted(path.name for path in (tmp_path / "run/checkpoints/12").iterdir() if path.is_dir()) == ["default"]
    train(tmp_path / "run", steps=18, task=TASK)
    # Beside one of our own, too, and where that is damaged.
    flip(tmp_path / "run/checkpoints/18")
    assert_alike(tmp_path / "run", train(tmp_path / "run", task=TASK), whole)


def test_the_best_is_kept_beside_the_newest(tmp_path):
    def step(state, batch):
        number = int(state["step"]) + 1
        return counting(state, batch)[0], {"loss": jnp.float32(abs(number - 4)), "other": jnp.float32(-number)}

    often = loop.Intervals(log=1, checkpoint=2)

    train(tmp_path, steps=9, step=step, intervals=often, best="loss")
    train(tmp_path, steps=12, step=step, intervals=often, best="loss")
    assert sorted(int(path.name) for path in (tmp_path / "checkpoints").iterdir()) == [4, 10, 12]
    with Checkpoints(tmp_path / "checkpoints", best="loss") as checkpoints:
        assert (checkpoints.best(), checkpoints.latest()) == (4, 12)
        assert int(checkpoints.restore(START, step=4)[0]["step"]) == 4


def test_another_config_is_refused(whole, copied):
    directory, _ = copied
    with refused("checkpoints/18: this checkpoint is of another config"):
        train(directory, task=dataclasses.replace(TASK, seed=9))
    np.testing.assert_array_equal(train(directory, task=TASK)["total"], whole[1]["total"])


@pytest.mark.parametrize("when", [1, 5, 6, 11, 20])
def test_sigterm_ends_like_an_uninterrupted_one(whole, tmp_path, when):
    """Between two lines of the log, too, whose means are of steps before and after."""
    def step(state, batch):
        if int(state["step"]) + 1 == when:
            os.kill(os.getpid(), signal.SIGTERM)
        return counting(state, batch)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Preempted, match=f"^test: preempted at step {when}; the same command goes on from here$"):
        train(tmp_path, step=step, task=TASK)
    assert signal.getsignal(signal.SIGTERM) is before
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.latest() == when
    assert_alike(tmp_path, train(tmp_path, task=TASK), whole)


def test_sigterm_where_nothing_is_trained():
    """A command ends with the code by which launchers know to start it again."""
    def work():
        start_jax()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        run_as_command(work)
    assert ended.value.code == 75 and signal.getsignal(signal.SIGTERM) is before


def test_one_compiled_step(tmp_path, caplog):
    """For all of a run, and for a part of it that goes on from a checkpoint."""
    update = jax.pmap(lambda state, batch: ({"step": state["step"] + 1, "total": state["total"] * 1.01}, {
        "loss": jax.lax.pmean(batch["x"].sum(), "batch")}), "batch", in_axes=(None, 0), out_axes=(None, None),
        donate_argnums=0)
    with jax.log_compiles():
        train(tmp_path, steps=8, step=update)
        train(tmp_path, steps=12, step=update)
    compiled = [record.getMessage() for record in caplog.records if "XLA compilation" in record.getMessage()]
    assert len(compiled) == 1, compiled


def test_of_the_host_s_log_only_what_orbax_says_is_dropped(tmp_path, caplog):
    logger = logging.getLogger("absl")
    level = logger.level

    def log():
        for file in (ocp.__file__, __file__):
            logger.handle(logging.LogRecord("absl", logging.ERROR, file, 1, f"by {file}", None, None))
        lines = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return lines

    both = [f"by {ocp.__file__}", f"by {__file__}"]
    assert log() == both
    with Checkpoints(tmp_path / "one"), Checkpoints(tmp_path / "other"):
        assert log() == both[1:] and logger.level == level
    assert log() == both and logger.level == level


@pytest.mark.parametrize("filled_at", [7, 12, 17])
def test_a_full_disk(small_disk, tmp_path, filled_at, caplog):
    """Full before a checkpoint, in the middle of one, and before the last one."""
    place, enlarge = small_disk
    # 160 kB that do not compress.
    state = START | {"total": np.random.default_rng(0).standard_normal(40_000).astype(np.float32)}
    kept = (filled_at - 1) // 6 * 6

    def step(state, batch):
        if int(state["step"]) + 1 == filled_at:  # some 100 kB are left
            while not (place / f"run/checkpoints/{kept}/digests.json").exists():
                time.sleep(0.01)
            (place / "other").write_bytes(bytes(max(0, shutil.disk_usage(place).free - 100_000)))
        return counting(state, batch)

    with refused(place / "run", "the disk is full"):
        train(place / "run", state=state, step=step)
    assert not [record for record in caplog.records if "/orbax/" in record.pathname]  # beside our one line
    assert not list(place.glob("run/checkpoints/*tmp*"))
    left = {int(path.parent.name) for path in place.glob("run/checkpoints/*/digests.json")}
    assert max(left) == kept
    assert_whole(place / f"run/checkpoints/{kept}")
    enlarge()
    undisturbed = tmp_path / "undisturbed"
    assert_alike(place / "run", train(place / "run", state=state), (undisturbed, train(undisturbed, state=state)))


def test_events_are_there(whole):
    """Every metric, the session's start among them, as TensorBoard's format has them."""
    from tensorboardX.proto.event_pb2 import Event

    file, = Path(whole[0]).glob("events.out.tfevents.*")
    data, events = file.read_bytes(), []
    while data:
        length = int.from_bytes(data[:8], "little")
        events.append(Event.FromString(data[12:12 + length]))
        data = data[12 + length + 4:]
    values = {(event.step, value.tag): value.simple_value for event in events for value in event.summary.value}
    for line in read_metrics(whole[0]):
        assert values[line["step"], "loss"] == pytest.approx(line["loss"])
    assert [event.step for event in events if event.HasField("session_log")] == [1]
