"""The same command after its input changed: what changed is done again and said, what did not is not touched."""

import contextlib
import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import av
import numpy as np
import pytest
from people import box_mask, figure, random_model

from vrstc_jax.cli import main
from vrstc_jax.data.images import read_image, write_png
from vrstc_jax.data.tracklet_set import read_set
from vrstc_jax.models.model_file import save_model
from vrstc_jax.runtime import lock

FRAMES, SIZE = 6, (48, 64)
CASE = Path(__file__).resolve().parents[3] / "shared/cases/folder-and-masks"


@pytest.fixture(scope="module")
def start(vrstc, tmp_path_factory):
    """A folder with frames, masks, a video, boxes and a model, and the results of the folder and of the video."""
    top = tmp_path_factory.mktemp("start")
    for name in ("a/t1", "a/t2", "b/t1"):
        for i in range(FRAMES):
            write_png(top / f"frames/{name}/{i}.png", figure(i))
            write_png(top / f"masks/{name}/{i}.png", box_mask(40, 20, 0.4) & (i in (1, 4)))
    save_model(top / "m", dataclasses.replace(random_model(), tau=0.0))
    write_video(top / "v.mkv")
    (top / "boxes.txt").write_text(boxes({1: 4, 2: 34}))
    os.utime(top / "boxes.txt", (10**9, 10**9))
    for done in (complete(vrstc, top), complete_video(vrstc, top, top / "boxes.txt")):
        assert done.code == 0, done
    return top


@pytest.fixture
def here(start, tmp_path, vrstc):
    """A copy in the place of the original, which records of runs name."""
    kept = tmp_path / "kept"
    shutil.copytree(start, kept, copy_function=shutil.copy2)
    yield start
    for entry in start.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    shutil.copytree(kept, start, copy_function=shutil.copy2, dirs_exist_ok=True)


def write_video(path, seed=0):
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "bgr0"
        for i in range(FRAMES):
            picture = np.full((*SIZE, 3), 100 + seed, np.uint8)
            picture[4:44, 4:24], picture[4:44, 34:54] = figure(i), figure(i, seed=1)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="bgr0")))
        output.mux(stream.encode(None))


def boxes(left_of):
    return "".join(f"{frame},{track},{left},4,20,40\n" for track, left in left_of.items()
                   for frame in range(1, FRAMES + 1))


def complete(vrstc, top, output="out", **options):
    return vrstc("complete", top / "frames", "--masks", top / "masks", "--model", top / "m", "--output", top / output,
                 "--dataset", top / f"{output}.set", **options)


def complete_video(vrstc, top, boxes, output="v"):
    return vrstc("complete", top / "v.mkv", "--boxes", boxes, "--model", top / "m", "--output", top / output)


def results(path):
    """{file: (bytes, time)} of all but what is written at every run."""
    return {str(file.relative_to(path)): (file.read_bytes(), file.stat().st_mtime_ns)
            for file in sorted(path.rglob("*"))
            if file.is_file() and file.name not in ("run.json", "report.html", "metrics.json")}


def said(done):
    """The lines of this command that are about its results."""
    return [line for line in done.err.splitlines() if line.startswith("vrstc: ") and "using the default" not in line]


def replaced(top):
    write_png(top / "frames/a/t1/2.png", figure(9, seed=5))


def mask_edited(top):
    write_png(top / "masks/a/t1/2.png", box_mask(40, 20, 0.3))


def added(top):
    write_png(top / "frames/a/t1/6.png", figure(6))
    write_png(top / "masks/a/t1/6.png", box_mask(40, 20, 0.4))


def removed(top):
    for part in ("frames", "masks"):
        (top / part / "a/t1/3.png").unlink()


def swapped(top):
    """Two frames of one size, with the time of change that they had: only their content tells."""
    one, two = top / "frames/a/t1/0.png", top / "frames/a/t1/5.png"
    time = one.stat()
    first, second = one.read_bytes(), two.read_bytes()
    for file, data in ((one, second), (two, first)):
        file.write_bytes(data)
        os.utime(file, ns=(time.st_atime_ns, time.st_mtime_ns))


def tracklet_removed(top):
    for part in ("frames", "masks"):
        shutil.rmtree(top / part / "b")


def tracklet_added(top):
    for part in ("frames", "masks"):
        shutil.copytree(top / part / "a/t1", top / part / "b/t2")


def tracklet_renamed(top):
    for part in ("frames", "masks"):
        (top / part / "a/t1").rename(top / part / "a/t9")


AGAIN = "1 of its 3 tracklets changed since and are completed again (a/t1); 2 kept"


class TestFolder:
    @pytest.mark.parametrize("change, line, others", [
        (replaced, AGAIN, ["a/t2", "b/t1"]), (mask_edited, AGAIN, ["a/t2", "b/t1"]), *(
            pytest.param(each, AGAIN, ["a/t2", "b/t1"], marks=pytest.mark.slow) for each in (added, removed, swapped)),
        (tracklet_removed, "1 of its 3 tracklets are gone and their results removed (b/t1); 2 kept", ["a/t1", "a/t2"]),
        pytest.param(tracklet_added, None, ["a/t1", "a/t2", "b/t1"], marks=pytest.mark.slow),
        (tracklet_renamed, "1 of its 3 tracklets are gone and their results removed (a/t1); 2 kept", ["a/t2", "b/t1"])],
        ids=lambda value: getattr(value, "__name__", None))
    def test_what_changed_is_done_again(self, vrstc, here, change, line, others):
        before = results(here / "out")
        change(here)
        done = complete(vrstc, here)
        assert done.code == 0 and said(done) == ([f"vrstc: {here / 'out'}: {line}"] if line else []), done
        after = results(here / "out")
        for name in others:
            kept = {file: value for file, value in before.items() if f"{name}/" in file or f"{name}." in file}
            assert kept.items() <= after.items() and len(kept) == 2 * FRAMES + 1 + 2  # and two origins
        # As if nothing had been there before.
        assert complete(vrstc, here, "new").code == 0
        new = results(here / "new")
        assert {file: data for file, (data, _) in after.items()} == {file: data for file, (data, _) in new.items()}
        ours, theirs = ({t.name: t for t in read_set(here / f"{name}.set").tracklets} for name in ("out", "new"))
        assert list(ours) == list(theirs) == sorted(str(path.relative_to(here / "frames"))
                                                    for path in (here / "frames").glob("*/*"))
        for name, stored in ours.items():
            for frame, pixels in zip(stored.frame_names, stored.frames, strict=True):
                np.testing.assert_array_equal(pixels, read_image(here / f"new/{name}/{frame}.png"))
        assert not (here / "out/b").exists() or list((here / "out/b").iterdir())

    def test_what_has_the_same_content_is_not_done_again(self, vrstc, here):
        before = results(here / "out")
        for file in (*(here / "frames").rglob("*.png"), *(here / "masks").rglob("*.png")):
            os.utime(file)
        done = complete(vrstc, here)
        assert done.code == 0 and not said(done) and results(here / "out") == before

    def test_killed_in_between_and_changed_back(self, vrstc, here):
        """With the new frames in place and the old scores beside them, the results would pass for the old ones."""
        old = here / "frames/a/t1/2.png"
        data = old.read_bytes()
        replaced(here)
        expected = results(here / "out")
        assert complete(vrstc, here, kill=("vrstc_jax.inference.results_folder:os.replace", 2)).code == -9
        old.write_bytes(data)
        assert complete(vrstc, here).code == 0
        assert {file: data for file, (data, _) in results(here / "out").items()} == {
            file: data for file, (data, _) in expected.items()}

    def test_results_of_an_earlier_version_are_taken_as_they_are(self, vrstc, here):
        for file in (here / "out/scores").rglob("*.json"):
            record = json.loads(file.read_text())
            del record["made_from"]
            file.write_text(json.dumps(record))
        before = results(here / "out")
        replaced(here)
        done = complete(vrstc, here)
        line, = said(done)
        assert done.code == 0 and line.startswith(f"vrstc: warning: {here / 'out'}: has results of an earlier version")
        assert results(here / "out") == before

    def test_a_damaged_record_is_made_again(self, vrstc, here):
        expected = results(here / "out")
        (here / "out/scores/a/t1.json").write_text('{"tracklet": "a')
        done = complete(vrstc, here)
        assert done.code == 0 and said(done) == [f"vrstc: {here / 'out'}: {AGAIN}"]
        assert {file: data for file, (data, _) in results(here / "out").items()} == {
            file: data for file, (data, _) in expected.items()}

    def test_another_config_of_the_same_tensors_is_another_run(self, vrstc, here):
        model = random_model()
        config = dataclasses.replace(model.config, stcnet=dataclasses.replace(model.config.stcnet, neighbour_reach=3))
        assert config != model.config
        save_model(here / "m", dataclasses.replace(model, tau=0.0, config=config))
        done = complete(vrstc, here)
        assert done.code == 2 and "holds the results of another run" in done.err

    @pytest.mark.skipif(not CASE.is_dir(), reason=f"no example input at {CASE}")
    def test_an_example(self, vrstc, tmp_path, start):
        case = shutil.copytree(CASE, tmp_path / "case")
        os.chmod(case, 0o755)
        words = ("complete", case / "frames", "--masks", case / "masks", "--model", start / "m", "--output",
                 tmp_path / "o")
        assert vrstc(*words).code == 0
        (case / "frames/t1/0003.png").unlink()
        (case / "masks/t1/0003.png").unlink()
        done = vrstc(*words)
        assert done.code == 0 and "1 of its 1 tracklets changed since" in done.err
        assert not (tmp_path / "o/t1/0003.png").exists() and len(list((tmp_path / "o/t1").iterdir())) == 11
        for _ in range(2):
            done = vrstc("complete", case / "frames", "--model", start / "m", "--output", case / "frames/done")
            assert done.code == 2 and "--output" in done.err and "the input" in done.err
            assert not (case / "frames/done").exists()


class TestVideo:
    def test_boxes_of_the_same_size_and_second(self, vrstc, here):
        before = results(here / "v")
        (here / "boxes.txt").write_text(boxes({1: 5, 2: 34}))
        os.utime(here / "boxes.txt", (10**9, 10**9))
        done = complete_video(vrstc, here, here / "boxes.txt")
        assert done.code == 0
        assert said(done) == [f"vrstc: {here / 'v'}: 1 of its 2 tracklets changed since and are completed again (1); "
                              "1 kept"]
        after = results(here / "v")
        assert after["2/000001.png"] == before["2/000001.png"] and after["1/000001.png"] != before["1/000001.png"]

    def test_another_video_in_its_place(self, vrstc, here):
        write_video(here / "v.mkv", seed=50)
        done = complete_video(vrstc, here, here / "boxes.txt")
        assert done.code == 0 and "2 of its 2 tracklets changed since" in done.err
        assert read_image(here / "v/1/000001.png")[0, 0].tolist() == figure(0)[0, 0].tolist()

    def test_boxes_through_a_named_pipe(self, vrstc, here):
        os.mkfifo(here / "pipe")
        for left, line in ((4, ""), (4, ""), (5, "1 of its 2 tracklets changed since and are completed again (1)")):
            writer = threading.Thread(target=(here / "pipe").write_text, args=(boxes({1: left, 2: 34}),))
            writer.start()
            done = complete_video(vrstc, here, here / "pipe", "p")
            writer.join()
            assert done.code == 0 and line in done.err and bool(said(done)) == bool(line), done

    def test_boxes_through_an_unnamed_pipe(self, here, monkeypatch):
        """As the shell makes of `<(…)`; in this process, as pipes cannot be handed to the server's commands."""
        monkeypatch.chdir(here)
        for left, line in ((4, ""), (5, "1 of its 2 tracklets changed since")):
            read, write = os.pipe()
            numbered = left + 60  # another number of the pipe each time
            os.dup2(read, numbered)
            os.write(write, boxes({1: left, 2: 34}).encode())
            os.close(write)
            with lock.releasing(), contextlib.redirect_stderr(io.StringIO()) as err:
                main(["complete", "v.mkv", "--boxes", f"/dev/fd/{numbered}", "--model", "m", "--output", "s"])
            os.close(read)
            os.close(numbered)
            assert line in err.getvalue() and ("changed" in err.getvalue()) == bool(line)

    @pytest.mark.slow
    def test_boxes_through_a_pipe_of_the_shell(self, here, compiled):
        """The same by a real shell."""
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2]), "PYTHON": sys.executable,
                                    "JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": compiled}
        for left, code in ((4, ""), (5, "1 of its 2 tracklets changed since")):
            (here / "b.txt").write_text(boxes({1: left, 2: 34}))
            # Another number of the pipe each time.
            done = subprocess.run(
                ["bash", "-c", f"exec {left + 60}</dev/null; $PYTHON -m vrstc_jax complete v.mkv --boxes <(cat b.txt) "
                               "--model m --output s"], cwd=here, env=environment, capture_output=True, text=True)
            assert done.returncode == 0 and code in done.stderr, done.stderr
