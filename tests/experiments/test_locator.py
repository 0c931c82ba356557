"""The experiments that train the network that locates, and that judge it, in their smallest form."""

import dataclasses

import numpy as np
import pytest
from people import random_model
from refusals import refused

from experiments import locating, locator
from vrstc_jax.data.images import write_png
from vrstc_jax.data.inputs.masks import read_mask
from vrstc_jax.inference.complete import complete_tracklet
from vrstc_jax.models.model_file import default_model_path, load_model, save_model

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("locator")
    save_model(folder / "model.safetensors", random_model())
    arguments = locator.Arguments(folder / "work", size="smoke", model=folder / "model.safetensors")
    return arguments, locator.main(arguments)


@pytest.mark.slow
def test_the_model_locates_pixel_by_pixel(trained):
    _, path = trained
    model = load_model(path)
    assert model.config.locating == locator._LOCATING["smoke"]
    assert set(model.provenance["locator"]["calibration_error"]) == {"before", "after"}
    frames = np.random.default_rng(0).integers(0, 256, (6, 40, 20, 3)).astype(np.uint8)
    done = complete_tracklet(model, frames, nearer=np.zeros((6, 40, 20), bool))
    assert done.amodal.shape == done.modal.shape == done.masks.shape == (6, 40, 20)
    assert not (done.modal & ~done.amodal).any()
    np.testing.assert_array_equal(done.frames[~done.masks], frames[~done.masks])


@pytest.mark.slow
def test_what_is_done_is_not_done_again(trained, capsys):
    arguments, path = trained
    before = path.read_bytes()
    assert locator.main(arguments) == path and "nothing is left to do" in capsys.readouterr().out
    path.unlink()
    locator.main(arguments)
    assert path.read_bytes() == before


@pytest.mark.slow
def test_other_settings_are_refused(trained):
    arguments, _ = trained
    with refused("other data or settings"):
        locator.main(dataclasses.replace(arguments, seed=1))


@pytest.mark.slow
def test_it_is_judged_on_walkers(trained, tmp_path, capsys, monkeypatch):
    _, path = trained
    monkeypatch.setattr(locating, "_WALKERS", locating._WALKERS[1:2])
    tables = locating.main(locating.Arguments((path,), people=1, frames=6, without=("future",), pictures=tmp_path))
    assert len(tables) == 2 and all("all" in table for table in tables.values())
    assert "needless %" in capsys.readouterr().out
    assert len(list(tmp_path.glob("*.png"))) == 2


@pytest.mark.parametrize("change, said", [({"without": ("hats",)}, "There is no kind of evidence 'hats'"),
                                          ({"video": "x.mp4"}, "--video and --boxes go together")])
def test_bad_input_is_one_line(change, said):
    with refused(said):
        locating.main(locating.Arguments((default_model_path(),), **change))


def test_imagenet_weights_are_needed(tmp_path):
    with refused("--imagenet is missing"):
        locator.main(locator.Arguments(tmp_path / "work"))
    assert not (tmp_path / "work").exists()


def test_a_model_that_locates_by_bands_has_no_pixels_to_judge():
    with refused("locates by bands"):
        locating.main(locating.Arguments((default_model_path(),)))


@pytest.mark.slow
def test_the_command_keeps_what_was_found_of_each_person(trained, tmp_path, vrstc):
    _, path = trained
    rng = np.random.default_rng(0)
    for index in range(3):
        write_png(tmp_path / f"in/7/{index:03d}.png", rng.integers(0, 256, (40, 20, 3)).astype(np.uint8))
    vrstc("complete", tmp_path / "in", "--model", path, "--output", tmp_path / "out")
    for index in range(3):
        whole, seen = (read_mask(tmp_path / f"out/parts/{part}/7/{index:03d}.png") for part in ("whole", "visible"))
        assert whole.shape == (40, 20) and not (seen & ~whole).any()
