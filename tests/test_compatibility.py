"""What commit 1c91c4c wrote still opens, the work that it left unfinished goes on, and its public surface is there.

`fixtures/README.md` says what the files hold and how they were made. Commands run in this process as
`python -m` runs them. What is read is compared bit for bit, what is computed again within the tolerances below: sums
depend on the processor and on what XLA makes of a network. Records of runs hold absolute paths, which `Place.unpack`
replaces by those of the test's folder.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from earlier_version import (
    ARRAYS,
    EXPECTED,
    FIXTURES,
    LEVELS,
    OLD,
    SCORES,
    Place,
    assert_close,
    assert_like_folder,
    assert_same_config,
    assert_same_features,
    assert_same_pixels,
    assert_same_set,
    assert_same_tensors,
    crops,
    read_splits,
    refusal,
    succeeds,
)

import vrstc_jax
from vrstc_jax import config as configs

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty place with the inputs in it."""
    jax.devices()  # before a command says how many there are to be, for this process and its other tests
    monkeypatch.chdir(tmp_path.resolve())
    place = Place(tmp_path.resolve())
    place.unpack("inputs")
    return place


@pytest.fixture
def with_models(place):
    place.unpack("models")  # below models/
    return place


@pytest.fixture
def tiny(monkeypatch):
    """In place of `smoke`, the smaller size that some fixtures are of."""
    monkeypatch.setitem(configs.SIZES, "smoke", configs.from_dict(EXPECTED["tiny"]))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The folder of model files."""
    return Place(tmp_path_factory.mktemp("models")).unpack("models") / "models"


def slow(*values: str) -> list:
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


class TestModelFiles:
    @pytest.mark.parametrize("name", EXPECTED["models"])
    def test_what_a_file_holds(self, models, name):
        expected = EXPECTED["models"][name]
        model = reid = vrstc_jax.load_reid(models / f"{name}.safetensors")  # of a whole model, the one in it
        if "tau" in expected:
            model = vrstc_jax.load_model(models / f"{name}.safetensors")
            assert model.tau == expected["tau"] and model.config.reid == reid.config
        else:
            assert model.network == expected["network"]
        assert model.digest == reid.digest == expected["digest"] and list(model.identities) == expected["identities"]
        assert json.loads(json.dumps(model.provenance)) == expected["provenance"]
        if "config" in expected:
            assert_same_config(model.config, expected["config"])

    def test_it_is_shown(self, models):
        for name, figures in {"smoke": ("20,811", "2,114", "20,478", "0.85", "26"), "named-paper": ("0.25",),
                              "named-paper_literal": ("0.25",), "named-mars_paper": ("0.25",)}.items():
            shown = succeeds("model", "show", str(models / f"{name}.safetensors")).out
            assert EXPECTED["models"][name]["digest"] in shown and all(figure in shown for figure in figures)

    def test_it_completes_as_it_did(self, models, place):
        model = vrstc_jax.load_model(models / "smoke.safetensors")
        done = vrstc_jax.complete_tracklet(model, crops(place, "0001/c1/t1"))
        assert list(done.how) == EXPECTED["models"]["smoke"]["how"] and {"stcnet", "visible"} <= set(done.how)
        np.testing.assert_array_equal(done.masks, ARRAYS["smoke masks"])
        np.testing.assert_array_equal(done.sources, ARRAYS["smoke sources"])
        np.testing.assert_allclose(done.scores, ARRAYS["smoke scores"], atol=SCORES)
        assert_same_pixels(done.frames, ARRAYS["smoke frames"])

    def test_it_ranks_as_it_did(self, models, place):
        shown = succeeds("rank", "crops", "--query", "0001/c1/t1", "--model", str(models / "smoke.safetensors")).out
        found, expected = ({line.split()[1]: float(line.split()[2]) for line in text.splitlines()}
                           for text in (shown, EXPECTED["models"]["smoke"]["ranked"]))
        assert list(found) == list(expected) == ["0001/c2/t1", "0002/c1/t7"]
        assert found == pytest.approx(expected, abs=SCORES)

    @pytest.mark.parametrize("form", ["attention", *slow("concatenation", "autoencoder", "none")])
    def test_every_form_of_stcnet(self, models, place, form):
        masks = np.zeros((6, 40, 20), bool)
        masks[2, 20:] = True
        model, frames = vrstc_jax.load_model(models / f"form-{form}.safetensors"), crops(place, "0001/c1/t1")
        done = vrstc_jax.complete_tracklet(model, frames, masks).frames[2]
        assert_same_pixels(done, ARRAYS[f"form-{form} frame"])
        assert np.abs(done[20:].astype(int) - frames[2, 20:]).mean() > 10 * LEVELS  # something was painted in

    @pytest.mark.parametrize("pooling", ["average", *slow(
        "maximum", "temporal_attention", "diverse_attention", "astpn_one_sequence")])
    def test_features_of_every_pooling(self, models, place, pooling):
        network = vrstc_jax.load_reid(models / f"pooling-{pooling}.safetensors")
        features = vrstc_jax.tracklet_features(network, [crops(place, name) for name in (
            "0001/c1/t1", "0001/c2/t1", "0002/c1/t7")])
        assert_same_features(features, ARRAYS[f"pooling-{pooling} features"])


class TestSizes:
    @pytest.mark.parametrize("name", EXPECTED["sizes"])
    def test_a_config_by_its_old_name(self, name):
        recorded = EXPECTED["sizes"][name]
        assert_same_config(configs.get(name), recorded)
        assert_same_config(configs.from_dict(recorded), recorded)


class TestSets:
    @pytest.mark.parametrize("name", EXPECTED["fits"])
    def test_of_a_fit(self, place, name):
        (work,) = place.unpack("fits", f"fits/{name}").glob("*.work")
        assert_same_set(work / "tracklets", EXPECTED["fits"][name]["tracklets"])

    def test_of_completed_tracklets(self, place):
        place.unpack("results", "results/whole")
        assert_same_set(place.path / "completed.set", EXPECTED["results"]["set"])

    def test_with_splits(self, place):
        place.unpack("five_steps", "five_steps/whole")
        for name in ("data", "completed"):
            expected = EXPECTED["five_steps"][name]
            assert list(expected) == ["train", "query", "gallery"]
            assert_same_set(place.path / "five" / name, expected)


def steps(log: str) -> list[int]:
    return [json.loads(line)["step"] for line in log.splitlines()]


def assert_metrics(log: str, recorded: str):
    """The last line of metrics.jsonl: means over the last steps, of which a part was done before the interruption."""
    now, old = (json.loads(text.splitlines()[-1]) for text in (log, recorded))
    del old["steps_per_second"]
    assert_close(now, old)


class TestFit:
    @pytest.mark.parametrize("name", slow("cut-in-stcnet", "cut-in-reid"))
    def test_it_goes_on_with_the_step_at_which_it_was_cut_off(self, place, tiny, name):
        expected, part = EXPECTED["fits"][name], name.removeprefix("cut-in-")
        (work,) = place.unpack("fits", f"fits/{name}").glob("*.work")
        whole, words = place.unpack("fits", "fits/whole", to="whole"), list(expected["words"])
        if "--start-from" in words:
            words[words.index("--start-from") + 1] = str(whole / "tiny.safetensors")
        log = work / part / "metrics.jsonl"
        before, files = log.read_text(), place.files(work.name)
        assert steps(before) == [20]
        refusal(*words, "--seed", "1")
        assert place.files(work.name) == files
        succeeds(*words)
        # With the speed of the first twenty steps, so they were not done again.
        assert log.read_text().startswith(before) and steps(log.read_text()) == [20, 24]
        assert_metrics(log.read_text(), expected["metrics"][part])
        assert_metrics((work / "stcnet/metrics.jsonl").read_text(), expected["metrics"]["stcnet"])
        if part == "stcnet":  # what was finished is not touched
            finished = {path: file for path, file in files.items() if "/reid/" in path or "/tracklets/" in path}
            assert finished.items() <= place.files(work.name).items() and len(finished) > 10
        output = work.name.removesuffix(".work")
        model, old = vrstc_jax.load_model(output), vrstc_jax.load_model(whole / output)
        assert old.digest == expected["digest"] and model.identities == old.identities
        for parameters in ("generators", "discriminators", "reid"):
            assert_same_tensors(getattr(model, parameters), getattr(old, parameters))
        assert model.tau == pytest.approx(old.tau, abs=SCORES)
        assert set(old.provenance) <= set(model.provenance)
        assert model.provenance["held_out"] == old.provenance["held_out"]


class TestResults:
    def test_what_is_whole_is_not_done_again(self, with_models):
        with_models.unpack("results", "results/whole")
        before, old = with_models.files("completed"), json.loads(Path("completed/metrics.json").read_text())
        succeeds(*EXPECTED["results"]["words"]["completed"])
        after = with_models.files("completed")
        assert after.keys() == before.keys()
        assert {path for path in before if before[path] != after[path]} == {
            "completed/metrics.json", "completed/report.html"}
        # Judged are the frames that the model's training held out, and of footage in the same place alone.
        old = {name: value for name, value in old.items() if not name.startswith("judge")}
        assert {"tracklets", "frames", "frames_by_how", "tau", "warnings"} <= set(old)
        assert_close(json.loads(Path("completed/metrics.json").read_text()), old)
        assert_same_set("completed.set", EXPECTED["results"]["set"])
        assert with_models.files("completed.set")["completed.set/dataset_info.json"][1] != EXPECTED["changed"] * 10**9

    @pytest.mark.parametrize("name", ["completed", "clip"])
    def test_it_goes_on_with_the_tracklet_in_which_it_was_cut_off(self, with_models, name):
        with_models.unpack("results", "results/cut")
        whole = with_models.unpack("results", "results/whole", to="whole") / name
        words = EXPECTED["results"]["words"][name]
        done = [path.relative_to(f"{name}/scores").with_suffix("") for path in Path(name, "scores").rglob("*.json")]
        assert len(done) == 1 and Path(name, "work/tracklet0").exists()
        before = with_models.files(f"{name}/{done[0]}", f"{name}/masks/{done[0]}", f"{name}/scores/{done[0].parent}")
        assert len(before) == 2 * {"completed": 12, "clip": 14}[name] + 1
        refusal(*words, "--model", "models/form-none.safetensors")  # the folder is another's
        succeeds(*words)
        assert before.items() <= with_models.files(name).items()
        assert_like_folder(with_models.path / name, whole)
        assert not Path(name, "work").exists() and Path(name, "report.html").exists()

    def test_runs_that_training_held_out_are_judged(self, with_models):
        """They are in the model file's provenance."""
        old = json.loads((with_models.unpack("results", "results/judged", to="old") / "metrics.json").read_text())
        assert old["judge"]["stcnet"]["frames"] == 4
        succeeds("judge", "crops", "--model", "models/smoke.safetensors", "--output", "judged")
        assert_close(json.loads(Path("judged/metrics.json").read_text()), old, relative=0.01)


def features_in(work: Path) -> dict[str, list]:
    with np.load(work / "features.npz") as stored:
        return {name: array.tolist() for name, array in stored.items()}


class TestFiveSteps:
    EXPECTED = EXPECTED["five_steps"]

    def test_where_all_is_done_nothing_is_left_to_do(self, place, tiny):
        work = place.unpack("five_steps", "five_steps/whole") / "five"
        files = place.files("five")
        done = succeeds(*self.EXPECTED["words"])
        for figures in self.EXPECTED["results"]["evaluations"].values():
            for figure in ("rank1", "map"):
                assert f"{100 * figures[figure]:.1f}" in done.out
        refusal(*self.EXPECTED["words"], "--seed", "1")
        assert place.files("five") == files
        digests = self.EXPECTED["digests"]
        assert {name: vrstc_jax.load_reid(work / f"{name}.safetensors").digest for name in digests} == digests
        assert vrstc_jax.load_model(work / "model.safetensors").digest == digests["model"]
        assert features_in(work) == self.EXPECTED["features"]
        assert json.loads((work / "results.json").read_text()) == self.EXPECTED["results"]

    def test_it_goes_on_in_the_last_network(self, place, tiny):
        place.unpack("five_steps", "five_steps/cut-in-final")
        whole = place.unpack("five_steps", "five_steps/whole", to="whole") / "five"
        log = Path("five/final/metrics.jsonl")
        before, files = log.read_text(), place.files("five")
        assert steps(before) == [20]
        succeeds(*self.EXPECTED["words"])
        assert log.read_text().startswith(before) and steps(log.read_text()) == [20, 24]
        finished = {path: file for path, file in files.items() if "/final/" not in path}
        assert finished.items() <= place.files("five").items() and len(finished) > 50
        assert_same_tensors(vrstc_jax.load_reid("five/final.safetensors").variables,
                            vrstc_jax.load_reid(whole / "final.safetensors").variables)
        self.assert_ranked_alike()

    @pytest.mark.slow
    def test_it_goes_on_in_a_tracklet(self, place, tiny):
        place.unpack("five_steps", "five_steps/cut-in-complete")
        whole = place.unpack("five_steps", "five_steps/whole", to="whole") / "five"
        frames = {path.relative_to("five/completed_details/scores").with_suffix("")
                  for path in Path("five/completed_details/scores").rglob("*.json")}
        assert len(frames) == 5
        files = place.files("five/data", "five/scores", *(f"five/completed_frames/{name}" for name in frames))
        succeeds(*self.EXPECTED["words"])
        assert files.items() <= place.files("five").items() and len(files) > 30
        assert_like_folder(place.path / "five/completed_details", whole / "completed_details")
        assert_like_folder(place.path / "five/completed_frames", whole / "completed_frames")
        found, old = read_splits("five/completed"), read_splits(whole / "completed")
        for split in old:
            assert [(t.name, t.person, t.camera) for t in found[split]] == [
                (t.name, t.person, t.camera) for t in old[split]]
            for mine, theirs in zip(found[split], old[split]):
                assert_same_pixels(np.stack(mine.frames[:]), np.stack(theirs.frames[:]))
        self.assert_ranked_alike()

    def assert_ranked_alike(self):
        found, old = features_in(Path("five")), dict(self.EXPECTED["features"])
        for name in ("query", "gallery"):
            assert_same_features(found.pop(name), np.array(old.pop(name)))
        assert found == old
        results, old = json.loads(Path("five/results.json").read_text()), self.EXPECTED["results"]
        assert list(results["evaluations"]) == list(old["evaluations"])
        assert_close(results | {"command": ""}, old | {"command": ""})


@pytest.mark.slow
class TestDemo:
    def test_it_is_judged_again_and_nothing_else(self, place, tiny):
        expected = EXPECTED["demo"]
        place.unpack("demo", "demo", to="demo")
        files = place.files("demo")
        refusal(*expected["words"], "--seed", "1")
        succeeds(*expected["words"])
        after = place.files("demo")
        assert {path for path in files if after[path] != files[path]} == {"demo/metrics.json"}
        assert {"demo/report.html", "demo/ranked.png"} <= set(after) and not Path("demo/work").exists()
        now, old = (json.loads(both["demo/metrics.json"][0]) for both in (after, files))
        assert_close(now, old, relative=0.01)
        assert vrstc_jax.load_model("demo/model.safetensors").digest == expected["digest"]


class WentOn(BaseException):
    """A command was still at work when its time was over."""


@contextlib.contextmanager
def time_limit(seconds: int):
    def end(*_):
        raise WentOn

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


class TestWorkOfEverySize:
    """A directory is known as that of the same command, by what was recorded before anything was done."""

    @pytest.mark.parametrize("name", EXPECTED["claims"]["five"])
    def test_of_the_five_steps(self, place, name):
        words = EXPECTED["claims"]["five"][name]
        place.unpack("claims", f"claims/five/{name}")
        files = place.files("claimed")
        assert len(files) == 2
        succeeds(*words)
        refusal(*words, "--tau-quantile", "0.3")
        assert place.files("claimed") == files

    @pytest.mark.parametrize("name", EXPECTED["claims"]["fits"])
    def test_of_a_fit(self, place, name):
        """With a set of tracklets that cannot be read, it ends soon after it has taken the directory."""
        words = EXPECTED["claims"]["fits"][name]
        place.unpack("claims", f"claims/fits/{name}")
        Path("model.safetensors.work/tracklets").mkdir()
        refused = refusal(*words, "--seed", "1")
        with contextlib.suppress(WentOn), time_limit(30):
            assert refusal(*words) != refused


class TestPublicSurface:
    @pytest.fixture(scope="class")
    def surface(self):
        done = subprocess.run([sys.executable, FIXTURES / "public_surface.py", OLD / "public_surface.json"],
                              cwd=FIXTURES.parents[1], env=os.environ | {"PYTHONPATH": str(FIXTURES.parents[1])},
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    @pytest.fixture(scope="class")
    def recorded(self):
        return json.loads((OLD / "public_surface.json").read_text())

    @pytest.fixture
    def missing(self, monkeypatch):
        monkeypatch.syspath_prepend(FIXTURES)
        from public_surface import missing

        return missing

    def test_everything_is_there(self, surface, recorded, missing):
        # What `--pooling` takes was checked later, in one line too; `full` is the new name of `paper`.
        # The recorded help of readme_picture was argparse's, which shows neither what is required nor defaults.
        meant = {"python -m experiments.vrstc: --pooling takes only", "--size is full by default, not paper",
                 "readme_picture.py: positional 1 must be given", "readme_picture.py: positional 2 must be given",
                 "readme_picture.py: --tracklets is '' by default, not None"}
        assert [line for line in missing(recorded, surface) if not any(part in line for part in meant)] == []

    def test_what_is_gone_is_found(self, recorded, missing):
        less = json.loads(json.dumps(recorded))
        fit, name = less["commands"]["vrstc_jax fit"], "vrstc_jax.temporal_attention"
        del fit["--tau"], less["commands"]["experiments.variety"], less["names"]["vrstc_jax.load_reid"]
        fit["--steps"]["required"], fit["--hold-out"]["default"] = True, "9"
        fit["--size"]["choices"].remove("paper_literal")
        less["names"][name]["parameters"].reverse()
        less["names"]["vrstc_jax.CompletedTracklet"]["fields"].remove("how")
        less["datasets"].remove("mars")
        found = "\n".join(missing(recorded, less))
        for line in ("fit: takes no --tau", "fit: --steps must be given", "--hold-out is 9 by default, not 0",
                     "--size takes no paper_literal", "variety: takes no --rows", "load_reid: is gone",
                     f"{name}: has no longer current, adjacent in this order", "CompletedTracklet: has no how",
                     "data set mars: is gone"):
            assert line in found
        assert len(recorded["names"]) > 25 and len(recorded["commands"]) > 20
