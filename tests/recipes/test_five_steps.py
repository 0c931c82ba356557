"""The five steps as one job, with trainings left out: what each leaves, and that it goes on where it stopped.

In place of a training there are random variables that follow from all that the training is given. What is
inside one (batches, checkpoints, being killed) is tested in test_fit.py; the slow tests here train.
"""

import dataclasses
import json
import re
import shutil
from pathlib import Path
from unittest import mock

import jax
import numpy as np
import pytest
from five_steps_runs import (
    CONFIG,
    FILES,
    PLACES,
    all_with,
    assert_figures,
    assert_same_frames,
    assert_same_sets,
    contents,
    goes_on_to_the_same,
    interrupted,
    names,
    never,
    record_of,
    run,
    times,
    write,
)
from refusals import refused

from vrstc_jax.data.images import read_image
from vrstc_jax.data.tracklet_set import read_set, write_set
from vrstc_jax.inference.locate import Locator
from vrstc_jax.inference.plan import Plan
from vrstc_jax.models.model_file import load_model, load_reid
from vrstc_jax.recipes import five_steps
from vrstc_jax.recipes.five_steps import SPLITS, STEPS, Options, job, read_located, read_splits
from vrstc_jax.runtime.errors import InputError

pytestmark = pytest.mark.usefixtures("quick_compilation", "compiled_once")


class TestAWholeRun:
    def test_every_step_leaves_its_result(self, done):
        assert names(done.work) == {"experiment.json", "made_from.json", "data", "completed", "scores", "cmc.png",
                                    *(name for name in FILES if "/" not in name)}
        assert read_image(done.work / "ranked.png").shape[2] == 3

    def test_what_is_said(self, done):
        assert [line.partition(":")[0] for line in done.said] == list(STEPS)
        for line, place in zip(done.said, PLACES.values()):
            assert re.fullmatch(rf"\w+: done in \d+ s \({re.escape(str(done.work / place))}\)\.", line)

    def test_results(self, done):
        stored = json.loads((done.work / "results.json").read_text())
        assert stored == done.results
        assert stored["gallery"] == "without the queries"
        assert list(stored["evaluations"]) == ["first network, before completion", "before completion",
                                               "after completion"]
        for figures in stored["evaluations"].values():
            assert set(figures) == {"rank1", "rank5", "rank10", "rank20", "map", "queries", "left_out"}
            assert 0 < figures["map"] <= 1 and (figures["queries"], figures["left_out"]) == (2, 0)
        assert stored["locating"] == json.loads((done.work / "locating.json").read_text())

    def test_figures_are_those_of_the_features(self, done):
        """Another tool ranks from the file alone; whose features they are, the completed set says too."""
        with np.load(done.work / "features.npz") as stored:
            arrays = dict(stored)
        assert_figures(done.results["evaluations"]["after completion"], arrays)
        completed = read_splits(done.work / "completed")
        for split in ("query", "gallery"):
            for field in ("name", "person", "camera"):
                assert arrays[f"{split}_{field}s"].tolist() == [getattr(t, field) for t in completed[split].tracklets]
        assert "official" not in done.results and "other_gallery" not in done.results

    def test_tau_and_how_good_locating_is(self, done):
        found, record = read_located(done.work), done.results["locating"]
        scores = np.concatenate([s.ravel() for s in found.scores["train"]])
        assert found.tau == record["tau"] == pytest.approx(np.quantile(scores, 0.15))
        assert record["tau_quantile"] == 0.15
        raw = read_splits(done.work / "data")
        locator = Locator(CONFIG.reid, load_reid(done.work / "reid.safetensors").variables, 3)
        seen = raw["gallery"].tracklets[1]
        np.testing.assert_array_equal(found.scores["gallery"][1], locator.scores(seen.frames))
        assert [row["tau"] for row in record["quality"]] == [record["tau"], 0.89]
        assert {row["bands"] for row in record["quality"]} == {(2 + 3) * 4 * 3}  # of the test tracklets alone

    def test_what_is_trained_on_what(self, done):
        first, stcnet, after, before = done.trained.calls
        assert done.trained.names() == ["re-ID network", "STCnet", "final network, after completion",
                                        "final network, before completion"]
        assert (first.task, stcnet.task) == (CONFIG.first_reid, CONFIG.stcnet_task) and first.start_from is None
        assert after.task == before.task == CONFIG.final_reid
        for call in (first, after, before):
            assert [list(each.frames) for each in call.seen] == [[0, 1, 2, 3]] * 6
            assert [each.label for each in call.seen] == [0, 0, 1, 1, 2, 2]
        found = read_located(done.work)
        clean = [np.flatnonzero((scores >= found.tau).all(1)).tolist() for scores in found.scores["train"]]
        assert [each.frames.tolist() for each in stcnet.seen] == clean
        assert 0 < sum(map(len, clean)) < 24
        # `final_from_first`: the last networks begin with the first's backbone, and learn who is who anew.
        trained = load_reid(done.work / "reid.safetensors").variables
        begin = {part: {"backbone": trained[part]["backbone"]} for part in ("params", "batch_stats")}
        for call in (after, before):
            assert jax.tree.all(jax.tree.map(np.array_equal, call.start_from, begin))

    def test_the_models(self, done):
        model = load_model(done.work / "model.safetensors")
        assert model.identities == ("0000000", "0000001", "0000002") and model.config == CONFIG
        assert model.tau == done.results["locating"]["tau"]
        assert model.provenance["tracklets"] == 6 and model.provenance["frames"] == 24
        for name in ("final", "before"):
            assert load_reid(done.work / f"{name}.safetensors").config == CONFIG.final

    def test_the_completed_set_is_of_the_same_form(self, done):
        raw, completed = read_splits(done.work / "data"), read_splits(done.work / "completed")
        found, changed = read_located(done.work), 0
        for split in SPLITS:
            of_split = raw[split].tracklets, completed[split].tracklets, found.scores[split]
            for before, after, scores in zip(*of_split, strict=True):
                assert (before.name, before.person, before.camera, before.frame_names) == (
                    after.name, after.person, after.camera, after.frame_names)
                plan = Plan.from_scores(scores, found.tau)
                for i in range(4):
                    mask = plan.mask(i, before.frames[i])
                    np.testing.assert_array_equal(after.masks[i], mask)
                    np.testing.assert_array_equal(after.frames[i][~mask], before.frames[i][~mask])
                    changed += (after.frames[i] != before.frames[i]).any()
        assert changed > 3


class TestAgain:
    def test_a_second_call_does_nothing_and_says_so(self, done, again, trained):
        before = times(again)
        results, said = run(again, write=never)
        assert results == done.results and times(again) == before and not trained.calls
        assert said == [f"{again / 'results.json'}: exists already; nothing is left to do "
                        "(--from STEP does steps again)."]

    def test_from_rank_does_that_alone(self, done, again, trained):
        before = times(again)
        (again / "results.json").write_text("{}")
        said = goes_on_to_the_same(again, done, start="rank")
        assert trained.names() == ["final network, after completion", "final network, before completion"]
        assert [line.partition(" (")[0] for line in said[:5]] == [f"{step}: already done" for step in STEPS[:5]]
        assert said[5].startswith("rank: done in ")
        changed = {str(path) for path, time in times(again).items() if before.get(path) != time}
        assert changed - {"cmc.png", "made_from.json"} == {"final.safetensors", "before.safetensors", "results.json",
                                         "features.npz", "ranked.png"}

    @pytest.mark.parametrize("step", STEPS)
    def test_from_a_step_removes_what_follows_from_it(self, again, trained, step):
        with interrupted("vrstc_jax.recipes.five_steps.job.read_splits"):
            run(again, start=step)
        gone = [name for later in STEPS[max(1, STEPS.index(step)):] for name in job.LEFT_BY[later]]
        left = names(again)
        assert not left & set(gone) and not any(name.startswith(".") for name in left)
        assert {PLACES[earlier] for earlier in STEPS[:STEPS.index(step)]} <= left

    def test_from_a_step_goes_on_where_it_stopped(self, done, again, trained):
        """Typed again after a kill, it does not begin again with that step."""
        with interrupted("vrstc_jax.recipes.five_steps.job.rank_sets"):
            run(again, start="locate")
        said = goes_on_to_the_same(again, done, start="locate")
        assert [line.partition(":")[2].split()[0] for line in said] == ["already"] * 5 + ["done"]
        _, said = run(again, write=never, start="rank")  # and when it is done, again means again
        assert said[-1].startswith("rank: done")

    def test_new_data_are_there_before_the_old_go(self, done, again, trained):
        gone = mock.Mock(side_effect=InputError("no such folder"))
        with refused("no such folder"):
            run(again, write=gone, start="data")
        assert contents(again) == contents(done.work) and not trained.calls
        said = goes_on_to_the_same(again, done, write=write, start="data")
        assert said[0].startswith("data: already done") and said[1].startswith("reid: done")

    @pytest.mark.parametrize("target, left, said", [
        ("vrstc_jax.runtime.workdir.shutil.rmtree", ".completed.removed", "done"),  # half of a set is no set
        # The set exists by then, so the step is not done again, but what is left is removed.
        ("vrstc_jax.runtime.workdir.Workdir.discard", "completed_frames", "already done"),
        ("vrstc_jax.runtime.workdir.shutil.rmtree", ".completed_frames.removed", "already done")])
    def test_stopped_while_removing(self, done, again, trained, target, left, said):
        """Results do not outlive what they came from."""
        def half_removed(*args):
            path = again / args[-1]
            if path.name != left or not path.is_dir():
                return False
            next(file for file in path.rglob("*") if file.is_file()).unlink()
            return True

        with interrupted(target, when=half_removed):
            run(again, start="complete")
        assert (again / left).is_dir() and not (again / "results.json").exists()
        assert goes_on_to_the_same(again, done)[4].startswith(f"complete: {said}")
        assert names(again) == names(done.work)

    def test_a_record_of_before_there_were_some_fields(self, done, again, trained):
        """By default they are as it was before; with another value it is another experiment."""
        with record_of(again) as record:
            for part in ("reid_training", "final_training"):
                del record["config"][part]["each_once"]
            del record["options"]["queries_in_official_gallery"]
        assert run(again, write=never)[0] == done.results
        changed = dataclasses.replace(CONFIG, reid_training=dataclasses.replace(CONFIG.reid_training, each_once=True))
        with refused("other data or settings"):
            run(again, changed)

    @pytest.mark.parametrize("part", ["config", "options"])
    def test_a_record_of_a_later_version(self, again, part):
        with record_of(again) as record:
            record[part]["unheard_of"] = 1
        with refused(f"{again}: holds an experiment with other data or settings"):
            run(again)

    def test_weights_to_begin_with_are_read_only_for_work(self, done, again, trained):
        read = mock.Mock(side_effect=InputError("weights: no such file."))
        assert run(again, write=never, backbone=read)[0] == done.results
        before = times(again)
        with refused("weights: no such file"):
            run(again, write=never, backbone=read, start="rank")
        assert times(again) == before  # nothing was removed yet

    @pytest.mark.parametrize("changes", [
        {"config": dataclasses.replace(CONFIG, seed=1)},
        {"config": dataclasses.replace(CONFIG, tau=0.5)},
        {"options": Options(hidden="given")},
        {"options": Options(queries_in_gallery=True)},
        {"inputs": {"dataset": "mars"}},
    ])
    def test_another_experiment_is_refused(self, again, changes):
        before = times(again)
        same = {"config": CONFIG, "write": never, "inputs": {"dataset": "walkers"}, "start": "data"}
        with refused(f"{again}: holds an experiment with other data or "):
            five_steps.run(again, **(same | changes))
        assert times(again) == before

    def test_a_step_that_is_none(self, tmp_path):
        with refused("no step 'train'; choose one of data, reid, locate, stcnet, "):
            run(tmp_path / "work", start="train")
        assert not (tmp_path / "work").exists()


# Where each run is interrupted: the function, and its call in that run, from 1.
MOMENTS = [
    ("data", "vrstc_jax.data.tracklet_set.tracklet_set_dataset_builder.encode_png", 20),
    ("reid", "vrstc_jax.recipes.five_steps.networks.train_reid", 1),
    ("reid", "vrstc_jax.recipes.five_steps.job.save_reid", 1),
    ("locate", "vrstc_jax.inference.locate.Locator.scores", 8),  # of the 6 + 2 + 3 tracklets
    ("locate", "vrstc_jax.recipes.five_steps.locating.choose_tau", 1),
    ("stcnet", "vrstc_jax.recipes.five_steps.networks.train_stcnet", 1),
    ("complete", "vrstc_jax.inference.results_folder.ResultsFolder.write", 7),
    ("complete", "vrstc_jax.inference.results_folder.write_png", 5),
    ("complete", "vrstc_jax.recipes.five_steps.completing.write_set", 1),
    ("rank", "vrstc_jax.recipes.five_steps.networks.train_reid", 2),
    ("rank", "vrstc_jax.recipes.five_steps.ranking.evaluate_galleries", 2),
    ("rank", "vrstc_jax.report.ranking_pictures.write_cmc_plot", 1),
]


def test_interrupted_in_each_step_it_ends_the_same(done, trained, tmp_path):
    work = tmp_path / "work"
    for step, target, call in MOMENTS:
        with interrupted(target, call):
            run(work)
        made = [name for name, place in PLACES.items() if (work / place).exists()]
        assert made == list(STEPS[:STEPS.index(step)]), target
    # What is made is not made again; the first network was interrupted before it was saved, once.
    goes_on_to_the_same(work, done)
    assert_same_sets(work / "completed", done.work / "completed")
    assert trained.names() == ["re-ID network", *done.trained.names()]
    assert names(work) == names(done.work)


def test_two_splits_may_use_a_name_for_two_tracklets(done, tmp_path):
    """A folder for each split keeps them apart."""
    def renamed(data):
        return dataclasses.replace(data, tracklets=tuple(
            dataclasses.replace(t, name=f"{i}") for i, t in enumerate(data.tracklets[:2])))

    raw = {split: renamed(data) for split, data in read_splits(done.work / "data").items()}
    five_steps.complete_sets(raw, load_model(done.work / "model.safetensors"), read_located(done.work),
                             tmp_path, options=Options(keep_folder=True))
    wanted = read_splits(done.work / "completed")
    for split in SPLITS:
        found = read_set(tmp_path / "completed", split).tracklets
        assert [t.name for t in found] == ["0", "1"]
        for mine, theirs in zip(found, wanted[split].tracklets):
            assert_same_frames(mine.frames, theirs.frames)
        assert (tmp_path / "completed_frames" / split / "1/000004.png").exists()
        assert (tmp_path / "completed_details" / split / "masks/0/000001.png").exists()
        assert (tmp_path / "completed_details" / split / "scores/0.json").exists()
    assert names(tmp_path / "completed_frames") == set(SPLITS)


@pytest.mark.slow
def test_walkers_are_trained_and_killed_training_goes_on(tmp_path):
    """No stand-ins: the steps as they are, interrupted in each training, end with the same bytes."""
    trainings = "reid_training", "stcnet_training", "final_training"
    config = dataclasses.replace(CONFIG, **{
        part: dataclasses.replace(getattr(CONFIG, part), steps=3) for part in trainings})
    whole, _ = run(tmp_path / "whole", config)
    for call in (2, 5, 5, 5):  # the second step of each training; a run begins with the one before
        with interrupted("vrstc_jax.training.loop.shard", call):
            run(tmp_path / "stopped", config)
    results, _ = run(tmp_path / "stopped", config)
    assert results == whole and contents(tmp_path / "stopped") == contents(tmp_path / "whole")


def test_what_says_that_a_step_is_done_goes_first():
    assert {step: left[0] for step, left in job.LEFT_BY.items()} == PLACES


class TestDataThatCannotBeUsed:
    """Those that a finished run refuses; see test_five_steps_data.py for others."""

    def test_what_was_trained_is_kept(self, again):
        """As by a version of this that did not look."""
        before = times(again)
        (again / "results.json").unlink()
        shutil.rmtree(again / "data")
        with refused("has a match"):
            run(again, write=lambda path: write_set(path, all_with(camera="c0")))
        left = times(again).keys()
        assert {Path("experiment.json"), Path("reid.safetensors"), Path("data/dataset_info.json")} <= left
        assert left >= {path for path in before if path.parts[0] not in ("results.json", "data")}
