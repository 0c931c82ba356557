"""Where repainted pixels come from: what is told of them, and how files tell it."""

import numpy as np
import pytest
from refusals import refused

from vrstc_jax.data.images import read_numbers, write_png
from vrstc_jax.inference.origin import AS_IT_WAS, IMAGINED, Origin

MASK = np.array([[0, 1, 1], [1, 0, 1]], bool)
# Of frame 70,000: two pixels of an earlier frame, one of a later, one imagined.
FOUND = Origin(70_000, MASK, np.array([69_990, 69_990, 70_003, IMAGINED], np.int32),
               np.array([[12, 0], [65_535, 7], [8, 16], [0, 0]], np.uint16))


def test_maps():
    assert FOUND.frames.tolist() == [[AS_IT_WAS, 69_990, 69_990], [70_003, AS_IT_WAS, IMAGINED]]
    assert FOUND.places[0, 1].tolist() == [1.5, 0] and FOUND.places[0, 2].tolist() == [8191.875, 0.875]
    assert FOUND.places[1, 0].tolist() == [1, 2] and not FOUND.places[0, 0].any() and not FOUND.places[1, 2].any()


def test_shares_and_sides():
    assert FOUND.imagined == 0.25 and FOUND.nearest() == (69_990, 70_003)
    alone = Origin.imagined_all(3, MASK)
    assert alone.imagined == 1 and alone.nearest() == (-1, -1) and (alone.frames[MASK] == IMAGINED).all()
    assert Origin.imagined_all(3, np.zeros((2, 3), bool)).imagined == 0
    # On each side the frame that most pixels come from.
    many = Origin(5, np.ones((1, 5), bool), np.array([1, 2, 2, 9, 8], np.int32), np.zeros((5, 2), np.uint16))
    assert many.nearest() == (2, 8)


def test_through_a_file(tmp_path):
    write_png(tmp_path / "a/o.png", FOUND.picture())
    picture = read_numbers(tmp_path / "a/o.png")
    # As the module's text says: nothing, ten frames before, three after, imagined.
    assert picture[..., 0].tolist() == [[0, 32_758, 32_758], [32_771, 0, 65_535]]
    again = Origin.of_picture(70_000, picture)
    for part in ("mask", "sources", "positions"):
        np.testing.assert_array_equal(getattr(again, part), getattr(FOUND, part), strict=True)


def test_other_files_are_refused(tmp_path):
    write_png(tmp_path / "mask.png", MASK)
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n")
    for name in ("mask.png", "empty.png", "cut.png", "none.png"):
        with refused(name):
            read_numbers(tmp_path / name)
    with pytest.raises(ValueError, match="uint8"):
        Origin.of_picture(0, np.zeros((2, 2, 3), np.uint8))
