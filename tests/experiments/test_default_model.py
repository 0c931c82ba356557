"""The model that comes with the package: who uses it, how it is made, and what a damaged one leads to."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from people import SMOKE, figures, random_model
from refusals import refused

from experiments import default_model, starting_weights
from experiments import vrstc as vrstc_experiment
from experiments.settings import changed
from vrstc_jax import cli
from vrstc_jax.cli.footage import Footage
from vrstc_jax.data.images import read_image, write_png
from vrstc_jax.data.tracklet_set import read_set
from vrstc_jax.data.walkers import KINDS, Variety, WalkerConfig, make_tracklet, people
from vrstc_jax.models import model_card
from vrstc_jax.models import model_file as models
from vrstc_jax.models.model_file import default_model_path, load_model, load_reid, save_model
from vrstc_jax.models.tensor_file import tensors_digest
from vrstc_jax.recipes import demo
from vrstc_jax.recipes.fit import starting_from
from vrstc_jax.runtime.errors import InputError

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture
def default(tmp_path, monkeypatch):
    """A model of random weights instead of the default one."""
    path = tmp_path / "weights.safetensors"
    save_model(path, dataclasses.replace(random_model(), tau=-0.99), half=True)
    # Each by its own name, also where a test before this one imported it.
    for module in (models, model_card, demo):
        monkeypatch.setattr(module, "default_model_path", lambda: path)
    return path


@pytest.fixture
def crops(tmp_path):
    for i, frame in enumerate(figures(30)):
        write_png(tmp_path / f"crops/7/{i:03d}.png", frame)
    return tmp_path / "crops"


def vrstc(capsys, *words):
    """(exit code, what was printed, what was complained)."""
    with pytest.raises(SystemExit) as ended:
        cli.main(list(map(str, words)))
        raise SystemExit(0)
    said = capsys.readouterr()
    return ended.value.code, said.out, said.err


class TestHalfPrecision:
    def test_comes_back_as_float32_rounded_once(self, tmp_path):
        model = random_model()
        save_model(tmp_path / "half", model, half=True)
        save_model(tmp_path / "whole", model)
        loaded = load_model(tmp_path / "half")
        for part in ("generators", "discriminators", "reid"):
            for mine, theirs in zip(*(jax.tree.leaves(getattr(m, part)) for m in (model, loaded)), strict=True):
                assert theirs.dtype == np.float32
                np.testing.assert_array_equal(theirs, np.asarray(mine).astype(np.float16))
        assert os.path.getsize(tmp_path / "half") < 0.7 * os.path.getsize(tmp_path / "whole")
        save_model(tmp_path / "again", loaded, half=True)
        assert load_model(tmp_path / "again").digest == loaded.digest


class TestWithoutAModelNamed:
    def test_complete_uses_it_and_says_so(self, default, crops, tmp_path, capsys):
        code, out, err = vrstc(capsys, "complete", crops, "--output", tmp_path / "out")
        assert code == 0 and "the default model" in err and "30 frames" in out
        assert json.loads((tmp_path / "out/run.json").read_text())["model"] == load_model(default).digest
        assert read_image(tmp_path / "out/7/004.png").shape == (40, 20, 3)

    def test_judge_hides_runs_of_nine_that_it_never_saw(self, default, crops, capsys):
        for words, run in (((), "9"), (("--hold-out", 4), "4")):
            code, out, err = vrstc(capsys, "judge", crops, *words)
            assert code == 0 and "the default model" in err
            assert [line.split()[-1] for line in out.splitlines() if line.startswith("stcnet")][0] == run

    def test_judge_says_why_it_cannot(self, default, crops, tmp_path, capsys):
        fitted = dataclasses.replace(random_model(), provenance={"inputs": Footage().identity(crops)})
        save_model(tmp_path / "fitted", fitted)
        for words, said in (((11,), "no tracklet has a run of 11 frames"), ((3, "--truth", crops), "give one of them"),
                            ((3, "--model", tmp_path / "fitted"), "was fitted to this footage")):
            code, _, err = vrstc(capsys, "judge", crops, "--hold-out", *words)
            assert code == 2 and said in err.splitlines()[-1]

    def test_show(self, default, capsys):
        code, out, _ = vrstc(capsys, "model", "show")
        assert code == 0 and f"{default}: the default model, size smoke" in out
        assert load_model().digest in out and "tau -0.9900" in out
        code, out, _ = vrstc(capsys, "model", "show", default)
        assert code == 0 and f"{default}: a VRSTC model" in out

    def test_a_damaged_one(self, default, crops, tmp_path, capsys):
        data = bytearray(default.read_bytes())
        data[-100] ^= 4
        default.write_bytes(data)
        code, _, err = vrstc(capsys, "complete", crops, "--output", tmp_path / "out")
        assert code == 2 and len(err.splitlines()) == 1 and f"{default}: the model file is damaged" in err
        default.unlink()
        code, _, err = vrstc(capsys, "complete", crops, "--output", tmp_path / "out")
        assert code == 2 and "install vrstc_jax again" in err and not (tmp_path / "out").exists()


def test_a_first_picture(default, tmp_path, capsys):
    """Three groups of four rows of frames; what is not outlined in the first row is what was seen."""
    look = WalkerConfig(height=32, width=16, frames=8, occlusion=1.0)
    walkers = [make_tracklet(who, 0, config=look) for who in people("test", 12)]
    demo._first_picture(tmp_path / "first.png", walkers)
    assert "first.png" in capsys.readouterr().out
    picture = read_image(tmp_path / "first.png")
    assert picture.shape == (3 * 4 * (2 * 32 + 2) + 2 * 12, 8 * (2 * 16 + 2), 3)
    default.unlink()
    demo._first_picture(tmp_path / "second.png", walkers)
    assert not (tmp_path / "second.png").exists()


class TestFitGoesOn:
    def test_with_what_the_model_has(self, tmp_path):
        start = dataclasses.replace(random_model(), tau=0.25)
        config = starting_from(start, SMOKE)
        assert config.tau == 0.25 and config.reid == SMOKE.reid and config.reid_training.only == ()
        with_head = changed(SMOKE, {"reid": {"locating_loss": 1.0, "locating_width": 4}})
        config = starting_from(dataclasses.replace(start, config=with_head), with_head)
        assert config.reid_training.only == ("classifier",)
        assert config.stcnet_training.steps == 1500 and config.stcnet_training.batch == SMOKE.stcnet_training.batch
        two = changed(SMOKE, {"stcnet": {"frames_per_side": 2}})
        assert starting_from(dataclasses.replace(start, config=two), SMOKE).stcnet == two.stcnet
        with pytest.raises(InputError, match="size smoke.*--fresh"):
            starting_from(start, changed(SMOKE, {"stcnet": {"height": 64}}))

    @pytest.mark.slow
    def test_after_no_step_it_is_the_model(self, crops, tmp_path, capsys):
        """A learning rate of almost nothing leaves what it began with, where a fresh start would not."""
        save_model(tmp_path / "start", dataclasses.replace(random_model(), tau=-0.99))
        words = ("fit", crops, "--output", tmp_path / "fitted", "--size", "smoke", "--steps", 2, "--reid-steps", 1)
        code, _, err = vrstc(capsys, *words, "--start-from", tmp_path / "start", "--learning-rate", 1e-9)
        assert code == 0, err
        fitted = load_model(tmp_path / "fitted")
        assert fitted.provenance["started_from"] == load_model(tmp_path / "start").digest and fitted.tau == -0.99
        for mine, theirs in zip(jax.tree.leaves(random_model().generators), jax.tree.leaves(fitted.generators)):
            np.testing.assert_allclose(theirs, mine, atol=1e-6)

    def test_contradictions(self, crops, tmp_path, capsys):
        code, _, err = vrstc(capsys, "fit", crops, "--output", tmp_path / "m", "--fresh", "--start-from",
                             tmp_path / "x")
        assert code == 2 and "contradict" in err


class TestStepOneBeginsWithIt:
    def test_where_the_network_is_of_its_shape(self, default, monkeypatch):
        monkeypatch.setattr(starting_weights, "default_model_path", lambda: default)
        config, read, digest = starting_weights.beginning(SMOKE)
        assert config.tau == -0.99 and config.reid_training.only == ("classifier",)
        assert dataclasses.replace(config, tau=SMOKE.tau, reid_training=SMOKE.reid_training) == SMOKE
        wanted = load_model(default).reid
        assert jax.tree.all(jax.tree.map(np.array_equal, read(), wanted)) and digest == tensors_digest(wanted)
        # The digest is of this network alone: other generators beside it are nothing to step 1.
        other = dataclasses.replace(load_model(default), generators=random_model(seed=1).generators)
        save_model(default, other, half=True)
        assert starting_weights.beginning(SMOKE)[2] == digest
        # How it was taught to locate says nothing of its shape.
        assert starting_weights.beginning(changed(SMOKE, {"reid": {"locating_masks": True}}))[2] == digest
        for of_reid in ({"height": 64}, {"locating_loss": 1.0, "locating_width": 4}):
            config = changed(SMOKE, {"reid": of_reid})
            assert starting_weights.beginning(config) == (config, None, None)
        assert starting_weights.beginning(SMOKE, fresh=True) == (SMOKE, None, None)
        default.unlink()
        assert starting_weights.beginning(SMOKE) == (SMOKE, None, None)

    def test_a_quantile_is_taken_before_its_tau(self, default, monkeypatch, tmp_path):
        monkeypatch.setattr(starting_weights, "default_model_path", lambda: default)
        asked = []
        monkeypatch.setattr(vrstc_experiment.five_steps, "run", lambda work, config, write, **_: asked.append(config))
        monkeypatch.setattr(vrstc_experiment, "format_results", lambda results: "")
        for given in ({}, {"tau_quantile": 0.2}):
            vrstc_experiment.main(vrstc_experiment.Arguments(tmp_path, size="smoke", **given))
        assert [(config.tau, config.tau_quantile) for config in asked] == [(-0.99, SMOKE.tau_quantile), (None, 0.2)]
        assert all(config.reid_training.only == ("classifier",) for config in asked)


class TestRecipe:
    ARGUMENTS = default_model.Arguments(workdir=Path("unused"), size="smoke")

    def test_the_network_that_locates_learns_from_masks(self):
        config = default_model.config_of(dataclasses.replace(self.ARGUMENTS, size="small", seed=3, stcnet_steps=7))
        assert config.reid.locating_masks and config.reid.locating_width and config.reid.locating_loss
        assert (config.seed, config.stcnet_training.steps) == (3, 7)

    def test_the_walkers(self, tmp_path):
        amount = dataclasses.replace(default_model.AMOUNTS["smoke"], people=2, validation=1, frames=3)
        config = default_model.config_of(self.ARGUMENTS)
        variety = Variety(**dict.fromkeys(KINDS[:3], True))
        default_model.write_walkers(tmp_path / "data", amount, variety, config)
        train, validation = (read_set(tmp_path / "data", split) for split in ("train", "validation"))
        assert [t.person for t in train.tracklets] == ["0000000"] * 2 + ["0000001"] * 2
        assert {t.person for t in validation.tracklets} == {"0000002"}  # of people that no training sees
        look = WalkerConfig(height=32, width=16, frames=3, occlusion=0.8, persistent=0.1, variety=variety)
        wanted = make_tracklet(1, 1, config=look)
        np.testing.assert_array_equal(np.stack(train.tracklets[3].frames[:]), np.stack(wanted.frames[:]))
        np.testing.assert_array_equal(np.stack(train.tracklets[3].masks[:]), np.stack(wanted.masks[:]))

    def test_bad_numbers_are_one_line_before_anything_is_done(self, tmp_path):
        for change, said in (({"stcnet_steps": 0}, "--stcnet-steps must be more than 0"),
                             ({"without": ("hats",)}, "no kind of variety 'hats'; choose from people; ")):
            with refused(said):
                default_model.main(default_model.Arguments(workdir=tmp_path / "w", size="smoke", **change))
        assert not (tmp_path / "w").exists()


@pytest.mark.slow
def test_it_is_made_and_goes_on_where_it_was_killed(tmp_path):
    """Twice at smoke size, the second time killed whenever a step has left its result."""
    def start(work):
        root = Path(__file__).resolve().parents[2]
        return subprocess.Popen([sys.executable, "-m", "experiments.default_model", "--size", "smoke", "--workdir",
                                 str(work)], cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                env=os.environ | {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"})

    whole = start(tmp_path / "whole")
    assert whole.wait(900) == 0, whole.stderr.read()[-2000:]
    for result in ("data", "reid.safetensors", "head.safetensors", "locating.json"):
        process = start(tmp_path / "killed")
        while not (tmp_path / "killed" / result).exists():
            assert process.poll() is None, process.stderr.read()[-2000:]
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert start(tmp_path / "killed").wait(900) == 0
    one, other = (load_model(tmp_path / work / "model.safetensors") for work in ("whole", "killed"))
    assert one.digest == other.digest and one.tau == other.tau
    assert one.provenance["reached"] == other.provenance["reached"]
    assert set(one.provenance["reached"]) == {"plain", "varied"} and one.config.reid.locating_stages
    # The head came later; the network below it, which guided the generators, is as it was.
    first = load_reid(tmp_path / "whole/reid.safetensors").variables
    assert jax.tree.all(jax.tree.map(lambda a, b: np.array_equal(np.asarray(a).astype(np.float16), b),
                                     first["params"]["backbone"], one.reid["params"]["backbone"]))


@pytest.fixture(scope="module")
def shipped():
    if not default_model_path().is_file():
        pytest.skip("the default model is not in this checkout")
    return load_model()


class TestTheOneThatShips:
    def test_what_it_is(self, shipped):
        assert default_model_path().stat().st_size <= 25 * 10**6
        assert shipped.config.name == "small" and shipped.config.reid.locating_width
        assert shipped.provenance["made of"] == "made-up walkers" and len(shipped.provenance["commit"]) == 40
        assert {"plain", "varied"} == set(shipped.provenance["reached"])

