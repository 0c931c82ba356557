"""`vrstc complete` on a folder of tracklets: what it writes, what it warns of, and what `kill -9` does to it."""

import html
import json
import re
import shutil
from collections import Counter
from typing import get_args

import numpy as np
import pytest
from material import COMPLETE, RENDER, assert_visible_kept, read_results, tree
from people import box_mask, figure, random_model

from vrstc_jax import Stream, load_model
from vrstc_jax.data.images import read_image, write_png
from vrstc_jax.data.inputs.masks import read_mask
from vrstc_jax.data.tracklet_set import read_set
from vrstc_jax.inference.completer import How
from vrstc_jax.models.model_file import save_model
from vrstc_jax.ops.regions import bands_mask


class TestCompleteFolder:
    COMMAND = "complete {folder} --model {model} --output {tmp}/out"
    AS_SET = "complete {folder} --masks {folder_masks} --model {model} --output {tmp}/out --dataset {tmp}/set"

    @pytest.fixture(scope="class")
    def output(self, material, tmp_path_factory):
        tmp = tmp_path_factory.mktemp("folder")
        assert str(tmp / "out/report.html") in material.run(self.COMMAND, tmp).out
        return tmp / "out"

    @pytest.fixture(scope="class")
    def masked(self, material, tmp_path_factory):
        """The folder in which the results by given masks are, as files and as a data set."""
        tmp = tmp_path_factory.mktemp("masked")
        assert "set: a TFDS data set" in material.run(self.AS_SET, tmp).out
        return tmp

    def test_the_same_tree_and_names(self, output, material):
        inputs = set(tree(material.folder))
        masks = {f"masks/{p}" for p in inputs}
        scores = {f"scores/{name}.json" for name in material.FOLDER}
        origins = {f"origin/{p}" for p in inputs if 0 < read_mask(output / "masks" / p).mean() < 1}
        assert set(tree(output)) == inputs | masks | origins | scores | {"run.json", "report.html", "metrics.json"}

    def test_visible_pixels_and_masks(self, output, material):
        hidden = 0
        for file in tree(material.folder):
            before, mask = read_image(material.folder / file), read_mask(output / "masks" / file)
            assert mask.shape == before.shape[:2]
            assert_visible_kept(read_image(output / file), before, mask)
            hidden += mask.any()
        assert hidden  # else nothing is said

    def test_scores_say_what_was_hidden_and_what_it_was_filled_from(self, output, material):
        for name, count in material.FOLDER.items():
            rows = read_results(output, name)
            assert [row["frame"] for row in rows] == [f"f{i + 8}" for i in range(count)]
            clean = [all(s >= material.tau for s in row["scores"]) for row in rows]
            for i, row in enumerate(rows):
                mask = read_mask(output / "masks" / name / f"{row['frame']}.png")
                np.testing.assert_array_equal(mask, bands_mask(np.array(row["scores"]) < material.tau, *mask.shape))
                assert row["hidden"] == pytest.approx(mask.mean(), abs=1e-4)
                before, after = ([f"f{j + 8}" for j in span if clean[j]] for span in (range(i), range(i + 1, count)))
                expected = [before[-1] if before else None, after[0] if after else None]
                assert row["sources"] == (expected if row["how"] == "stcnet" else [None, None])
                assert row["how"] == ("visible" if clean[i] else "left" if mask.all() else "stcnet")

    def test_metrics_and_report(self, output, material):
        metrics = json.loads((output / "metrics.json").read_text())
        assert metrics["tracklets"] == 3 and metrics["frames"] == 35 and metrics["tau"] == material.tau
        counts = Counter(row["how"] for name in material.FOLDER for row in read_results(output, name))
        assert metrics["frames_by_how"] == {how: counts[how] for how in get_args(How)}
        report = (output / "report.html").read_text()
        assert all(text in report for text in ("Completions", "Where attention looked", str(material.folder)))

    def test_again_gives_the_same(self, output, material):
        material.run_without_effect(self.COMMAND, output.parent)

    def test_another_run_is_refused_and_harms_nothing(self, output, material):
        save_model(output.parent / "other", random_model(seed=1))
        for arguments in ("{folder} --model {tmp}/other", "{folder} --masks {folder_masks} --model {model}",
                          "{video} --boxes {boxes} --model {model}"):
            done = material.run_without_effect(f"complete {arguments} --output {{tmp}}/out", output.parent, code=2)
            assert str(output) in done.err and len(done.err.splitlines()) == 1

    def test_from_earlier_frames_alone(self, output, material, tmp_path):
        """As `Stream` gives them; and not into a folder of what was completed from all frames."""
        material.run(self.COMMAND + " --causal", tmp_path)
        model, changed = load_model(material.model), 0
        for name, count in material.FOLDER.items():
            stream = Stream(model)
            for number in range(count):
                file = f"{name}/f{number + 8}.png"
                done = stream.push(read_image(material.folder / file))
                np.testing.assert_array_equal(read_mask(tmp_path / "out/masks" / file), done.mask)
                # By one, and by sixteen at a time: sums of floats are rounded in another order.
                off = np.abs(read_image(tmp_path / "out" / file).astype(int) - done.frame)
                assert off.max() <= 1
                changed += done.mask.any()
        assert changed
        for folder, words in ((output, " --causal"), (tmp_path / "out", "")):
            command = self.COMMAND.replace("{tmp}/out", str(folder)) + words
            done = material.run(command, tmp_path, code=2)
            assert "the results of another run" in done.err

    def test_as_a_data_set_too(self, masked, refused, material):
        stored = read_set(masked / "set").tracklets
        assert {t.name for t in stored} == set(material.FOLDER)
        for tracklet in stored:
            for name, frame, mask in zip(tracklet.frame_names, tracklet.frames, tracklet.masks, strict=True):
                file = f"{tracklet.name}/{name}.png"
                np.testing.assert_array_equal(frame, read_image(masked / "out" / file))
                np.testing.assert_array_equal(mask, read_mask(masked / "out/masks" / file))
        material.run(self.AS_SET, masked)  # the set is replaced
        refused(self.AS_SET.replace("{tmp}/set", "{tmp}/mine"), "mine", "no data set")

    def test_with_masks(self, masked, material):
        for file in tree(material.folder):
            mask = read_mask(material.folder_masks / file)
            np.testing.assert_array_equal(read_mask(masked / "out/masks" / file), mask)
            before, after = read_image(material.folder / file), read_image(masked / "out" / file)
            assert_visible_kept(after, before, mask)
            assert (before[mask] != after[mask]).any() == mask.any()
        row = read_results(masked / "out", "0001/c1/t1")[4]
        assert row["scores"] is None and row["how"] == "stcnet" and row["sources"] == ["f11", "f14"]


class TestOddTracklets:
    """Warnings in the report and exit 0."""

    def test_in_a_folder(self, material, tmp_path):
        kinds = {"one": [0.5], "spatial": [0.5] * 4, "left": [1] * 3, "fine": [0, 0, 0.5, 0, 0]}  # what is hidden
        for name, shares in kinds.items():
            for i, share in enumerate(shares):
                write_png(tmp_path / f"in/{name}/{i}.png", figure(i))
                write_png(tmp_path / f"masks/{name}/{i}.png", box_mask(40, 20, share) & bool(share))
        done = material.run("complete {tmp}/in --masks {tmp}/masks --model {model} --output {tmp}/out", tmp_path)
        hows = {name: {row["how"] for row in read_results(tmp_path / "out", name)} for name in kinds}
        assert hows == {"one": {"spatial"}, "spatial": {"spatial"}, "left": {"left"}, "fine": {"visible", "stcnet"}}
        report = (tmp_path / "out/report.html").read_text()
        assert "Tracklet one: None of its frames is free" in report
        assert "Tracklet spatial: None of its frames is free" in report
        assert "Tracklet left: 3 of its frames are hidden entirely" in report
        assert "Tracklet left: Its masks hide 100 % of its pixels" in report
        warned = re.findall('<li>(.*?)</li>', report.split('id="warnings"')[1].split("</section>")[0])
        assert sorted(line for line in done.err.splitlines() if "warning" in line) == sorted(
            f"vrstc: warning: {html.unescape(each)}" for each in warned)
        assert "Tracklet fine" not in report.split('id="warnings"')[1].split("</ul>")[0]
        for i in range(3):
            np.testing.assert_array_equal(read_image(tmp_path / f"out/left/{i}.png"), figure(i))
        # One frame without a mask: nothing can be located in it.
        done = material.run("complete {tmp}/in --model {model} --output {tmp}/located", tmp_path)
        assert "vrstc: warning: Tracklet one: It has one frame" in done.err
        assert "Tracklet one: It has one frame" in (tmp_path / "located/report.html").read_text()

    def test_names_as_people_have_them(self, material, tmp_path):
        """Results have the same names; what is printed has no escapes of the terminal, and one line for each line."""
        names = ["\x1b[31mred", "two\nlines\r", "²", "٣", "x" * 250, "<b>&amp;", "$(rm)", " "]
        for name in names:
            for i in range(2):
                write_png(tmp_path / f"in/{name}/{'f' * 250}{i}.png", figure(i))
                write_png(tmp_path / f"masks/{name}/{'f' * 250}{i}.png", box_mask(40, 20))
        done = material.run("complete {tmp}/in --masks {tmp}/masks --model {model} --output {tmp}/out", tmp_path)
        again = material.run("complete {tmp}/in --masks {tmp}/masks --model {model} --output {tmp}/out", tmp_path)
        for text in (done.out, again.err):
            assert all(line.isprintable() for line in text.splitlines())
        assert "vrstc: warning: Tracklet \\x1b[31mred: None of its frames" in done.err
        for name in names:
            for i in range(2):
                assert read_image(tmp_path / f"out/{name}/{'f' * 250}{i}.png").shape == (40, 20, 3)
        done = material.run("rank {tmp}/in --query ² --model {model}", tmp_path)
        assert "\\x1b[31mred" in done.out and "two\\nlines\\r" in done.out and "\x1b" not in done.out

    def test_names_of_mars_are_told_apart(self, material, tmp_path):
        for name in ("0001C1T0001", "0001C2T0001", "0001C2T0002"):
            for i in range(3):
                write_png(tmp_path / f"in/0001/{name}F{i:03d}.png", figure(i))
        done = material.run("complete {tmp}/in --model {model} --output {tmp}/out", tmp_path)
        line, = (line for line in done.err.splitlines() if "MARS" in line)
        assert line.startswith(f"vrstc: {tmp_path}/in: ") and "3 tracklets (people: 1; cameras: 2)" in line
        assert sorted(path.name for path in (tmp_path / "out/0001/c2/t0002").iterdir()) == [
            f"0001C2T0002F{i:03d}.png" for i in range(3)]


@pytest.mark.slow
@pytest.mark.parametrize("line, moments", [
    (COMPLETE + "{tmp}/place/out", [
        ("vrstc_jax.data.images:os.replace", 1),  # before the very first file has its name
        ("vrstc_jax.inference.results_folder:write_png", 23),
        ("vrstc_jax.inference.results_folder:os.replace", 2),  # between a tracklet's frames and its masks
        ("vrstc_jax.recipes.complete:write_report", 1)]),
    (RENDER + "--output {tmp}/place/out --render {tmp}/place/v.mp4", [
        ("vrstc_jax.data.inputs.spool:clip_box", 20),  # in the middle of the video
        ("vrstc_jax.report.render:put_back", 7)])], ids=["folder", "video"])
def test_killed_during_complete(material, tmp_path, line, moments):
    """`kill -9` at some moments, then the same command until it is through: the same files, byte for byte."""
    material.run(line, tmp_path)
    expected = tree(tmp_path)
    shutil.rmtree(tmp_path / "place")
    for moment in moments:
        material.run(line, tmp_path, code=-9, kill=moment)
    material.run(line, tmp_path)
    assert tree(tmp_path).keys() == expected.keys()
    assert tree(tmp_path) == expected
