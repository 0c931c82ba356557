"""Damaged records of a run, by commands: one line that names the file and says what to do, or it is done again."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest
from damage import DAMAGES
from people import box_mask, figure, random_model

from vrstc_jax.cli import main
from vrstc_jax.data.images import write_png
from vrstc_jax.data.tracklet_set import read_set
from vrstc_jax.models.model_file import load_model, save_model
from vrstc_jax.training import loop, reid, stcnet
from vrstc_jax.training.metrics_log import MetricsLog

pytestmark = pytest.mark.usefixtures("quick_compilation")

CHOSEN = ("wrong types", "cut off", "a folder with a file", "a pipe", "a link to itself", "a link to its folder")
CONTENTS = CHOSEN[:3]  # of files that are like others


@pytest.fixture(scope="module")
def top(tmp_path_factory):
    """Two tracklets with masks, and a model."""
    top = tmp_path_factory.mktemp("damaged")
    for name in ("t1", "t2"):
        for i in range(4):
            write_png(top / f"frames/{name}/{i}.png", figure(i))
            write_png(top / f"masks/{name}/{i}.png", box_mask(40, 20, 0.4) & (i == 2))
    save_model(top / "m", dataclasses.replace(random_model(), tau=0.0))
    return top


def run(capsys, *words):
    """(exit code, the lines that begin with vrstc:)"""
    code = 0
    try:
        main([str(word) for word in words])
    except SystemExit as error:
        code = error.code
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return code, [line for line in said.replace("\r", "\n").splitlines() if line.startswith("vrstc: ")]


def pictures(path):
    """{file: bytes} of what is shown of the results."""
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*.png")}


def damaged(path, damage):
    """Damages a file or a folder; what is written into a file takes a folder's place."""
    if path.is_dir() and damage in ("wrong types", "cut off"):
        shutil.rmtree(path)
        path.write_text("x")
    else:
        DAMAGES[damage](path)


class TestComplete:
    @pytest.fixture(scope="class")
    def done(self, top):
        main(["complete", *map(str, self.words(top, top / "done"))])
        return top / "done"

    @staticmethod
    def words(top, to):
        return (top / "frames", "--masks", top / "masks", "--model", top / "m", "--output", to / "out", "--dataset",
                to / "set")

    @pytest.mark.parametrize("file", [
        "out/run.json", "out/scores/t1.json", "out/scores", "out/masks", "out/t1", "out/t1/2.png", "out/masks/t2/2.png",
        "out/report.html", "out/metrics.json", "set/dataset_info.json", "set/tracklets.json", "set/features.json",
        "set", "out"])
    def test_one_line_or_done_again(self, top, done, tmp_path, capsys, file):
        expected, refusals = pictures(done), 0
        every = file in ("out/run.json", "out/scores/t1.json", "out/scores", "set", "out")
        for damage in CHOSEN if every else CONTENTS:
            shutil.rmtree(tmp_path)
            shutil.copytree(done, tmp_path)
            damaged(tmp_path / file, damage)
            code, lines = run(capsys, "complete", *self.words(top, tmp_path))
            if code == 2:
                refusals += 1
                # The record of a folder, or of a set, is named by it: that is what has to go.
                assert str(tmp_path / file) in lines[-1] or str((tmp_path / file).parent) in lines[-1], lines
                assert len(lines[-1]) < 600 and any(
                    word in lines[-1] for word in ("remove", "take it out", "give", "replace")), lines
            else:
                assert code == 0, (damage, lines)
                assert pictures(tmp_path) == expected
                assert len(read_set(tmp_path / "set").tracklets) == 2
        assert refusals == {"out/run.json": 6, "out/scores": 5, "out/masks": 2, "out/t1/2.png": 2,
                            "out/masks/t2/2.png": 2, "out/report.html": 1, "out/metrics.json": 1,
                            "set": 6, "out": 6}.get(file, 0)

    def test_a_link_in_place_of_the_scores_removes_nothing(self, top, done, tmp_path, capsys):
        """The records of the run would be taken for those of tracklets that are gone."""
        shutil.copytree(done, tmp_path, dirs_exist_ok=True)
        DAMAGES["a link to its folder"](tmp_path / "out/scores")
        before = sorted(tmp_path.rglob("*"))
        code, (line,) = run(capsys, "complete", *self.words(top, tmp_path))
        assert code == 2
        assert line.startswith(f"vrstc: {tmp_path / 'out/scores'}: is a link, and should be a folder of results")
        assert sorted(tmp_path.rglob("*")) == before

    def test_masks_of_the_results_that_somebody_replaced(self, top, done, tmp_path, capsys):
        """A frame that was completed from others has none now; the report goes without its picture."""
        shutil.copytree(done, tmp_path, dirs_exist_ok=True)
        for file in (tmp_path / "out/masks/t1").iterdir():
            write_png(file, np.ones((40, 20), bool))
        assert run(capsys, "complete", *self.words(top, tmp_path)) == (0, [])


class TestFit:
    WORK = "m2.work"

    @pytest.fixture(scope="class")
    def done(self, top):
        with pytest.MonkeyPatch.context() as patch:
            self.without_training(patch)
            main(["fit", *map(str, self.words(top, top / "done"))])
        return top / "done"

    @staticmethod
    def without_training(patch):
        """What else a fit keeps is of the same form, whatever the networks learned."""
        def train(run, state, step, batches):
            model = random_model(identities=("t1", "t2"))
            if not (run.directory / "metrics.jsonl").exists():
                with MetricsLog(run.directory) as log:
                    log.write(2, {"loss": 1.0})
            if run.name == "re-ID network":
                return dataclasses.make_dataclass("State", ["result"])(model.reid)
            return dataclasses.make_dataclass("State", ["result", "params"])(
                model.generators, {"discriminators": model.discriminators})

        patch.setattr(loop, "train", train)
        for module in (reid, stcnet):
            patch.setattr(module, "initial_state", lambda *_, **__: None)
            patch.setattr(module, "training_step", lambda *_: None)

    @staticmethod
    def words(top, to):
        return (top / "frames", "--masks", top / "masks", "--size", "smoke", "--steps", 2, "--reid-steps", 2,
                "--output", to / "m2")

    @pytest.mark.parametrize("file", [
        "fit.json", "scores.npz", "stcnet/metrics.jsonl", "tracklets/dataset_info.json", "tracklets/tracklets.json",
        "tracklets", ""])
    def test_one_line_or_done_again(self, top, done, tmp_path, capsys, monkeypatch, file):
        self.without_training(monkeypatch)
        refusals = 0
        for damage in CHOSEN:
            shutil.rmtree(tmp_path)
            shutil.copytree(done, tmp_path)
            damaged(tmp_path / self.WORK / file, damage)
            code, lines = run(capsys, "fit", *self.words(top, tmp_path))
            if code == 2:
                refusals += 1
                assert f"{tmp_path / self.WORK}" in lines[-1] and len(lines[-1]) < 600, lines
                assert any(word in lines[-1] for word in ("remove", "give", "replace", "write the set again")), lines
            else:
                assert code == 0, (damage, lines)
                # The curves in the model come from the metrics; without them it is the same model.
                assert load_model(tmp_path / "m2").digest == load_model(done / "m2").digest
                assert "metrics" in file or (tmp_path / "m2").read_bytes() == (done / "m2").read_bytes()
        # A link that leads nowhere is no set, and a new work folder may have other files.
        assert refusals == {"scores.npz": 0, "stcnet/metrics.jsonl": 4, "tracklets": 5, "": 4}.get(file, 6), file

    @pytest.mark.slow
    def test_of_real_trainings(self, top, tmp_path, capsys):
        """A damaged checkpoint, or a part of one, costs the training; the same model comes of it."""
        whole = tmp_path / "whole"
        assert run(capsys, "fit", *self.words(top, whole))[0] == 0
        expected = load_model(whole / "m2").digest
        for network in ("reid", "stcnet"):
            for file in ("metrics.jsonl", "checkpoints/2/digests.json", "checkpoints/2/state/_METADATA",
                         "checkpoints/2", "checkpoints", ""):
                for damage in (*CONTENTS, "a link to itself"):
                    jax.clear_caches()  # a process that keeps hundreds of compiled trainings runs out of memory maps
                    shutil.rmtree(tmp_path / "now", ignore_errors=True)
                    shutil.copytree(whole, tmp_path / "now")
                    damaged(tmp_path / "now" / self.WORK / network / file, damage)
                    code, lines = run(capsys, "fit", *self.words(top, tmp_path / "now"))
                    if code == 2:
                        assert str(tmp_path / "now" / self.WORK / network) in lines[-1], (file, damage, lines)
                    else:
                        assert (code, load_model(tmp_path / "now/m2").digest) == (0, expected), (file, damage, lines)
