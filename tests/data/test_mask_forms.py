"""All masks of an input have one form: white on black, or painted on a transparent ground."""

import numpy as np
from footage import HEIGHT, WIDTH, make_video, refuses
from PIL import Image
from refusals import refused

from vrstc_jax.data.inputs.folders import read_folder
from vrstc_jax.data.inputs.sources import open_source


def test_masks_of_an_input_have_one_form(tmp_path):
    """Opaque everywhere, where others are painted: everything is hidden, whatever the colour."""
    partly, opaque = np.zeros((9, 7, 4), np.uint8), np.zeros((9, 7, 4), np.uint8)
    partly[2:5, :, 3], opaque[..., 3] = 255, 255
    top, masks = tmp_path / "top/t", tmp_path / "masks/t"
    for folder, pictures in ((top, [partly[..., :3]] * 3), (masks, [opaque, partly, opaque * 0])):
        folder.mkdir(parents=True)
        for number, picture in enumerate(pictures):
            Image.fromarray(picture).save(folder / f"{number}.png")
    shares = lambda: [mask.mean().round(2) for mask in read_folder(top.parent, masks=masks.parent)[0].masks]
    assert shares() == [1.0, 0.33, 0.0]
    made_from = read_folder(top.parent, masks=masks.parent)[0].made_from
    opaque[:4, :, :3] = 255
    Image.fromarray(opaque).save(masks / "0.png")
    with refused("masks/t/0.png", "black, white and transparent"):
        shares()
    for number in (1, 2):
        Image.fromarray(opaque).save(masks / f"{number}.png")
    assert shares() == [0.44] * 3 and read_folder(top.parent, masks=masks.parent)[0].made_from != made_from
    Image.fromarray(partly).save(masks / "1.png")
    Image.fromarray(partly[..., 3]).save(masks / "2.png")
    refuses("masks/t/2.png", "without transparency", "1.png", path=top.parent, masks=masks.parent)
    assert [mask.any() for mask in read_folder(top.parent, truth=masks.parent)[0].truth] == [True, False, True]


def test_masks_of_a_videos_pictures_have_one_form(tmp_path):
    path, masks = make_video(tmp_path / "v.avi"), tmp_path / "masks"
    masks.mkdir()
    (tmp_path / "b.txt").write_text("1,7,0,0,20,10\n2,7,0,0,20,10\n")
    for number, rows in ((1, HEIGHT), (2, 5)):
        picture = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
        picture[:rows, :, 3] = 255
        Image.fromarray(picture).save(masks / f"{number:06d}.png")
    tracklet, = open_source(path, boxes=tmp_path / "b.txt", masks=masks).tracklets
    assert [mask.mean() for mask in tracklet.masks] == [1.0, 0.5]
