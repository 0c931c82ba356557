"""The tool that draws the README's picture: the tracklets that it chooses, and bad paths."""

import pytest
from people import random_model

from tools import readme_picture
from vrstc_jax import config as configs
from vrstc_jax.data.images import read_image
from vrstc_jax.models.model_file import save_model
from vrstc_jax.recipes.demo import test_walkers as walkers_of
from vrstc_jax.runtime.lifecycle import run_as_command

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture
def demo(tmp_path):
    save_model(tmp_path / "demo/model.safetensors", random_model())
    return tmp_path / "demo"


def test_two_tracklets(demo, tmp_path, capsys):
    names = [walker.name for walker in walkers_of(configs.get("smoke"))][:3]
    readme_picture.main(readme_picture.Arguments(demo, tmp_path / "new/picture.png", ",".join(names[1:])))
    assert capsys.readouterr().out.split() == names[1:]
    # Two groups of four rows of frames with a frame of one pixel each, twice as large, and white between.
    assert read_image(tmp_path / "new/picture.png").shape == (2 * 4 * (2 * 32 + 2) + 12, 8 * (2 * 16 + 2), 3)


@pytest.mark.parametrize("where, picture, tracklets, said", [
    ("nowhere", "picture.png", "", "nowhere/model.safetensors: no such model file"),
    ("demo", "demo", "", "demo: is a folder; give the name of the PNG to write."),
    ("demo", "file/picture.png", "", "file: this folder cannot be written in"),
    ("demo", "picture.png", "hats", "--tracklets hats: there is no tracklet 'hats'; choose from ")])
def test_bad_input_is_one_line_and_exit_code_2(demo, tmp_path, capsys, where, picture, tracklets, said):
    (tmp_path / "file").write_text("")
    arguments = readme_picture.Arguments(tmp_path / where, tmp_path / picture, tracklets)
    with pytest.raises(SystemExit) as ended:
        run_as_command(lambda: readme_picture.main(arguments))
    complaint = capsys.readouterr().err
    assert ended.value.code == 2 and complaint.count("\n") == 1 and said in complaint
    assert not (tmp_path / "picture.png").exists()
