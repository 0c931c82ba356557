"""Pictures and masks come back from files as they were written, and bad files are refused in one line."""

import os

import cv2
import numpy as np
import pytest
from footage import noise, smooth
from PIL import Image
from refusals import refused

from vrstc_jax.data.images import check_picture, decode_image, encode_png, read_image, write_png
from vrstc_jax.data.inputs.masks import read_mask
from vrstc_jax.runtime.storage import require_writable_directory


class TestImages:
    def test_png_comes_back_exactly_and_cv2_agrees(self, tmp_path):
        picture = noise(0)
        write_png(tmp_path / "a/b/c.png", picture)
        np.testing.assert_array_equal(read_image(tmp_path / "a/b/c.png"), picture)
        np.testing.assert_array_equal(cv2.imread(str(tmp_path / "a/b/c.png"))[:, :, ::-1], picture)
        np.testing.assert_array_equal(decode_image(encode_png(picture)), picture)
        assert os.listdir(tmp_path / "a/b") == ["c.png"]

    def test_masks_are_white_where_hidden(self, tmp_path):
        mask = np.random.default_rng(0).random((9, 7)) > 0.5
        write_png(tmp_path / "m.png", mask)
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "m.png")), np.where(mask, 255, 0))
        for mode in ("1", "L", "RGB", "RGBA", "P"):
            Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).convert(mode).save(tmp_path / "n.png")
            np.testing.assert_array_equal(read_mask(tmp_path / "n.png"), mask, err_msg=mode)
        Image.fromarray(np.array([[127, 128]], np.uint8)).save(tmp_path / "n.png")
        assert read_mask(tmp_path / "n.png").tolist() == [[False, True]]

    def test_masks_without_white_are_not_taken_for_nothing_hidden(self, tmp_path):
        for values in ([0, 1], [1, 1], [0, 127]):
            Image.fromarray(np.array([values], np.uint8)).save(tmp_path / "n.png")
            with refused("n.png: a mask is white (255)", f"value is {max(values)}."):
                read_mask(tmp_path / "n.png")
        Image.fromarray(np.zeros((1, 2), np.uint8)).save(tmp_path / "n.png")
        assert not read_mask(tmp_path / "n.png").any()

    def test_masks_painted_on_a_transparent_ground(self, tmp_path):
        mask = np.random.default_rng(0).random((9, 7)) > 0.5
        for colour in ((0, 0, 0), (255, 255, 255), (200, 30, 40), (127, 127, 127)):
            picture = np.dstack([np.full((9, 7, 3), colour, np.uint8), np.where(mask, 255, 0).astype(np.uint8)])
            for mode in ("RGBA", "LA", "PA"):
                Image.fromarray(picture, "RGBA").convert(mode if mode != "PA" else "P").save(tmp_path / "n.png")
                np.testing.assert_array_equal(read_mask(tmp_path / "n.png"), mask, err_msg=f"{mode} {colour}")
            picture[..., 3] = 0
            Image.fromarray(picture, "RGBA").save(tmp_path / "n.png")
            assert not read_mask(tmp_path / "n.png").any()
        # A colour that means transparent, in a picture without the channel.
        Image.fromarray(np.where(mask, 0, 255).astype(np.uint8)).save(tmp_path / "n.png", transparency=255)
        np.testing.assert_array_equal(read_mask(tmp_path / "n.png"), mask)
        # The channel alone, opaque everywhere, changes nothing.
        grey = np.where(mask, 255, 0).astype(np.uint8)
        Image.fromarray(np.dstack([grey] * 3 + [np.full_like(grey, 255)]), "RGBA").save(tmp_path / "n.png")
        np.testing.assert_array_equal(read_mask(tmp_path / "n.png"), mask)

    def test_masks_with_transparency_that_could_mean_either(self, tmp_path):
        rows = np.array([[[0, 255], [255, 255], [0, 0]]], np.uint8)
        Image.fromarray(rows, "LA").save(tmp_path / "n.png")
        with refused("n.png: a mask is either white on black, or painted", "black, white and transparent"):
            read_mask(tmp_path / "n.png")
        Image.fromarray(np.array([[[0, 100], [0, 0]]], np.uint8), "LA").save(tmp_path / "n.png")
        with refused("n.png", "highest opacity is 100."):
            read_mask(tmp_path / "n.png")

    def test_sixteen_bits_are_scaled_and_jpegs_turned_upright(self, tmp_path):
        Image.fromarray(np.array([[0, 256, 65535]], np.uint16)).save(tmp_path / "deep.png")
        assert read_image(tmp_path / "deep.png")[0, :, 1].tolist() == [0, 1, 255]
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(smooth(0, 30, 50)).save(tmp_path / "turned.jpg", exif=exif)
        assert read_image(tmp_path / "turned.jpg").shape == (50, 30, 3)
        assert check_picture(tmp_path / "turned.jpg") == (50, 30)

    @pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "webp"])
    def test_pictures_cut_short_or_damaged_are_refused(self, tmp_path, suffix):
        path = tmp_path / f"picture.{suffix}"
        Image.fromarray(smooth(0, 200, 300)).save(path)
        assert check_picture(path) == (200, 300)
        whole = path.read_bytes()
        damaged = [whole[:int(len(whole) * share)] for share in (0.0, 0.1, 0.6, 0.98)]
        if suffix == "png":  # One byte is wrong: the other formats have no checksum.
            middle = len(whole) // 2
            damaged.append(whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1:])
        for data in damaged:
            path.write_bytes(data)
            for read in (check_picture, read_image):
                with refused(path):
                    read(path)

    @pytest.mark.parametrize("suffix", ["tif", "png", "bmp"])
    def test_pictures_with_a_side_that_no_png_holds_are_refused(self, tmp_path, suffix):
        """Their completions could not be written, after all the work."""
        path = tmp_path / f"long.{suffix}"
        Image.new("L", (1, 1_000_001)).save(path)
        for read in (read_image, check_picture):
            with refused(path, "1x1000001 pixels, and a side may have 1000000"):
                read(path)

    def test_paths_that_cannot_be_written(self, tmp_path):
        (tmp_path / "file").write_text("")
        require_writable_directory(tmp_path / "new/deeper")
        assert os.listdir(tmp_path / "new/deeper") == []
        # /proc is a file system that refuses even root.
        for bad in (tmp_path / "file", tmp_path / "file/below", *(["/proc/vrstc"] if os.path.isdir("/proc") else [])):
            with refused(bad):
                require_writable_directory(bad)
        with refused(tmp_path / "file/p.png"):
            write_png(tmp_path / "file/p.png", noise(0))

    def test_an_interrupted_write_leaves_the_old_file(self, tmp_path, monkeypatch):
        write_png(tmp_path / "p.png", noise(0))
        monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
        with refused("No space left"):
            write_png(tmp_path / "p.png", noise(1))
        np.testing.assert_array_equal(read_image(tmp_path / "p.png"), noise(0))
        assert os.listdir(tmp_path) == ["p.png"]
