"""Made-up footage of both kinds with masks, truth and a model, and the `vrstc` commands that tests run on it."""

import dataclasses
import json
from pathlib import Path

import av
import numpy as np
from people import SMOKE, figure, figures, masks_at, random_model

from vrstc_jax.data.images import read_image, write_png
from vrstc_jax.inference.locate import Locator, choose_tau
from vrstc_jax.models.model_file import save_model

HEIGHT, WIDTH, FRAMES = 64, 96, 24  # of the video
COMPLETE, RENDER = "complete {folder} --model {model} --output ", "complete {video} --boxes {boxes} --model {model} "


class Material:
    """A folder of tracklets, a video with boxes, masks and truth of both, a model, and commands that use them."""

    FOLDER = {"0001/c1/t1": 14, "0001/c2/t1": 9, "0002/c1/t7": 12}
    TRACKS = {3: (2, 24), 12: (1, 20), 7: (5, 14)}  # first and last frame of each

    def __init__(self, vrstc, path):
        self.vrstc, self.path = vrstc, path
        self.folder, self.folder_masks, self.folder_truth = path / "crops", path / "crop masks", path / "crop truth"
        self.video, self.boxes = path / "clip.mkv", path / "boxes.txt"
        self.picture_masks, self.crop_masks = path / "picture masks", path / "track masks"
        self.model = path / "model.safetensors"
        self.write_folder()
        self.write_video()
        locator = Locator(SMOKE.reid, random_model().reid, 3)
        scores = [locator.scores([read_image(self.folder / name / f"f{i + 8}.png") for i in range(count)])
                  for name, count in self.FOLDER.items()]
        self.tau = choose_tau(scores, 0.15)
        save_model(self.model, dataclasses.replace(random_model(), tau=self.tau))

    def write_folder(self):
        for seed, (name, count) in enumerate(self.FOLDER.items()):
            for i, (frame, mask) in enumerate(zip(*self.tracklet(count, seed))):
                file = f"{name}/f{i + 8}.png"  # f8, f9, f10: not in the order of the alphabet
                write_png(self.folder_truth / file, frame)
                write_png(self.folder_masks / file, mask)
                frame[mask] = (10, 200, 10)
                write_png(self.folder / file, frame)

    def write_video(self):
        self.rows = []  # (track, frame, left, top, width, height)
        with av.open(str(self.video), "w") as output:
            stream = output.add_stream("ffv1", rate=10)
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "bgr0"
            for number in range(1, FRAMES + 1):
                picture = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
                mask = np.zeros((HEIGHT, WIDTH), bool)
                mask[30:50, :60] = number % 5 == 0
                for k, (track, (first, last)) in enumerate(self.TRACKS.items()):
                    if first <= number <= last:
                        top, left, height = 4 + number % 3, 5 + 30 * k, 44 + number % 2
                        picture[top:top + 44, left:left + 20] = figure(number, 44, 20, seed=k)
                        self.rows.append((track, number, left, top, 20, height))
                        write_png(self.crop_masks / f"{track}/{number:06d}.png", mask[top:top + height, left:left + 20])
                picture[mask] = (200, 30, 30)
                write_png(self.picture_masks / f"{number:06d}.png", mask)
                output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="bgr0")))
            output.mux(stream.encode(None))
        self.boxes.write_text("".join(f"{number},{track},{left},{top},{width},{height},1,-1,-1,-1\n"
                                      for track, number, left, top, width, height in self.rows))

    @staticmethod
    def tracklet(count, seed):
        frames = figures(count, sizes=((40, 20), (37, 19)), seed=seed)
        return frames, masks_at(frames, (1, 4, 5), share=0.4)

    def crops(self):
        """(file, crop) of every box of the video, track by track."""
        pictures = decoded(self.video)
        for track, number, left, top, width, height in sorted(self.rows):
            yield f"{track}/{number:06d}.png", pictures[number - 1][top:top + height, left:left + width]

    def run(self, line, tmp, *, code=0, **options):
        """Runs a command, with paths for {tmp}, {folder}, {model} and the other names above."""
        done = self.vrstc(*(word.format(tmp=tmp, **vars(self)) for word in line.split()), **options)
        assert done.code == code, (line, done)
        return done

    def run_without_effect(self, line, tmp, **options):
        """Runs a command that must leave everything in the folder `tmp` as it is."""
        before = tree(tmp)
        done = self.run(line, tmp, **options)
        left = tree(tmp)
        assert left.keys() == before.keys(), sorted(left.keys() ^ before.keys())
        assert left == before
        return done


def decoded(video):
    with av.open(str(video)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def tree(path):
    """Every file below a folder, with its bytes, and every empty folder."""
    return {str(p.relative_to(path)): p.read_bytes() if p.is_file() else None
            for p in sorted(Path(path).rglob("*")) if p.is_file() or not any(p.iterdir())}


def assert_visible_kept(after, before, mask):
    np.testing.assert_array_equal(after[~mask], before[~mask])


class Refusals:
    """Runs commands that must be refused, in a folder in which they must leave nothing."""

    FOOTAGE = {"fit": "fit {} --size smoke --output {{tmp}}/new/m.safetensors",
               "complete": "complete {} --model {{model}} --output {{tmp}}/new/out",
               "judge": "judge {} --model {{model}} --output {{tmp}}/new/judged"}

    def __init__(self, material, tmp):
        self.material, self.tmp = material, tmp
        (tmp / "file").write_text("x")
        (tmp / "empty").mkdir()
        (tmp / "mine").mkdir()
        (tmp / "mine/letter.txt").write_text("x")

    def __call__(self, line, *parts):
        """Expects one line with all `parts`, which name paths as `line` does."""
        done = self.material.run_without_effect(line, self.tmp, code=2)
        assert done.out == "", done.out
        message, = done.err.splitlines()
        assert message.startswith("vrstc: ") and "Error" not in message.split()[1], message
        for part in parts:
            assert str(part).format(tmp=self.tmp, **vars(self.material)) in message, (part, message)

    def all(self, source, *parts, commands=tuple(FOOTAGE)):
        """The same of every command that reads footage."""
        for command in commands:
            self(self.FOOTAGE[command].format(source), *parts)


def read_results(output, name):
    result = json.loads((output / "scores" / f"{name}.json").read_text())
    assert result["tracklet"] == name
    return result["frames"]
