"""No name of a tracklet or frame leads out of the results folder. `cli/test_changed_input.py` tests what it records."""

import pytest
from people import figures, masks_at, tracklet
from refusals import refused

from vrstc_jax.inference.completer import CompletedFrame
from vrstc_jax.inference.plan import Plan
from vrstc_jax.inference.results_folder import ResultsFolder, require_names
from vrstc_jax.runtime.storage import remove


def written(folder, name, frame="0"):
    """Writes a tracklet of one frame, as it was."""
    frames = figures(1)
    masks = masks_at(frames, ())
    given = tracklet(frames, masks, name)
    object.__setattr__(given, "frame_names", (frame,))
    folder.write(given, Plan.from_masks(masks), iter([CompletedFrame(0, frames[0], masks[0], (-1, -1), "visible")]))


@pytest.mark.parametrize("name, frame", [("../t", "0"), ("/t", "0"), ("a/../../t", "0"), ("t", "../0"), ("t", "a/0")])
def test_names_are_checked_before_anything_is_done(name, frame):
    given = tracklet(figures(1), name=name)
    object.__setattr__(given, "frame_names", (frame,))
    with refused("a frame" if name == "t" and ".." in frame else "name", name if name != "t" else frame):
        require_names([given])


def test_one_tracklet_in_the_folder_of_another():
    with refused("tracklet a/b of train: is inside the folder of tracklet a;"):
        require_names([tracklet(figures(1), name=name) for name in ("a/b", "a")], split="train")


@pytest.mark.parametrize("name, frame", [("../t", "0"), ("/t", "0"), ("t", "../../0")])
def test_and_again_where_files_are_written(tmp_path, name, frame):
    kept = tmp_path / "t/kept.png"
    kept.parent.mkdir()
    kept.write_text("x")
    folder = ResultsFolder(tmp_path / "out", {})
    with refused("lead out of its folder"):
        written(folder, name, frame)
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == {tmp_path / "out/run.json", kept}


def test_a_link_that_leads_out(tmp_path):
    """What is there is neither replaced nor removed."""
    (tmp_path / "theirs/t").mkdir(parents=True)
    (tmp_path / "theirs/t/kept.png").write_text("x")
    folder = ResultsFolder(tmp_path / "out", {})
    (tmp_path / "out/a").symlink_to(tmp_path / "theirs")
    with refused("out/a/t: a link on this path leads out"):
        written(folder, "a/t")
    written(folder, "b/t")
    assert (tmp_path / "theirs/t/kept.png").read_text() == "x" and (tmp_path / "out/b/t/0.png").exists()


def test_a_tracklet_in_a_folder_called_as_a_file_of_scores(tmp_path, capsys):
    folder = ResultsFolder(tmp_path / "out", {})
    written(folder, "x.json/a")
    folder.review([tracklet(figures(1), name="x.json/a")])
    assert (folder.path / "scores/x.json/a.json").exists() and not capsys.readouterr().err


@pytest.mark.parametrize("name", ["masks", "parts", "scores", "work"])
def test_a_link_in_place_of_a_folder_of_results(tmp_path, name):
    """Through one, files that are no results would pass for those of tracklets that are gone, and be removed."""
    folder = ResultsFolder(tmp_path / "out", {})
    written(folder, "a")
    remove(folder.path / name)
    (folder.path / name).symlink_to(".")
    with refused(folder.path / name, "is a link"):
        ResultsFolder(tmp_path / "out", {})
    assert (folder.path / "run.json").exists() and (folder.path / "a/0.png").exists()
