"""The five steps as one job, with trainings left out: what each leaves, and that it goes on where it stopped.

In place of a training there are random variables that follow from all that the training is given. What is
inside one (batches, checkpoints, being killed) is tested in test_fit.py; the slow tests here train.
"""

import contextlib
import dataclasses
import io
import itertools
import json
import os
import pkgutil
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import jax
import numpy as np
import pytest
from five_steps_stand_ins import CONFIG, PROTOCOL, compiled_once, patched, trained  # noqa: F401
from people import figures, tracklet
from refusals import refused

from vrstc_jax.data import datasets
from vrstc_jax.data.images import read_image, write_png
from vrstc_jax.data.inputs.folders import read_folder
from vrstc_jax.data.inputs.masks import read_mask
from vrstc_jax.data.tracklet_set import read_set, write_set
from vrstc_jax.data.walkers import walker_splits
from vrstc_jax.inference.locate import Locator
from vrstc_jax.inference.plan import Plan
from vrstc_jax.models.model_file import load_model, load_reid
from vrstc_jax.recipes import five_steps
from vrstc_jax.recipes.five_steps import SPLITS, STEPS, Options, job, ranking, read_located, read_splits
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.workdir import Workdir

pytestmark = pytest.mark.usefixtures("quick_compilation", "compiled_once")


def write(path):
    write_set(path, walker_splits(PROTOCOL))


def run(work, config=CONFIG, *, write=write, **options):
    """(results, printed lines)."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        results = five_steps.run(work, config, write, inputs={"dataset": "walkers"}, **options)
    return results, printed.getvalue().splitlines()


never = mock.Mock(side_effect=AssertionError("the data are there already"))


def with_stand_ins(work, *args, **options):
    """A whole run: where, its results and printed lines, and what was trained."""
    with pytest.MonkeyPatch.context() as patch:
        stand_ins = patched(patch)
        results, said = run(work, *args, **options)
    return SimpleNamespace(work=work, results=results, said=said, trained=stand_ins)


@pytest.fixture(scope="module")
def done(tmp_path_factory, quick_compilation, compiled_once):
    return with_stand_ins(tmp_path_factory.mktemp("steps") / "work")


@pytest.fixture
def again(done, tmp_path):
    """A copy of it."""
    return Path(shutil.copytree(done.work, tmp_path / "work", copy_function=shutil.copy2))


FILES = ("reid.safetensors", "scores/train.npz", "scores/query.npz", "scores/gallery.npz", "locating.json",
         "model.safetensors", "final.safetensors", "before.safetensors", "results.json", "features.npz",
         "ranked.png")
# What says that a step is done.
PLACES = dict(zip(STEPS, ("data", "reid.safetensors", "locating.json", "model.safetensors", "completed",
                          "results.json")))


def contents(work):
    return {name: (work / name).read_bytes() for name in FILES}


def times(work):
    return {path.relative_to(work): path.stat().st_mtime_ns for path in work.rglob("*") if path.is_file()}


def names(work):
    return {path.name for path in work.iterdir()}


def goes_on_to_the_same(work, done, **options):
    """Runs what is left to do, which must give the results and files of `done`: the printed lines."""
    results, said = run(work, **{"write": never} | options)
    assert results == done.results and contents(work) == contents(done.work)
    return said


@contextlib.contextmanager
def interrupted(target, call=1, *, when=lambda *_: True):
    """Expects a run that the `call`-th call of 'module.function' or 'module.Class.method' ends, as Ctrl-C would.

    Of calls for whose arguments `when` is true.
    """
    original, calls = pkgutil.resolve_name(target), itertools.count(1)

    def counted(*args, **kwargs):
        if when(*args) and next(calls) == call:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    with mock.patch(target, counted), pytest.raises(KeyboardInterrupt):
        yield


@contextlib.contextmanager
def record_of(work):
    """experiment.json, to be changed."""
    record = json.loads((work / "experiment.json").read_text())
    yield record
    (work / "experiment.json").write_text(json.dumps(record))


def assert_same_frames(one, other):
    np.testing.assert_array_equal(np.stack(one[:]), np.stack(other[:]))


def assert_same_sets(one, other):
    for split in SPLITS:
        for mine, theirs in zip(*(read_set(directory, split).tracklets for directory in (one, other)), strict=True):
            assert (mine.name, mine.frame_names) == (theirs.name, theirs.frame_names)
            assert_same_frames(mine.frames, theirs.frames)
            assert_same_frames(mine.masks, theirs.masks)


def assert_figures(figures, arrays):
    """Rank-1 and mAP by the definition, with NumPy, from the arrays of features.npz."""
    def units(features):
        return features / np.linalg.norm(features, axis=1, keepdims=True)

    firsts, precisions = [], []
    for feature, person, camera in zip(units(arrays["query"]), arrays["query_persons"], arrays["query_cameras"]):
        same = arrays["gallery_persons"] == person
        kept = ~(same & (arrays["gallery_cameras"] == camera)) & (arrays["gallery_persons"] != "-1")
        right = same[kept][np.argsort(1 - units(arrays["gallery"][kept]) @ feature, kind="stable")]
        places = np.flatnonzero(right) + 1
        assert len(places)
        firsts.append(places[0] == 1)
        precisions.append(np.mean(np.arange(1, len(places) + 1) / places))
    assert figures["rank1"] == pytest.approx(np.mean(firsts)) and figures["queries"] == len(firsts)
    assert figures["map"] == pytest.approx(np.mean(precisions))


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


class TestOptions:
    @pytest.fixture(scope="class")
    def given(self, tmp_path_factory, quick_compilation, compiled_once):
        """By the data's masks, without comparison, queries in the gallery, and the folder is kept."""
        return with_stand_ins(
            tmp_path_factory.mktemp("given") / "work", dataclasses.replace(CONFIG, final_from_first=False),
            backbone=lambda: {"marked": 1}, options=Options(
                hidden="given", compare=False, queries_in_gallery=True, queries_in_official_gallery=True,
                keep_folder=True))

    def test_masks_say_what_is_hidden(self, given):
        raw, completed = read_splits(given.work / "data"), read_splits(given.work / "completed")
        clean = [[i for i, mask in enumerate(t.masks) if not mask.any()] for t in raw["train"].tracklets]
        assert [each.frames.tolist() for each in given.trained.calls[1].seen] == clean
        changed = hidden = 0
        for split in SPLITS:
            for before, after in zip(raw[split].tracklets, completed[split].tracklets, strict=True):
                masks, filled, frames = (np.stack(arrays[:]) for arrays in (before.masks, after.frames, before.frames))
                assert_same_frames(after.masks, masks)
                np.testing.assert_array_equal(filled[~masks], frames[~masks])
                changed += (filled != frames).any(-1)[masks].sum()
                hidden += masks.sum()
        assert changed > 0.9 * hidden > 100

    def test_the_folder_has_the_same_tree_and_names(self, given):
        folder, completed = given.work / "completed_frames", read_splits(given.work / "completed")
        tracklets = [t for data in completed.values() for t in data.tracklets]
        assert times(folder).keys() == {Path(t.name, f"{name}.png") for t in tracklets for name in t.frame_names}
        details = given.work / "completed_details"
        assert names(details) == {"masks", "scores", "run.json"}
        # What reads such folders reads this one.
        read = {t.name: t for t in read_folder(folder, pattern="person/camera/tracklet/frame")}
        for tracklet in tracklets:
            mine = read.pop(tracklet.name)
            assert (mine.person, mine.camera) == (tracklet.person, tracklet.camera)
            assert_same_frames(mine.frames, tracklet.frames)
            mask = read_mask(details / "masks" / tracklet.name / "000002.png")
            np.testing.assert_array_equal(mask, tracklet.masks[1])
        assert not read

    def test_without_comparison(self, given):
        assert list(given.results["evaluations"]) == ["after completion"]
        assert given.trained.names() == ["re-ID network", "STCnet", "final network, after completion"]
        assert not (given.work / "before.safetensors").exists() and not (given.work / "ranked.png").exists()

    def test_both_galleries_are_ranked_in(self, given):
        """Each by NumPy from what other tools are given; the official one is marked."""
        results = given.results
        assert (results["gallery"], results["official"]) == ("with the queries", True)
        other = results["other_gallery"]
        assert (other["gallery"], other["official"]) == ("without the queries", False)
        with np.load(given.work / "features.npz") as stored:
            arrays = dict(stored)
        assert len(arrays["gallery"]) == 2 + 3 and arrays["gallery_names"][:2].tolist() == [
            t.name for t in read_set(given.work / "completed", "query").tracklets]
        np.testing.assert_array_equal(arrays["gallery"][:2], arrays["query"])
        for found in (results, other):
            assert found["evaluations"].keys() == {"after completion"}
            assert_figures(found["evaluations"]["after completion"], arrays)
            # Without the queries the gallery is what follows them.
            arrays |= {name: value[2:] for name, value in arrays.items() if name.startswith("gallery")}

    def test_what_networks_start_from(self, given):
        networks = [call for call in given.trained.calls if call.name != "STCnet"]
        assert [call.start_from for call in networks] == [{"marked": 1}] * 2

    def test_masks_that_are_not_there(self, trained, tmp_path):
        with refused("tracklet 0000000/c0/t0 of train: has no masks"):
            run(tmp_path / "work", write=lambda path: write_set(path, all_with(masks=None)),
                options=Options(hidden="given"))
        assert not trained.calls and not names(tmp_path / "work")


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


def stored_as_files(directory):
    """The walkers as a folder of person/camera/tracklet/frame, with splits.txt: a source for the data set `folder`."""
    lines = []
    for split, tracklets in walker_splits(PROTOCOL).items():
        for tracklet in tracklets:
            for name, frame in zip(tracklet.frame_names, tracklet.frames):
                write_png(directory / tracklet.name / f"{name}.png", frame)
            lines.append(f"{split} {tracklet.name}")
    (directory / "splits.txt").write_text("\n".join(lines))
    return directory


class TestDataThatChange:
    @pytest.fixture(scope="class")
    def first(self, tmp_path_factory, quick_compilation, compiled_once):
        """A whole run on a folder, which each test has a copy of."""
        top = tmp_path_factory.mktemp("changing")
        self.run(stored_as_files(top / "source"), top / "work")
        return top

    @pytest.fixture
    def copy(self, first, tmp_path):
        shutil.copytree(first, tmp_path, copy_function=shutil.copy2, dirs_exist_ok=True)
        return tmp_path / "source", tmp_path / "work"

    @staticmethod
    def run(source, work, **options):
        data = five_steps.DataSource(
            write=lambda path: datasets.build("folder", path, manual_dir=source, progress=lambda _: None),
            read=lambda: datasets.read("folder", manual_dir=source))
        return with_stand_ins(work, write=data, **options)

    @staticmethod
    def a_frame(source):
        return min((source / "splits.txt").parent.rglob("*.png"))

    def test_nothing_changed_or_only_times(self, copy, capsys):
        for file in copy[0].rglob("*.png"):
            os.utime(file, (1, 1))
        assert self.run(*copy).said[-1].endswith("nothing is left to do (--from STEP does steps again).")
        assert capsys.readouterr().err == ""

    def test_a_frame_changed(self, copy, trained):
        source, work = copy
        file = self.a_frame(source)
        write_png(file, 255 - read_image(file))
        before = contents(work)
        for start in (None, "rank"):
            with refused(f"{work / 'data'}: 1 of its tracklets changed since", "(--from data)",
                         file.parent.relative_to(source)):
                self.run(source, work, start=start)
        assert contents(work) == before
        again = self.run(source, work, start="data")
        assert [line.partition(": done")[0] for line in again.said[1:]] == list(STEPS[1:])
        np.testing.assert_array_equal(
            next(t for of_split in read_splits(work / "data").values() for t in of_split.tracklets
                 if t.name == str(file.parent.relative_to(source))).frames[0], read_image(file))

    def test_one_that_went_and_one_that_came(self, copy):
        source, work = copy
        file = self.a_frame(source)
        file.rename(file.with_name("later.png"))
        with refused("1 of its tracklets changed since"):
            self.run(source, work)

    def test_a_source_that_is_gone(self, copy, capsys):
        shutil.rmtree(copy[0])
        assert "nothing is left to do" in self.run(*copy).said[-1]
        line, = capsys.readouterr().err.splitlines()
        assert line.startswith(f"vrstc: warning: {copy[1] / 'data'}: is used as it is") and "no such folder" in line

    def test_a_set_that_is_taken_away_and_made_of_other_pictures(self, copy):
        """What was trained on the first is not taken for trained on the second."""
        source, work = copy
        file = self.a_frame(source)
        write_png(file, 255 - read_image(file))
        shutil.rmtree(work / "data")
        for left in ("results.json", "final.safetensors", "before.safetensors"):
            (work / left).unlink()
        with refused("reid.safetensors: was made from other data or results", "(--from reid)"):
            self.run(source, work)
        assert "reid: done in" in "".join(self.run(source, work, start="reid").said)

    def test_a_set_of_the_same_pictures_again(self, copy):
        source, work = copy
        shutil.rmtree(work / "data")
        (work / "results.json").unlink()
        assert [line.partition(" in ")[0] for line in self.run(source, work).said if "done in" in line] == [
            "data: done", "rank: done"]

    def test_of_an_earlier_version(self, copy, capsys):
        source, work = copy
        (work / "made_from.json").unlink()
        write_png(self.a_frame(source), 255 - read_image(self.a_frame(source)))
        assert "nothing is left to do" in self.run(source, work).said[-1]
        line, = capsys.readouterr().err.splitlines()
        assert line.startswith(f"vrstc: warning: {work}: is of an earlier version") and "cannot be seen" in line


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


def test_a_folder_of_somebody_else_is_refused_and_kept(tmp_path):
    """`--from data` would remove the user's own data/."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "theirs.txt").write_text("theirs")
    with refused("not empty"):
        five_steps.run(tmp_path, CONFIG, lambda path: None, start="data")
    assert (tmp_path / "data" / "theirs.txt").read_text() == "theirs"


def test_what_says_that_a_step_is_done_goes_first():
    assert {step: left[0] for step, left in job.LEFT_BY.items()} == PLACES


def all_with(**changes):
    return {split: [dataclasses.replace(t, **changes) for t in tracklets]
            for split, tracklets in walker_splits(PROTOCOL).items()}


def with_split(split, tracklets):
    return walker_splits(PROTOCOL) | {split: tracklets}


def only(split, **changes):
    """The walkers, with something changed in one tracklet of a split."""
    *others, last = walker_splits(PROTOCOL)[split]
    return with_split(split, [*others, dataclasses.replace(last, **changes)])


UNUSABLE = {
    "tracklet 0000002/c1/t0 of train: its camera is not known": lambda: only("train", camera=None),
    "tracklet 1000001/c0/t0 of query: its person is not known": lambda: only("query", person=None),
    "tracklet 1000002/c1/t0 of gallery: its person is not known": lambda: only("gallery", person=None),
    "The split train has 2 tracklets of 1 people (0000000); telling":
        lambda: with_split("train", walker_splits(PROTOCOL)["train"][:2]),
    "The split train has 0 tracklets of 0 people;": lambda: with_split("train", []),
    "No tracklet of train has two frames (the first is 0000000/c0/t0)":
        lambda: with_split("train", walker_splits(dataclasses.replace(PROTOCOL, frames=1))["train"]),
    "None of the 2 queries, the first of which is tracklet 1000000/c0/t0, has a match among the 3 ":
        lambda: all_with(camera="c0"),
    "Ranking needs queries and a gallery. Got 0 and 3 tracklets": lambda: with_split("query", []),
    "Ranking needs queries and a gallery. Got 2 and 0 tracklets": lambda: with_split("gallery", []),
    "tracklet scores/c1 of gallery: its folder scores is one of the names": lambda: only("gallery", name="scores/c1"),
}


class TestDataThatCannotBeUsed:
    @pytest.mark.parametrize("said", UNUSABLE)
    def test_is_told_before_any_training(self, trained, tmp_path, said):
        for _ in range(2):  # and the directory is free for another attempt
            with refused(said):
                run(tmp_path / "w", write=lambda path: write_set(path, UNUSABLE[said]()))
            assert not names(tmp_path / "w")
        assert not trained.calls

    def test_stopped_before_it_was_told(self, tmp_path):
        """The set is written by then."""
        with interrupted("vrstc_jax.recipes.five_steps.job.require_trainable"):
            run(tmp_path / "w", write=lambda path: write_set(path, all_with(camera="c0")))
        assert (tmp_path / "w/data").exists()
        with refused("has a match"):
            run(tmp_path / "w", write=never)
        assert not names(tmp_path / "w")

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


class TestGalleries:
    """Of ann and bob in camera 1 as queries, whose features lie in the order ann, bob, ann in camera 2."""

    @pytest.fixture
    def asked(self, monkeypatch):
        """What features were asked for; they are angles, which the tracklets' names say."""
        asked = []

        def features_of(model, tracklets, path=None):
            asked.append([t.name for t in tracklets])
            angles = np.array([float(t.name) for t in tracklets])
            return np.stack([np.cos(angles), np.sin(angles)], 1)

        monkeypatch.setattr(ranking.retrieval, "features_of", features_of)
        return asked

    @staticmethod
    def sets(query, gallery):
        return {split: SimpleNamespace(tracklets=[tracklet(figures(1), name=name, person=person, camera=camera)
                                                  for name, person, camera in rows])
                for split, rows in (("query", query), ("gallery", gallery))}

    QUERY, GALLERY = [("0.0", "ann", "1"), ("0.1", "bob", "1")], [("0.3", "ann", "2"), ("0.5", "bob", "2")]

    @pytest.mark.parametrize("joined", [True, False])
    def test_both_from_the_same_features(self, asked, joined):
        options = Options(queries_in_gallery=joined, queries_in_official_gallery=True)
        found = five_steps.evaluate_galleries(None, self.sets(self.QUERY, self.GALLERY), options)
        assert asked == [["0.0", "0.1", "0.3", "0.5"]]
        # ann finds bob first only where he is in the gallery; bob finds ann's two first, or her one.
        assert found[False].ranking.first_hit.tolist() == [1, 2]
        assert found[True].ranking.first_hit.tolist() == [2, 3]
        assert found[True].features[1].shape == (4, 2) and found[False].features[1].shape == (2, 2)
        for with_queries, evaluation in found.items():
            one = five_steps.evaluate_galleries(None, self.sets(self.QUERY, self.GALLERY),
                                                Options(queries_in_gallery=with_queries))
            assert list(one) == [with_queries] and one[with_queries].figures() == evaluation.figures()
        for official in (True, False):
            results = ranking.figures({"after completion": found}, dataclasses.replace(
                options, queries_in_official_gallery=official))
            names = [("with" if with_queries else "without") + " the queries" for with_queries in (joined, not joined)]
            assert [each["gallery"] for each in (results, results["other_gallery"])] == names
            assert [each["official"] for each in (results, results["other_gallery"])] == [
                joined == official, joined != official]
            assert results["evaluations"]["after completion"] == found[joined].figures()

    def test_matches_among_queries_alone(self, asked):
        """They are some where the queries have joined; in the other gallery there is nothing to judge."""
        sets = self.sets([*self.QUERY, ("0.4", "ann", "2")], [("0.3", "eve", "2")])
        sets["train"] = SimpleNamespace(tracklets=[tracklet(figures(2), name=name, person=name, camera="1")
                                                   for name in "cd"])
        options = Options(queries_in_gallery=True, queries_in_official_gallery=True)
        five_steps.require_trainable(sets, options)
        found = five_steps.evaluate_galleries(None, sets, options)
        assert found.keys() == {True} and found[True].figures()["left_out"] == 1
        results = ranking.figures({"after completion": found}, options)
        assert results["other_gallery"] == {"gallery": "without the queries", "official": False, "evaluations": {}}
        with refused("None of the 3 queries"):
            five_steps.require_trainable(sets)


def test_data_that_are_refused_do_not_claim_the_directory(tmp_path):
    refuse = mock.Mock(side_effect=InputError("no such data"))
    for _ in range(2):
        with refused("no such data"):
            five_steps.run(tmp_path / "w", CONFIG, refuse, inputs={"manual_dir": "typo"})
    assert not names(tmp_path / "w")


@pytest.mark.parametrize("damage", ["", "[1]", '{"reid": 3}', '{"reid": '])
def test_a_damaged_record_of_what_results_were_made_from(tmp_path, damage):
    (tmp_path / "made_from.json").write_text(damage)
    with pytest.raises(InputError, match=r"made_from\.json: this record cannot be used \(.*\); remove it"):
        job._made_from(Workdir(tmp_path), "reid", "data")
