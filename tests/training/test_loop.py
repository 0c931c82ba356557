"""The training loop: going on where it stopped, what it writes when, and losses that are not finite."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vrstc_jax.runtime.errors import TrainingDiverged
from vrstc_jax.training import loop, metrics_log
from vrstc_jax.training.checkpoints import Checkpoints
from vrstc_jax.training.devices import shard

pytestmark = pytest.mark.usefixtures("quick_compilation")


def counting(loss=None, state=None):
    """A step that adds up what the batches say, so that a step done twice or left out shows.

    At the numbers given, the loss or the state is not finite.
    """
    bad_loss, bad_state = loss, state

    def step(state, batch):
        number = int(state["step"]) + 1
        total = (state["total"] * 1.01 + jnp.sum(batch["x"])) * (jnp.nan if number == bad_state else 1)
        return ({"step": number + 0 * jnp.asarray(state["step"]), "total": total},
                {"loss": jnp.float32(np.inf if number == bad_loss else number)})

    return step


def numbers(start):
    return ({"x": np.full(8, i, np.float32)} for i in range(start + 1, 10 ** 6))


START = {"step": np.int32(0), "total": np.float32(0)}


def saved(directory):
    with Checkpoints(directory / "checkpoints") as checkpoints:
        return checkpoints.restore(START)


class TestLoop:
    def train(self, directory, steps=20, step=None, **options):
        run = loop.TrainingRun("test", steps=steps, directory=directory,
                               intervals=loop.Intervals(log=4, checkpoint=6, pictures=9), **options)
        return loop.train(run, START, step or counting(), numbers)

    def test_a_stopped_training_ends_like_an_uninterrupted_one(self, tmp_path):
        whole = self.train(tmp_path / "whole")
        for stop in (3, 6, 7, 11, 13, 20):
            class Stopped(BaseException):
                pass

            def step(state, batch):
                if int(state["step"]) + 1 == stop:
                    raise Stopped
                return counting()(state, batch)

            with pytest.raises(Stopped):
                self.train(tmp_path / "stopped", step=step)
        resumed = self.train(tmp_path / "stopped")
        assert float(resumed["total"]) == float(whole["total"]) and int(resumed["step"]) == 20
        lines, expected = (metrics_log.read_metrics(tmp_path / name) for name in ("stopped", "whole"))
        assert [line["step"] for line in lines] == [4, 6, 8, 12, 16, 18, 20]
        assert [line["loss"] for line in lines] == [line["loss"] for line in expected]
        assert [line["loss"] for line in lines[:2]] == [2.5, 5.5]  # of steps 1 to 4, then of 5 and 6 alone

    def test_a_finished_training_is_not_repeated(self, tmp_path):
        done = self.train(tmp_path)
        assert float(self.train(tmp_path)["total"]) == float(done["total"])
        longer = self.train(tmp_path, steps=24)
        assert float(longer["total"]) == float(self.train(tmp_path / "other", steps=24)["total"])

    def test_a_line_that_was_cut_off_is_dropped(self, tmp_path):
        self.train(tmp_path, steps=6)
        with (tmp_path / "metrics.jsonl").open("a") as lines:
            lines.write('{"step": 8, "loss": 1}\n{"step": 12, "lo')
        self.train(tmp_path, steps=8)
        assert [line["step"] for line in metrics_log.read_metrics(tmp_path)] == [4, 6, 8]
        assert all(json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines())

    @pytest.mark.parametrize("what, bad, kept", [
        *(("loss", *steps) for steps in ((2, 0), (8, 6), (12, 6), (13, 12), (20, 18))),
        *(("state", *steps) for steps in ((5, 0), (6, 0), (12, 6), (20, 18)))])
    def test_what_is_not_finite_stops_it_and_is_not_kept(self, tmp_path, what, bad, kept):
        """The losses of a step are those before its update: they may be finite when its result is not."""
        with pytest.raises(TrainingDiverged, match=f"step {kept} is kept" if kept else "no checkpoint yet") as raised:
            self.train(tmp_path, step=counting(**{what: bad}))
        message = str(raised.value)
        assert ("test: loss is inf" in message) == (what == "loss") and "\n" not in message
        state, step = saved(tmp_path)
        assert step == kept == int(state["step"]) and np.isfinite(state["total"])
        lines = metrics_log.read_metrics(tmp_path)
        assert all(np.isfinite(line["loss"]) and (line["step"] < bad or what == "state") for line in lines)

    def test_pictures_are_made_at_the_end(self, tmp_path):
        seen = []

        def pictures(state, batch):
            seen.append((int(state["step"]), float(batch["x"][0])))
            return np.zeros((8, 8, 3), np.uint8)

        self.train(tmp_path, pictures=pictures)
        assert seen == [(9, 9), (18, 18), (20, 20)]

    def test_a_batch_must_divide_by_the_devices(self):
        with pytest.raises(ValueError, match="batch of 12 does not divide by the 8 devices"):
            shard({"x": np.zeros((12, 3))}, jax.devices())
        assert shard({"x": np.arange(16)}, jax.devices())["x"].tolist() == [[2 * i, 2 * i + 1] for i in range(8)]
