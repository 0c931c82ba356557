"""Fitting: what training may see, what it leaves, and going on after it was stopped."""

import dataclasses
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
from people import SMOKE, figures, masks_at, random_model, random_reid, tracklet

from vrstc_jax.cli import main
from vrstc_jax.data.held_out import hold_out_runs
from vrstc_jax.data.images import write_png
from vrstc_jax.data.tracklet_set import TrackletSet
from vrstc_jax.inference.locate import Locator
from vrstc_jax.models.model_file import Model, load_model
from vrstc_jax.recipes import fit as fitting
from vrstc_jax.recipes.fit import fit
from vrstc_jax.runtime.errors import InputError, TrainingDiverged
from vrstc_jax.training import loop, metrics_log, reid, stcnet
from vrstc_jax.training.checkpoints import Checkpoints

pytestmark = pytest.mark.usefixtures("quick_compilation")


HELD = 4  # frames in a run


def footage():
    """Two tracklets with masks, one of them inside the run to be held out; two without; two of one person."""
    for k, (person, hidden) in enumerate([("ann", (3, 4, 30)), ("bob", (5, 20)), ("ann", None), (None, None)]):
        frames = figures(44, sizes=((40, 20), (37, 19)), seed=k)
        yield tracklet(frames, hidden and masks_at(frames, hidden), f"t{k}", person=person)


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
            patch.setattr(module, "training_step", lambda *_: None)
        model = fit(list(footage()), work, **SAME, command="vrstc fit")
    return Watched(model, work, reads, labels)


@pytest.fixture(scope="module")
def clean(watched):
    """Which frames nothing hides, (tracklet, frame), by masks where there are any and else by the scores."""
    locator = Locator(SMOKE.reid, watched.model.reid, len(watched.model.identities))
    found = set()
    for k, tracklet in enumerate(footage()):
        good = ((locator.scores(tracklet.frames) >= watched.model.tau).all(1) if tracklet.masks is None else
                [not mask.any() for mask in tracklet.masks])
        found |= {(k, i) for i in range(44) if good[i]}
    return found


class TestFit:
    def test_held_out_frames_are_never_read_by_training(self, watched, clean):
        candidates = [(k, run) for k, runs in enumerate(hold_out_runs([44] * 4, HELD).runs) for run in runs]
        expected = {}
        for k, run in candidates:
            if all((k, i) in clean for i in range(*run)):  # else it could not be judged on
                expected.setdefault(f"t{k}", []).append([f"{i:06d}" for i in range(*run)])
        assert watched.model.provenance["held_out"] == expected
        assert "t0" in expected and "t1" not in expected  # something hides t1 there
        held_out = {(int(name[1:]), int(frame)) for name, runs in expected.items() for run in runs for frame in run}
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

    def test_a_fit_begun_before_the_config_had_a_field_goes_on(self, tmp_path):
        claim = lambda config: fitting.claim(tmp_path, list(footage()), config, hold_out=HELD)
        claim(SMOKE)
        written = json.loads((tmp_path / "fit.json").read_text())
        del written["config"]["compute"]
        (tmp_path / "fit.json").write_text(json.dumps(written))
        claim(SMOKE)
        with pytest.raises(InputError, match="other input or settings"):
            claim(dataclasses.replace(SMOKE, compute="bfloat16"))

    def test_masks_that_seem_wrong_are_warned_of(self, tmp_path, capsys, monkeypatch):
        """Before STCnet learns from them; the re-ID network, which comes first, is a random one."""
        monkeypatch.setattr(fitting, "train_reid", lambda *_, **__: random_reid(identities=("a",)).variables)
        all_hidden = [np.ones(frame.shape[:2], bool) for frame in figures(3)]
        with pytest.raises(InputError, match="frame"):
            fit([tracklet(figures(3), all_hidden, "a")], tmp_path / "work", config=SMOKE)
        assert "vrstc: warning: Tracklet a: Its masks hide 100 % of its pixels" in capsys.readouterr().err

    def test_a_fit_to_other_frames_does_not_go_on(self, tmp_path, capsys):
        """Also of one length: what was trained on the old frames is not taken for trained on the new ones."""
        def claim(**made_from):
            fitting.claim(tmp_path, [dataclasses.replace(t, made_from=made_from.get(t.name, "same"))
                                     for t in footage()], SMOKE)

        claim()
        claim()
        with pytest.raises(InputError, match=r"begun with other frames or masks; 2 of 4 tracklets changed since "
                                             r"\(t1, t3\); remove it"):
            claim(t1="other", t3="other")
        assert capsys.readouterr().err == ""
        record = json.loads((tmp_path / "fit.json").read_text())
        del record["made_from"]  # as earlier versions wrote it
        (tmp_path / "fit.json").write_text(json.dumps(record))
        claim(t1="other")
        line, = capsys.readouterr().err.splitlines()
        assert line.startswith(f"vrstc: warning: {tmp_path}: is of an earlier version") and "cannot be seen" in line

    def test_nothing_to_learn_from(self, tmp_path):
        with pytest.raises(InputError, match="no frame"):
            fit([], tmp_path / "work", config=SMOKE)


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    """A folder of three tracklets."""
    directory = tmp_path_factory.mktemp("crops")
    for k in range(3):
        for i, frame in enumerate(figures(20, sizes=((40, 20), (37, 19)), seed=k)):
            write_png(directory / f"{k}/{i:03d}.png", frame)
    return directory


OFTEN = (2, 3)


class TestCommand:
    """`vrstc fit` in separate processes, and `kill -9`."""

    @staticmethod
    def fit(vrstc, crops, place, *more, code=0, **options):
        done = vrstc("fit", crops, "--size", "smoke", "--steps", 8, "--reid-steps", 8, "--hold-out", 3, "--output",
                     place / "m.safetensors", *more, intervals=OFTEN, **options)
        assert done.code == code, done
        return done

    @staticmethod
    def left_in(place):
        """The model's bytes and the lines of the metrics."""
        found = [metrics_log.read_metrics(place / "m.safetensors.work" / name) for name in ("reid", "stcnet")]
        return (place / "m.safetensors").read_bytes(), [
            [{k: v for k, v in line.items() if k != "steps_per_second"} for line in lines] for lines in found]

    @pytest.fixture(scope="class")
    def uninterrupted(self, vrstc, crops, tmp_path_factory):
        """Where it is fitted, the model's bytes and the lines of the metrics."""
        place = tmp_path_factory.mktemp("fit") / "place"
        self.fit(vrstc, crops, place)
        assert sorted(os.listdir(place)) == ["m.safetensors", "m.safetensors.work"]
        model, lines = self.left_in(place)
        assert [[line["step"] for line in of_network] for of_network in lines] == [[2, 3, 4, 6, 8]] * 2
        return place, model, lines

    @pytest.mark.slow
    @pytest.mark.parametrize("moments", [
        [("vrstc_jax.training.loop:shard", 5),  # re-ID network, between two checkpoints
         # It goes on at step 4, and after five more steps STCnet begins: its step 7 comes when the checkpoint of step 6
         # is still being written.
         ("vrstc_jax.training.loop:shard", 5 + 7)],
        [("vrstc_jax.data.tracklet_set.tracklet_set_dataset_builder:encode_png", 40),
         ("vrstc_jax.training.metrics_log:json.dumps", 2),
         ("vrstc_jax.training.loop:Checkpoints.save", 1),
         ("vrstc_jax.training.loop:shard", 7),
         ("vrstc_jax.recipes.fit:choose_tau", 1),
         ("vrstc_jax.training.loop:Checkpoints.save", 3),
         ("vrstc_jax.runtime.storage:os.replace", 1),
         ("vrstc_jax.data.images:os.replace", 1)]], ids=["during each training", "at other moments"])
    def test_killed(self, vrstc, crops, uninterrupted, moments):
        place, *expected = uninterrupted
        shutil.rmtree(place)
        for moment in moments:
            self.fit(vrstc, crops, place, kill=moment, code=-9)
            assert not (place / "m.safetensors").exists()
        self.fit(vrstc, crops, place)
        assert [*self.left_in(place)] == expected

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
                assert model.provenance["curves"][name][key] == [[line["step"], line[key]] for line in of_network]
            files = (place / "m.safetensors.work" / folder).glob("events.out.tfevents.*")
            events = b"".join(file.read_bytes() for file in files)
            assert all(key.encode() in events for key in keys)
            assert (b"PNG" in events) == is_picture  # completions
        assert model.identities == ("0", "1", "2")
        assert model.provenance["held_out"] and model.provenance["command"].startswith("vrstc fit ")

    @pytest.mark.slow
    def test_again_gives_the_same_and_other_settings_are_refused(self, vrstc, crops, uninterrupted):
        place, *expected = uninterrupted
        self.fit(vrstc, crops, place)
        line, = self.fit(vrstc, crops, place, "--seed", 1, code=2).err.splitlines()
        assert f"{place}/m.safetensors.work" in line
        assert [*self.left_in(place)] == expected

    def test_diverged_is_exit_code_1(self, monkeypatch, capsys, crops, tmp_path):
        monkeypatch.setattr(fitting, "fit", mock.Mock(side_effect=TrainingDiverged("STCnet: generators is nan")))
        with pytest.raises(SystemExit) as raised:
            main(["fit", str(crops), "--fresh", "--output", str(tmp_path / "m")])
        assert raised.value.code == 1
        assert capsys.readouterr().err == "vrstc: STCnet: generators is nan\n"
        assert not (tmp_path / "m").exists()

    @pytest.mark.slow
    def test_a_loss_that_is_not_finite(self, vrstc, crops, tmp_path):
        done = vrstc("fit", crops, "--size", "smoke", "--learning-rate", "10", "--output", tmp_path / "m",
                     intervals=OFTEN)
        assert done.code == 1
        line = done.err.splitlines()[-1]
        assert line.startswith("vrstc: STCnet: ") and "learning rate" in line and "Traceback" not in done.err
        assert os.listdir(tmp_path) == ["m.work"]  # no model
        with Checkpoints(tmp_path / "m.work/reid/checkpoints") as checkpoints:
            assert checkpoints.latest() == SMOKE.reid_training.steps
