"""`vrstc judge`: scores against what the masks, truth and neighbours say by hand."""

import dataclasses
import html
import json
import os

import cv2
import numpy as np
import pytest
from material import Material
from people import box_mask, figure, random_reid

from vrstc_jax.data.images import write_png
from vrstc_jax.inference.features import tracklet_features
from vrstc_jax.models.model_file import load_model, save_model, save_reid
from vrstc_jax.models.reid import PairScorer

METHODS = ["copy", "mean", "flow", "best", "telea", "spatial", "stcnet"]


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
            assert rows[method] == [f"{scores['l1']:.4f}", f"{scores['psnr']:.2f}", f"{scores['ssim']:.4f}",
                                    f"{scores['sharpness']:.2f}", f"{scores['flicker']:.4f}", "10"]
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

    def test_the_way_to_the_true_crop(self, material, tmp_path):
        save_reid(tmp_path / "reid.safetensors", random_reid())
        save_reid(tmp_path / "pairs.safetensors", random_reid(network=PairScorer))
        command = "judge {folder} --masks {folder_masks} --truth {folder_truth} --model {model} "
        done = material.run(command + "--judge {tmp}/reid.safetensors --output {tmp}/out", tmp_path)
        assert "way %" in done.out
        scores = json.loads((tmp_path / "out/metrics.json").read_text())["judge"]["copy"]
        # By hand: features of one frame at a time, of the hidden, the copied and the true frame.
        cosines = []
        for seed, count in enumerate(material.FOLDER.values()):
            frames, masks = Material.tracklet(count, seed)
            for index, nearest in ((1, 0), (4, 3), (5, 6)):
                copied, hidden = (frames[index].copy() for _ in range(2))
                copied[masks[index]] = cv2.resize(frames[nearest], frames[index].shape[1::-1],
                                                  interpolation=cv2.INTER_AREA)[masks[index]]
                hidden[masks[index]] = (10, 200, 10)
                true, *others = tracklet_features(random_reid(), [[each] for each in (frames[index], copied, hidden)])
                cosines.append([each @ true / np.linalg.norm(each) / np.linalg.norm(true) for each in others])
        copied, hidden = np.mean(cosines, 0)
        assert scores["cosine"] == pytest.approx(copied, abs=0.02)  # copies of another size are resized
        assert scores["hidden_cosine"] == pytest.approx(hidden, abs=1e-4)
        assert scores["way"] == pytest.approx(100 * (scores["cosine"] - hidden) / (1 - hidden), abs=0.1)
        done = material.run(command + "--judge {tmp}/pairs.safetensors", tmp_path, code=2)
        assert done.err == (f"vrstc: {tmp_path / 'pairs.safetensors'}: a PairScorer compares pairs and has no features "
                            "to judge by; give a network of `python -m experiments.vrstc`.\n")

    def test_runs_that_boxes_choose(self, material, tmp_path):
        """Somebody passes in front of track 3, in its middle, for fewer frames than could be held out of them."""
        rows = [row.split(",") for row in material.boxes.read_text().splitlines()]
        ahead = [[frame, "99", left, str(int(top) + 6), *others] for frame, track, left, top, *others in rows
                 if track == "3" and 11 <= int(frame) <= 15]
        (tmp_path / "boxes.txt").write_text("\n".join(map(",".join, rows + ahead)))
        command = "judge {video} --model {model} "
        done = material.run(command + "--boxes {tmp}/boxes.txt --hold-out 3 --runs boxes --output {tmp}/out", tmp_path)
        frames = int(done.out.splitlines()[1].split()[-1])
        free = material.run(command + "--boxes {boxes} --hold-out 3 --runs boxes", tmp_path)
        assert frames == int(free.out.splitlines()[1].split()[-1]) - 3 > 0
        for words in ("--boxes {boxes} --runs boxes", "--hold-out 3 --runs boxes"):
            done = material.run(command.replace("{video}", "{folder}" if "{boxes}" not in words else "{video}") + words,
                                tmp_path, code=2)
            assert "--runs boxes chooses the runs of --hold-out by the boxes of people" in done.err

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
