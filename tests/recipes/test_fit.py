"""Fitting: what training may see, what it leaves, and going on after it was stopped."""

import dataclasses
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from people import SMOKE, figures, masks_at, random_model

from vrstc_jax.cli import main
from vrstc_jax.data.held_out import HeldOut, hold_out_runs
from vrstc_jax.data.images import write_png
from vrstc_jax.data.tracklet_set import TrackletSet
from vrstc_jax.data.tracklets import Tracklet
from vrstc_jax.inference.locate import Locator
from vrstc_jax.models.model_file import Model, load_model
from vrstc_jax.recipes import fit as fitting
from vrstc_jax.recipes.fit import fit
from vrstc_jax.runtime.errors import InputError, TrainingDiverged
from vrstc_jax.training import loop, metrics_log, reid, stcnet
from vrstc_jax.training.checkpoints import Checkpoints
from vrstc_jax.training.devices import shard

pytestmark = pytest.mark.usefixtures("quick_compilation")


class TestHoldOutRuns:
    @pytest.mark.parametrize("size", [1, 4, 9])
    def test_runs_are_apart_inside_and_about_a_tenth(self, size):
        lengths = [0, 1, 3 * size - 1, 3 * size, 10 * size, 35 * size, 400 * size]
        for length, runs in zip(lengths, hold_out_runs(lengths, size).runs, strict=True):
            assert bool(runs) == (length >= 3 * size > 0)
            for first, end in runs:
                assert end - first == size and first >= size and length - end >= size
            for (_, end), (first, _) in zip(runs, runs[1:]):
                assert first - end >= size
            if length >= 30 * size:
                assert 0.05 < sum(end - first for first, end in runs) / length < 0.15

    def test_none(self):
        assert hold_out_runs([100, 5], 0).runs == ((), ())

    def test_without(self):
        held_out = HeldOut((((2, 4), (7, 9)), ()))
        np.testing.assert_array_equal(held_out.without(0, np.array([0, 2, 3, 4, 6, 7, 8, 9])), [0, 4, 6, 9])
        np.testing.assert_array_equal(held_out.without(1, np.arange(3)), np.arange(3))


HELD = 4  # frames in a run


def footage():
    """Two tracklets with masks, one of them inside the run to be held out; two without; two of one person."""
    people = [("ann", (3, 4, 30)), ("bob", (5, 20)), ("ann", None), (None, None)]
    for k, (person, hidden) in enumerate(people):
        frames = figures(44, sizes=((40, 20), (37, 19)), seed=k)
        yield Tracklet(name=f"t{k}", frames=frames, frame_names=tuple(f"{i:03d}" for i in range(44)),
                       person=person,
                       masks=None if hidden is None else masks_at(frames, hidden))


SAME = {"config": SMOKE, "hold_out": HELD, "inputs": {"input": "x"}}


@dataclass
class Watched:
    """A fit in which training is left out: of each network some batches are drawn, and that is all."""

    model: Model
    work: Path
    reads: dict  # by network, the (tracklet, frame) that its batches were made from
    labels: dict  # by network


@pytest.fixture(scope="module")
def watched(tmp_path_factory, quick_compilation):
    work = tmp_path_factory.mktemp("fit") / "work"
    reads, labels, phase = {}, {}, []
    frame, random = TrackletSet.frame, random_model()

    def spied(self, record):
        reads.setdefault(phase[-1] if phase else "locating", set()).add(divmod(record, 44))
        return frame(self, record)

    def drawn(run, state, step, batches):
        phase.append(run.name)
        drawn = batches(0)
        labels[run.name] = {int(label) for _ in range(30) for label in next(drawn)["labels"]}
        phase.pop()
        drawn.close()
        parts = random.reid if run.name == "re-ID network" else random.generators
        return SimpleNamespace(result=parts, params={"discriminators": random.discriminators})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrackletSet, "frame", spied)
        patch.setattr(loop, "train", drawn)
        for module in (reid, stcnet):
            patch.setattr(module, "initial_state", lambda *_, **__: None)
            patch.setattr(module, "pmap_step", lambda *_: None)
        model = fit(list(footage()), work, **SAME, command="vrstc fit")
    return Watched(model, work, reads, labels)


@pytest.fixture(scope="module")
def clean(watched):
    """Which frames nothing hides, (tracklet, frame), by masks where there are any and else by the scores."""
    locator = Locator(SMOKE.reid, watched.model.reid, len(watched.model.identities))
    found = set()
    for k, tracklet in enumerate(footage()):
        if tracklet.masks is None:
            good = (locator.scores(tracklet.frames) >= watched.model.tau).all(1)
        else:
            good = [not mask.any() for mask in tracklet.masks]
        found |= {(k, i) for i in range(44) if good[i]}
    return found


class TestFit:
    def test_held_out_frames_are_never_read_by_training(self, watched, clean):
        candidates = [(k, run) for k, runs in enumerate(hold_out_runs([44] * 4, HELD).runs) for run in runs]
        expected = {}
        for k, run in candidates:
            if all((k, i) in clean for i in range(*run)):  # else it could not be judged on
                expected.setdefault(f"t{k}", []).append([f"{i:03d}" for i in range(*run)])
        assert watched.model.provenance["held_out"] == expected
        assert "t0" in expected and "t1" not in expected  # something hides t1 there
        held_out = {(int(name[1:]), int(frame)) for name, runs in expected.items() for run in runs
                    for frame in run}
        # The re-ID network comes before locating, when it is not known yet which candidates are clean.
        assert not watched.reads["re-ID network"] & {(k, i) for k, run in candidates for i in range(*run)}
        assert not watched.reads["STCnet"] & held_out

    def test_all_other_frames_are_learned_from(self, watched, clean):
        everything = {(k, i) for k in range(4) for i in range(44)}
        held_out = {(k, i) for k in range(4) for i in range(20, 24)}
        assert len(watched.reads["re-ID network"]) > 0.8 * len(everything - held_out)
        assert watched.reads["STCnet"] <= clean
        assert len(watched.reads["STCnet"]) > 0.9 * len(clean - held_out)
        assert watched.model.provenance["unoccluded_frames"] == len(clean) < len(everything)
        assert watched.reads["locating"] == everything

    def test_tau_is_the_quantile_of_the_scores(self, watched):
        locator = Locator(SMOKE.reid, watched.model.reid, len(watched.model.identities))
        scores = np.concatenate([locator.scores(tracklet.frames) for tracklet in footage()])
        assert abs((scores < watched.model.tau).mean() - SMOKE.tau_quantile) < 2 / scores.size

    def test_what_the_model_says_of_itself(self, watched):
        model = watched.model
        assert model.identities == ("ann", "bob", "t3")  # where none is given, the track is the identity
        assert watched.labels == {"re-ID network": {0, 1, 2}, "STCnet": {0, 1, 2}}
        provenance = model.provenance
        assert (provenance["command"], provenance["inputs"]) == ("vrstc fit", {"input": "x"})
        assert (provenance["tracklets"], provenance["frames"]) == (4, 176)

    @pytest.mark.parametrize("change", [{"hold_out": 0}, {"inputs": {"input": "y"}},
                                        {"config": dataclasses.replace(SMOKE, seed=1)}])
    def test_another_fit_does_not_go_on_from_it(self, watched, change):
        with pytest.raises(InputError, match=f"{watched.work}: holds the work of a fit with other"):
            fit(list(footage()), watched.work, **(SAME | change))

    def test_nothing_to_learn_from(self, tmp_path):
        with pytest.raises(InputError, match="no frame"):
            fit([], tmp_path / "work", config=SMOKE)


def counting(bad=None, bad_state=None):
    """A step that adds up what the batches say, so that a step done twice or left out shows."""
    def step(state, batch):
        number = int(state["step"]) + 1
        total = state["total"] * 1.01 + jnp.sum(batch["x"])
        if number == bad_state:
            total = total * jnp.nan
        return ({"step": number + 0 * jnp.asarray(state["step"]), "total": total},
                {"loss": jnp.float32(np.inf if number == bad else number)})

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
                               intervals=loop.Intervals(log=4, checkpoint=6), **options)
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
        assert lines[0]["loss"] == 2.5  # of steps 1 to 4; the next is of 5 and 6 alone
        assert lines[1]["loss"] == 5.5

    def test_a_finished_training_is_not_repeated(self, tmp_path):
        done = self.train(tmp_path)
        again = self.train(tmp_path, step=None)
        assert float(again["total"]) == float(done["total"])
        longer = self.train(tmp_path, steps=24)
        assert float(longer["total"]) == float(self.train(tmp_path / "other", steps=24)["total"])

    def test_a_line_that_was_cut_off_is_dropped(self, tmp_path):
        self.train(tmp_path, steps=6)
        with (tmp_path / "metrics.jsonl").open("a") as lines:
            lines.write('{"step": 8, "loss": 1}\n{"step": 12, "lo')
        self.train(tmp_path, steps=8)
        assert [line["step"] for line in metrics_log.read_metrics(tmp_path)] == [4, 6, 8]
        assert all(json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines())

    @pytest.mark.parametrize("bad, kept", [(2, 0), (8, 6), (12, 6), (13, 12), (20, 18)])
    def test_a_loss_that_is_not_finite_stops_it(self, tmp_path, bad, kept):
        with pytest.raises(TrainingDiverged) as raised:
            self.train(tmp_path, step=counting(bad=bad))
        message = str(raised.value)
        assert "test: loss is inf" in message and "\n" not in message
        assert (f"step {kept} is kept" if kept else "no checkpoint yet") in message
        state, step = saved(tmp_path)
        assert step == kept == int(state["step"]) and np.isfinite(state["total"])
        assert all(np.isfinite(line["loss"]) and line["step"] < bad for line in metrics_log.read_metrics(tmp_path))

    @pytest.mark.parametrize("bad, kept", [(5, 0), (6, 0), (12, 6), (20, 18)])
    def test_a_network_that_is_not_finite_is_not_kept(self, tmp_path, bad, kept):
        """The losses of a step are those before its update: they may be finite when its result is not."""
        with pytest.raises(TrainingDiverged) as raised:
            self.train(tmp_path, step=counting(bad_state=bad))
        assert (f"step {kept} is kept" if kept else "no checkpoint yet") in str(raised.value)
        assert saved(tmp_path)[1] == kept

    def test_pictures_are_made_at_the_end(self, tmp_path):
        seen = []

        def pictures(state, batch):
            seen.append((int(state["step"]), float(batch["x"][0])))
            return np.zeros((8, 8, 3), np.uint8)

        self.train(tmp_path, pictures=pictures, pictures_every=9)
        assert seen == [(9, 9), (18, 18), (20, 20)]

    def test_a_batch_must_divide_by_the_devices(self):
        with pytest.raises(ValueError, match="batch of 12 does not divide by the 8 devices"):
            shard({"x": np.zeros((12, 3))}, jax.devices())
        assert shard({"x": np.arange(16)}, jax.devices())["x"].tolist() == [[2 * i, 2 * i + 1] for i in range(8)]


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    """A folder of three tracklets."""
    directory = tmp_path_factory.mktemp("crops")
    for k in range(3):
        for i, frame in enumerate(figures(20, sizes=((40, 20), (37, 19)), seed=k)):
            write_png(directory / f"{k}/{i:03d}.png", frame)
    return directory


OFTEN = {"vrstc_jax.recipes.fit:fit": {"log_every": 2, "checkpoint_every": 3}}


class TestCommand:
    """`vrstc fit` in processes of its own, and `kill -9`."""

    def arguments(self, crops, place):
        return ("fit", crops, "--size", "smoke", "--steps", 8, "--reid-steps", 8, "--hold-out", 3,
                "--output", place / "m.safetensors")

    @pytest.fixture(scope="class")
    def uninterrupted(self, vrstc, crops, tmp_path_factory):
        """Where it is fitted, the model's bytes and the lines of the metrics."""
        place = tmp_path_factory.mktemp("fit") / "place"
        done = vrstc(*self.arguments(crops, place), defaults=OFTEN)
        assert done.code == 0, done.err
        assert sorted(os.listdir(place)) == ["m.safetensors", "m.safetensors.work"]
        return place, (place / "m.safetensors").read_bytes(), self.lines(place)

    def lines(self, place):
        found = [metrics_log.read_metrics(place / "m.safetensors.work" / name) for name in ("reid", "stcnet")]
        return [[{k: v for k, v in line.items() if k != "steps_per_second"} for line in lines]
                for lines in found]

    def interrupt(self, vrstc, crops, uninterrupted, moments):
        place, model, lines = uninterrupted
        shutil.rmtree(place)
        for moment in moments:
            done = vrstc(*self.arguments(crops, place), kill=moment, defaults=OFTEN)
            assert done.code == -9, (moment, done)
            assert not (place / "m.safetensors").exists()
        done = vrstc(*self.arguments(crops, place), defaults=OFTEN)
        assert done.code == 0, done.err
        assert (place / "m.safetensors").read_bytes() == model
        assert self.lines(place) == lines
        for of_network in lines:
            assert [line["step"] for line in of_network] == [2, 3, 4, 6, 8]

    @pytest.mark.slow
    def test_killed_during_each_training(self, vrstc, crops, uninterrupted):
        self.interrupt(vrstc, crops, uninterrupted, [
            ("vrstc_jax.training.devices:shard", 5),  # re-ID network, between two checkpoints
            # It goes on at step 4, and after five more steps STCnet begins: its step 7 comes when the
            # checkpoint of step 6 is still being written.
            ("vrstc_jax.training.devices:shard", 5 + 7)])

    @pytest.mark.slow
    def test_killed_at_other_moments(self, vrstc, crops, uninterrupted):
        self.interrupt(vrstc, crops, uninterrupted, [
            ("vrstc_jax.data.tracklet_set.tracklet_set_dataset_builder:encode_png", 40),
            ("vrstc_jax.training.loop:json.dumps", 2),
            ("vrstc_jax.training.loop:Checkpoints.save", 1),
            ("vrstc_jax.training.devices:shard", 7),
            ("vrstc_jax.recipes.fit:choose_tau", 1),
            ("vrstc_jax.training.loop:Checkpoints.save", 3),
            ("vrstc_jax.training.loop:os.replace", 1),
            ("vrstc_jax.data.images:os.replace", 1)])

    @pytest.mark.slow
    def test_what_it_leaves(self, uninterrupted):
        place, _, lines = uninterrupted
        model = load_model(place / "m.safetensors")
        for name, folder, of_network, keys, is_picture in (
                ("re-ID network", "reid", lines[0], {"cross_entropy", "accuracy"}, False),
                ("STCnet", "stcnet", lines[1], {
                    "reconstruction", "adversarial_global", "adversarial_local", "discriminator_global",
                    "discriminator_local", "identity", "psnr_spatial", "psnr_stcnet"}, True)):
            assert all(keys <= line.keys() for line in of_network)
            for key in keys:
                assert model.provenance["curves"][name][key] == [[line["step"], line[key]]
                                                                 for line in of_network]
            files = (place / "m.safetensors.work" / folder).glob("events.out.tfevents.*")
            events = b"".join(file.read_bytes() for file in files)
            assert all(key.encode() in events for key in keys)
            assert (b"PNG" in events) == is_picture  # completions
        assert model.identities == ("0", "1", "2")
        assert model.provenance["held_out"] and model.provenance["command"].startswith("vrstc fit ")

    @pytest.mark.slow
    def test_again_gives_the_same(self, vrstc, crops, uninterrupted):
        place, model, lines = uninterrupted
        done = vrstc(*self.arguments(crops, place), defaults=OFTEN)
        assert done.code == 0 and (place / "m.safetensors").read_bytes() == model
        assert self.lines(place) == lines

    @pytest.mark.slow
    def test_other_settings_are_refused(self, vrstc, crops, uninterrupted):
        place, model, _ = uninterrupted
        done = vrstc(*self.arguments(crops, place), "--seed", 1)
        line, = done.err.splitlines()
        assert done.code == 2 and f"{place}/m.safetensors.work" in line
        assert (place / "m.safetensors").read_bytes() == model

    def test_diverged_is_exit_code_1(self, monkeypatch, capsys, crops, tmp_path):
        def diverge(*_, **__):
            raise TrainingDiverged("STCnet: generators is nan by step 7; …")

        monkeypatch.setattr(fitting, "fit", diverge)
        with pytest.raises(SystemExit) as raised:
            main(["fit", str(crops), "--fresh", "--output", str(tmp_path / "m")])
        assert raised.value.code == 1
        assert capsys.readouterr().err == "vrstc: STCnet: generators is nan by step 7; …\n"
        assert not (tmp_path / "m").exists()

    @pytest.mark.slow
    def test_a_loss_that_is_not_finite(self, vrstc, crops, tmp_path):
        done = vrstc("fit", crops, "--size", "smoke", "--learning-rate", "1e30", "--output", tmp_path / "m",
                     defaults=OFTEN)
        assert done.code == 1
        line = done.err.splitlines()[-1]
        assert line.startswith("vrstc: STCnet: ") and "learning rate" in line and "Traceback" not in done.err
        assert os.listdir(tmp_path) == ["m.work"]  # no model
        with Checkpoints(tmp_path / "m.work/reid/checkpoints") as checkpoints:
            assert checkpoints.latest() == SMOKE.reid_training.steps
