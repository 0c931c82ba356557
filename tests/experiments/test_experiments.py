"""The experiments at smoke size: they run, go on where they stopped, and leave what they say."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
from people import figures, random_model, random_reid, tracklet
from refusals import refused

from experiments import completion_variants, fixed_occluder, neighbour_choice, variety
from experiments.settings import changed
from vrstc_jax import config as configs
from vrstc_jax.data.images import write_png
from vrstc_jax.data.walkers import KINDS, WalkerConfig, make_tracklets, people
from vrstc_jax.models.model_file import save_model
from vrstc_jax.recipes.demo import demo
from vrstc_jax.runtime.errors import InputError


def test_each_variant_changes_what_its_name_says():
    config = configs.get("small")
    for name, changes in completion_variants.VARIANTS.items():
        variant = configs.to_dict(changed(config, changes))
        different = {(part, field) for part, fields in configs.to_dict(config).items() if isinstance(fields, dict)
                     for field in fields if variant[part][field] != fields[field]}
        assert different == {(part, field) for part, fields in changes.items() for field in fields}, name


@pytest.mark.slow
def test_completion_variants(tmp_path, capsys):
    look = WalkerConfig(height=40, width=20, frames=40)
    for tracklet in make_tracklets(people("train", 3), cameras=1, seed=0, config=look):
        for name, frame in zip(tracklet.frame_names, tracklet.frames):
            write_png(tmp_path / "frames" / tracklet.name / f"{name}.png", frame)
    arguments = completion_variants.Arguments(
        input=tmp_path / "frames", workdir=tmp_path / "work", only=("as it is", "no transport"), steps=2,
        size="smoke", hold_out=3)
    table = completion_variants.main(arguments)
    assert json.loads((tmp_path / "work/table.json").read_text()) == table
    assert list(table) == ["as it is", "no transport"]
    assert table["as it is"]["copy"] == table["no transport"]["copy"]
    assert table["as it is"]["stcnet"] != table["no transport"]["stcnet"]
    assert "over the best simple filling" in capsys.readouterr().out
    models = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").glob("*/model.safetensors")}
    assert completion_variants.main(arguments) == table
    assert models == {path: path.stat().st_mtime_ns for path in models}


def test_neighbour_choice(tmp_path, capsys):
    # Two poses take turns, each held for four frames, over a run of four: the nearest frames outside show the
    # other pose, and within a reach of five there is the same one, to the bit.
    random = np.random.default_rng(0)
    poses = [np.repeat(np.repeat(random.integers(0, 256, (16, 8, 3)).astype(np.uint8), 2, 0), 2, 1) for _ in range(2)]
    for i in range(36):
        write_png(tmp_path / f"t/{i:03d}.png", poses[i // 4 % 2])
    table = neighbour_choice.main(neighbour_choice.Arguments(tmp_path, hold_out=4))
    assert table[1, 1] < 20 and table[5, 1] == table[20, 1] == table["best"] > 60
    assert "held-out frames" in capsys.readouterr().out


@pytest.mark.parametrize("main, change, said", [
    (completion_variants, {"steps": 0}, "--steps must be more than 0. Got 0."),
    (completion_variants, {"hold_out": -1}, "--hold-out must be more than 0. Got -1."),
    (completion_variants, {"only": ("no shifts", "hats")}, "There is no variant 'hats'; choose from as it is; "),
    (neighbour_choice, {"hold_out": 0}, "--hold-out must be more than 0. Got 0."),
    (neighbour_choice, {"hold_out": 4}, "no tracklet has 12 frames or more; give a smaller --hold-out. Got 4.")])
def test_bad_input_is_one_line_before_anything_is_written(tmp_path, main, change, said):
    for i, frame in enumerate(figures(11)):
        write_png(tmp_path / f"crops/7/{i:03d}.png", frame)
    where = {"workdir": tmp_path / "w"} if main is completion_variants else {}
    with refused(said):
        main.main(main.Arguments(tmp_path / "crops", **where, **change))
    assert not (tmp_path / "w").exists()


class TestFixedOccluder:
    """A person, 20 x 40, walks to the right by 10 pixels a frame; there is a pole at x 100 to 120, down to y 70."""

    POLE = (100.0, 0.0, 20.0, 70.0)
    LEFT = (80, 90, 100, 110, 120)

    def walk(self):
        boxes = np.array([[frame, left, 50, 20, 40] for frame, left in enumerate(self.LEFT, 1)], float)
        return tracklet(figures(5), name="7", boxes=boxes)

    def test_what_lies_under_it(self):
        walk = self.walk()
        masks = [fixed_occluder.under([self.POLE], walk, index) for index in range(5)]
        assert [int(mask.sum()) for mask in masks] == [0, 200, 400, 200, 0]  # its upper half: 20 rows
        assert masks[1][:20, 10:].all() and masks[3][:20, :10].all()
        both = fixed_occluder.under([self.POLE, (0, 80, 300, 100)], walk, 2)
        assert both[:20].all() and not both[20:30].any() and both[30:].all()

    def test_what_is_found_and_missed(self, monkeypatch, capsys):
        scores = np.ones((5, 3), np.float32)
        scores[2, 0] = scores[2, 2] = -1  # of four hidden bands one is found, and one is called that is not
        monkeypatch.setattr(fixed_occluder, "load_model", lambda path: random_model())
        monkeypatch.setattr(fixed_occluder, "open_source", lambda *_, **__: SimpleNamespace(tracklets=[self.walk()]))
        monkeypatch.setattr("vrstc_jax.inference.completer.Locator.scores", lambda *_: scores)
        found = fixed_occluder.main(fixed_occluder.Arguments("video", "boxes", (self.POLE,)))
        # Of the upper band all rows are under it, of the middle one half: 1/2 and 1/4 as it comes and goes.
        assert (found.hidden, found.called, found.precision, found.recall) == (4, 2, 0.5, 0.25)
        out = capsys.readouterr().out
        assert ["7", "5", "4", "1", "2-4"] in [line.split() for line in out.splitlines()]
        with pytest.raises(InputError, match="No box touches the occluder 500 0 20 70;"):
            fixed_occluder.main(fixed_occluder.Arguments("video", "boxes", ((500.0, 0.0, 20.0, 70.0),)))

    def test_folders_have_no_picture(self):
        with pytest.raises(InputError, match="give a video and its --boxes"):
            fixed_occluder.masks_under([self.POLE], [tracklet(figures(2))])

    @pytest.mark.parametrize("occluder, got", [((), "nothing"), (((1.0, 2.0, 0.0, 4.0),), "1 2 0 4"),
                                               (((1.0, float("nan"), 3.0, 4.0),), "1 nan 3 4")])
    def test_no_rectangle(self, occluder, got):
        with pytest.raises(InputError, match=f"width and height above 0. Got {got}"):
            fixed_occluder.require_rectangles(occluder)

    @pytest.mark.parametrize("numbers, text", [([], ""), ([4], "4"), ([3, 4, 5, 9, 11, 12], "3-5, 9, 11-12")])
    def test_spans(self, numbers, text):
        assert fixed_occluder.spans(numbers) == text


def test_a_demonstration_of_another_seed_is_refused_before_anything_is_done(tmp_path):
    smoke = configs.get("smoke")
    save_model(tmp_path / "model.safetensors", dataclasses.replace(random_model(), config=smoke))
    with pytest.raises(InputError, match="another size or seed"):
        demo(tmp_path, config=dataclasses.replace(smoke, seed=1))
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


class TestVariety:
    def test_each_row_leaves_out_what_it_says(self):
        for name, kinds in variety.ROWS.items():
            off = {kind for kind in KINDS if not getattr(kinds, kind)}
            assert off == {"every kind": set(), "none": set(KINDS)}.get(name, {name.removeprefix("without ")})
        assert len(variety.ROWS) == len(KINDS) + 2

    def test_table(self):
        scores = {"mean": {"psnr": 15.0}, "stcnet": {"psnr": 16.25, "ssim": 0.5}}
        line = variety.format_table({"every kind": {"footage": scores, "walkers": scores}}).splitlines()[1]
        assert line.split() == ["every", "kind", "16.25", "dB", "+1.25", "dB", "0.500", "16.25", "dB", "+1.25", "dB"]
        found = {"footage": scores, "walkers": scores, "located": {"footage": 0.5, "walkers": 0.875}}
        head, line = variety.format_table({"none": found}).splitlines()
        assert line.split()[-4:] == ["50.0", "%", "87.5", "%"]
        assert len(head) == len(line) and head.endswith("footage: found  walkers: found")

    def test_what_is_found_at_a_rate_of_false_calls(self):
        # Ten bands that nothing hides score 0 to 9, so 10 % of them are below 0.9; of three hidden ones two are.
        scores = [np.array([0.0, 1, 2, 3, 4]), np.array([5.0, 6, 7, 8, 9, -1, 0.8, 2, -5])]
        shares = [np.zeros(5), np.array([0, 0, 0, 0, 0, 0.4, 1, 1, 0.2])]
        assert variety.found_at(scores, shares) == 2 / 3

    def test_what_locates_is_made_from_the_rows_walkers(self, monkeypatch, tmp_path):
        asked = {}

        def networks(train, config, amount, work):
            asked.update(train=train, steps=(config.reid_training.steps, amount.head_steps), work=work)
            return None, random_reid()

        monkeypatch.setattr(variety, "read_set", lambda path, split: (path, split))
        monkeypatch.setattr(variety.default_model, "locating_networks", networks)
        monkeypatch.setattr(variety.Locator, "scores", lambda self, frames: np.array([[-1, 0, 0]] * 2, np.float32))
        arguments = variety.Arguments(input=tmp_path, workdir=tmp_path, size="smoke")
        masks = [[np.repeat([[True], [False], [False]], 4, 0)] * 2]
        found = variety.located_shares(tmp_path, arguments, variety.AMOUNTS["smoke"], {
            "footage": ([tracklet(figures(2))], masks), "walkers": ([tracklet(figures(2))], [[~masks[0][0]] * 2])})
        assert found == {"footage": 1.0, "walkers": 0.0}
        assert asked == {"train": (tmp_path / "data", "train"), "steps": (2, 2), "work": tmp_path}

    @pytest.mark.parametrize("change, said", [({"rows": ("none", "without hats")}, "no row 'without hats'"),
                                              ({"hold_out": 0}, "--hold-out must"), ({"steps": -1}, "--steps must")])
    def test_bad_input_is_one_line_before_anything_is_done(self, tmp_path, change, said):
        with pytest.raises(InputError, match=said):
            variety.main(variety.Arguments(input=tmp_path, workdir=tmp_path / "w", **change))
        assert not (tmp_path / "w").exists()

    @pytest.mark.slow
    def test_two_rows(self, tmp_path, capsys):
        for i, frame in enumerate(figures(30)):
            write_png(tmp_path / f"crops/7/{i:03d}.png", frame)
        save_model(tmp_path / "model", dataclasses.replace(random_model(), tau=-0.99))
        arguments = variety.Arguments(input=tmp_path / "crops", workdir=tmp_path / "work", model=tmp_path / "model",
                                      rows=("none", "without people"), size="smoke")
        table = variety.main(arguments)
        assert list(table) == ["none", "without people"] and "without people" in capsys.readouterr().out
        # Other walkers make other generators, and the simple fillings stay.
        assert table["none"]["footage"]["mean"] == table["without people"]["footage"]["mean"]
        assert table["none"]["footage"]["stcnet"] != table["without people"]["footage"]["stcnet"]
        stood = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("model.safetensors")}
        assert variety.main(arguments) == table and len(stood) == 2
        assert stood == {path: path.stat().st_mtime_ns for path in stood}
