"""The five steps on data that change or that cannot be used."""

import dataclasses
import os
import shutil
from unittest import mock

import numpy as np
import pytest
from five_steps_runs import (
    CONFIG,
    PROTOCOL,
    all_with,
    contents,
    interrupted,
    names,
    never,
    run,
    with_stand_ins,
)
from refusals import refused

from vrstc_jax.data import datasets
from vrstc_jax.data.images import read_image, write_png
from vrstc_jax.data.tracklet_set import write_set
from vrstc_jax.data.walkers import walker_splits
from vrstc_jax.recipes import five_steps
from vrstc_jax.recipes.five_steps import STEPS, job, read_splits
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.workdir import Workdir

pytestmark = pytest.mark.usefixtures("quick_compilation", "compiled_once")


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


def test_a_folder_of_somebody_else_is_refused_and_kept(tmp_path):
    """`--from data` would remove the user's own data/."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "theirs.txt").write_text("theirs")
    with refused("not empty"):
        five_steps.run(tmp_path, CONFIG, lambda path: None, start="data")
    assert (tmp_path / "data" / "theirs.txt").read_text() == "theirs"


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
