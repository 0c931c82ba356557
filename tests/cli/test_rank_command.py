"""`vrstc rank`: the tracklets of a gallery most like a query."""

import fcntl
import shutil

import numpy as np
import pytest
from people import figures, random_model

from vrstc_jax import tracklet_features
from vrstc_jax.cli import main
from vrstc_jax.data.images import read_image, write_png
from vrstc_jax.data.inputs.folders import read_folder
from vrstc_jax.models.model_file import ReidModel, save_model

pytestmark = pytest.mark.usefixtures("quick_compilation")

NAMES = ("a/c1/t1", "a/c1/t2", "a/c2/t1", "b/c1/t1", "b/c2/t1")


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    """Two people, two cameras; and a model."""
    place = tmp_path_factory.mktemp("gallery")
    for name in NAMES:
        person, camera, number = name.split("/")
        for i, frame in enumerate(figures(3, seed=ord(person))):
            shade = {"c1": 1.0, "c2": 0.8}[camera] - 0.01 * int(number[1])
            write_png(place / "frames" / name / f"{i:06d}.png", (frame * shade).astype(np.uint8))
    save_model(place / "model.safetensors", random_model())
    return place


def rank(gallery, capsys, *arguments):
    """(the words of each line, stderr)"""
    main(["rank", str(gallery / "frames"), "--model", str(gallery / "model.safetensors"), *map(str, arguments)])
    said = capsys.readouterr()
    return [line.split() for line in said.out.splitlines()], said.err


def refused(gallery, capsys, *arguments):
    with pytest.raises(SystemExit) as raised:
        rank(gallery, capsys, *arguments)
    assert raised.value.code == 2
    return capsys.readouterr().err.splitlines()


def test_the_nearest_come_first_without_the_query_s_own_camera(gallery, capsys, tmp_path):
    (*lines, last), _ = rank(gallery, capsys, "--query", "a/c1/t1", "--output", tmp_path / "found.png")
    model = random_model()
    tracklets = {t.name: t for t in read_folder(gallery / "frames")}
    features = tracklet_features(ReidModel(model.config.reid, model.reid, model.identities),
                                 [tracklets[name] for name in NAMES])
    units = features / np.linalg.norm(features, axis=1, keepdims=True)
    wanted = {name: 1 - units[0] @ unit for name, unit in zip(NAMES[2:], units[2:])}  # a/c1/t2 is junk
    assert [line[1] for line in lines] == sorted(wanted, key=wanted.get)
    assert [int(line[0]) for line in lines] == [1, 2, 3]
    for _, name, distance in lines:
        assert float(distance) == pytest.approx(wanted[name], abs=1e-4)  # as many digits are printed
    assert last == ["open", str(tmp_path / "found.png")] and read_image(tmp_path / "found.png").std() > 10


def test_a_folder_of_frames_is_a_query_of_whom_nothing_is_known(gallery, capsys, tmp_path):
    shutil.copytree(gallery / "frames/b/c2/t1", tmp_path / "somebody")
    lines, _ = rank(gallery, capsys, "--query", tmp_path / "somebody", "--count", 4)
    assert lines[0][1] == "b/c2/t1" and float(lines[0][2]) == pytest.approx(0, abs=1e-4) and len(lines) == 4


@pytest.mark.parametrize("way", ["itself", "relative", "a link"])
def test_a_folder_of_the_gallery_does_not_find_itself(gallery, capsys, tmp_path, monkeypatch, way):
    """Whatever it is called by, it is the tracklet of that name."""
    place = gallery / "frames/a/c1/t1"
    if way == "relative":
        monkeypatch.chdir(gallery / "frames/b")
        place = "../a/c1/t1"
    if way == "a link":
        (tmp_path / "link").symlink_to(place)
        place = tmp_path / "link"
    by_name, _ = rank(gallery, capsys, "--query", "a/c1/t1")
    lines, err = rank(gallery, capsys, "--query", place)
    assert lines == by_name
    assert all(name != "a/c1/t1" for _, name, _ in by_name) and len(by_name) == 3
    assert err.splitlines()[-1] == (
        f"vrstc: --query {place}: is the tracklet a/c1/t1 of the gallery, which is left out of it")


@pytest.mark.parametrize("arguments, said", [
    (("--query", "nobody"), "nobody"), (("--query", "a/c1/t1", "--count", "0"), "--count"),
    (("--query", "a/c1/t1", "--output", "x.jpg"), "x.jpg")])
def test_bad_input_is_one_line(gallery, capsys, arguments, said):
    line, = refused(gallery, capsys, *arguments)
    assert said in line


def test_a_gallery_of_one_has_nothing_to_rank(capsys, tmp_path):
    for i, frame in enumerate(figures(2)):
        write_png(tmp_path / "frames" / f"{i}.png", frame)
    save_model(tmp_path / "model.safetensors", random_model())
    assert "gallery" in refused(tmp_path, capsys, "--pattern", "frame", "--query", "frames")[-1]
    # Nor by its folder, which is the gallery's.
    assert "has no tracklet besides the query" in refused(tmp_path, capsys, "--query", tmp_path / "frames")[-1]


def test_an_output_that_another_process_writes(gallery, capsys, tmp_path):
    (tmp_path / ".found.png.lock").touch()
    with open(tmp_path / ".found.png.lock") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        line, = refused(gallery, capsys, "--query", "a/c1/t1", "--output", tmp_path / "found.png")
        assert f"{tmp_path / 'found.png'}: another process is writing here" in line
    rank(gallery, capsys, "--query", "a/c1/t1", "--output", tmp_path / "found.png")
    assert [path.name for path in tmp_path.iterdir()] == ["found.png"]


def test_what_is_refused_creates_no_folder(gallery, capsys, tmp_path):
    refused(gallery, capsys, "--query", "none", "--output", tmp_path / "new/found.png")
    assert not (tmp_path / "new").exists()
