"""`vrstc judge`: scores against what the masks, truth and neighbours say by hand."""

import dataclasses
import html
import json
import os

import cv2
import numpy as np
import pytest
from material import Material
from people import box_mask, figure

from vrstc_jax.data.images import write_png
from vrstc_jax.models.model_file import load_model, save_model

METHODS = ["copy", "mean", "telea", "spatial", "stcnet"]


class TestJudge:
    """Scores against what the masks, truth and neighbours say by hand; the network's weights are random."""

    @pytest.fixture(scope="class")
    def held_out(self, material, tmp_path_factory):
        """The model with two held-out runs in the folder's tracklets, and one of another input."""
        path = tmp_path_factory.mktemp("judge") / "m.safetensors"
        run = [f"f{i + 8}" for i in range(6, 11)]
        runs = {"0001/c1/t1": [run], "0002/c1/t7": [run], "gone": [["f1", "f2"]]}
        save_model(path, dataclasses.replace(load_model(material.model), provenance={"held_out": runs}))
        return path

    def test_the_command(self, material, held_out, tmp_path):
        command = f"judge {{folder}} --masks {{folder_masks}} --model {held_out}"
        done = material.run(command + " --output {tmp}/out", tmp_path)
        rows = {line.split()[0]: line.split()[1:] for line in done.out.split("\n\n")[0].splitlines()[1:]}
        metrics = json.loads((tmp_path / "out/metrics.json").read_text())
        assert list(metrics["judge"]) == list(rows) == METHODS
        for method, scores in metrics["judge"].items():
            assert {"l1", "psnr", "ssim"} <= set(scores)
            assert rows[method] == [f"{scores['l1']:.4f}", f"{scores['psnr']:.2f}", f"{scores['ssim']:.4f}", "10"]
        # Frames 6 to 10 are hidden at once, and by masks 4 and 5: what is left to see begins at 3 and at 11.
        assert {d: s["copy"]["frames"] for d, s in metrics["judge_by_distance"].items()} == {
            "1": 2, "2": 2, "3": 4, "4": 2}
        assert sorted(os.listdir(tmp_path / "out")) == ["metrics.json", "report.html"]
        assert material.run(command + " --seed 0", tmp_path).out == done.out.rsplit("open ", 1)[0]
        assert material.run(command + " --seed 3", tmp_path).out.splitlines()[1] != done.out.splitlines()[1]

    def test_with_the_truth(self, material, tmp_path):
        done = material.run("judge {folder} --masks {folder_masks} --truth {folder_truth} --model {model} "
                            "--output {tmp}/out", tmp_path)
        assert "true masks" in done.out and "located masks" in done.out
        metrics = json.loads((tmp_path / "out/metrics.json").read_text())
        assert metrics["judge_setting"] == "true masks"
        for key in ("judge", "judge_located_masks"):
            assert list(metrics[key]) == METHODS
            # Three hidden frames in each tracklet.
            assert {scores["frames"] for scores in metrics[key].values()} == {9}
        # Neighbours as the masks have them: 0 and 2 for 1, 3 and 6 for 4 and 5.
        psnrs, l1s = [], []
        for seed, count in enumerate(material.FOLDER.values()):
            frames, masks = Material.tracklet(count, seed)
            for index, nearest in ((1, 0), (4, 3), (5, 6)):
                filled = cv2.resize(frames[nearest], frames[index].shape[1::-1])[masks[index]].astype(float)
                difference = filled - frames[index][masks[index]]
                l1s.append(np.abs(difference).mean() / 255)
                psnrs.append(10 * np.log10(255 ** 2 / np.square(difference).mean()))
        # The crops' sizes take turns, so copies are resized: INTER_AREA there, where one is smaller.
        assert metrics["judge"]["copy"]["l1"] == pytest.approx(np.mean(l1s), abs=0.01)
        assert metrics["judge"]["copy"]["psnr"] == pytest.approx(np.mean(psnrs), abs=1)

    def test_its_warnings(self, material, tmp_path):
        """Of the input and of the masks, on the terminal and in the report."""
        for name, shares in {"a": [0, 0.5, 0, 0], "b": [0, 0], "c": [1, 0.9]}.items():
            for i, share in enumerate(shares):
                write_png(tmp_path / f"in/{name}/{i}.png", figure(i))
                write_png(tmp_path / f"masks/{name}/{i}.png", box_mask(40, 20, share) & bool(share))
        done = material.run("judge {tmp}/in --masks {tmp}/masks --truth {tmp}/in --model {model} --output {tmp}/out",
                            tmp_path)
        report = html.unescape((tmp_path / "out/report.html").read_text())
        for message in ("Tracklet b: Its masks hide nothing in any of its 2 frames", "Tracklet c: Its masks hide 95 %"):
            assert f"vrstc: warning: {message}" in done.err and f"<li>{message}" in report
        assert "Tracklet a" not in done.err
