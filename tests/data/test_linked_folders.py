"""Folders that are linked into themselves or into each other are searched once along each way, and soon."""

import time

from people import figures
from refusals import refused

from vrstc_jax.data.datasets.base import folders_in
from vrstc_jax.data.images import write_png
from vrstc_jax.data.inputs import picture_files
from vrstc_jax.data.inputs.folders import read_folder


def test_links_to_the_folder_itself(tmp_path):
    tmp_path = tmp_path / "of/this/test"
    for number, frame in enumerate(figures(2, sizes=((12, 8),))):
        write_png(tmp_path / f"a/b/{number}.png", frame)
    (tmp_path / "above").symlink_to(tmp_path.parent)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for number in range(8):
        (tmp_path / f"link{number}").symlink_to(".")
        (tmp_path / f"a/link{number}").symlink_to("..")
        (tmp_path / f"a/b/link{number}").symlink_to("../..")
    began = time.monotonic()
    found = picture_files.find_pictures(tmp_path)
    assert time.monotonic() - began < 5
    assert {str(key) for key in found} >= {"a/b/0", "a/b/1"}


def test_a_folder_under_two_names(tmp_path):
    for name in ("one", "two"):
        for number, frame in enumerate(figures(2, sizes=((12, 8),))):
            write_png(tmp_path / f"{name}/{number}.png", frame)
    (tmp_path / "three").symlink_to("one")
    assert [tracklet.name for tracklet in read_folder(tmp_path)] == ["one", "three", "two"]


def test_folders_linked_into_each_other(tmp_path, monkeypatch):
    monkeypatch.setattr(picture_files, "_MOST_LINKED", 200)
    for one in range(8):
        (tmp_path / f"folder{one}").mkdir()
    for one in range(8):
        for other in range(8):
            (tmp_path / f"folder{one}/to{other}").symlink_to(tmp_path / f"folder{other}")
    with refused(tmp_path, "linked into each other too many times; remove links such as"):
        picture_files.find_pictures(tmp_path)


def test_a_link_out_to_a_folder_above_is_not_searched(tmp_path):
    """Below it are the folder itself again and whatever lies beside it, such as the results of a run."""
    for place in ("in/a", "o/a"):
        for number, frame in enumerate(figures(2, sizes=((12, 8),))):
            write_png(tmp_path / f"{place}/{number}.png", frame)
    (tmp_path / "in/up").symlink_to("..")
    assert {str(key) for key in picture_files.find_pictures(tmp_path / "in")} == {"a/0", "a/1"}


def test_pictures_and_folders_that_are_links_to_themselves(tmp_path):
    """They are passed over, as broken links are."""
    write_png(tmp_path / "a/0.png", figures(1, sizes=((12, 8),))[0])
    (tmp_path / "a/1.png").symlink_to("1.png")
    (tmp_path / "b").symlink_to("b")
    assert list(picture_files.picture_files(tmp_path / "a")) == ["0"]
    assert folders_in(tmp_path) == ["a"]
