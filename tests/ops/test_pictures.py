"""Pictures at other sizes: averages where they are smaller."""

import numpy as np

from vrstc_jax.ops.pictures import resize, thumbnail


class TestResize:
    def test_smaller_is_averaged_and_larger_is_between(self):
        picture = np.random.default_rng(0).integers(0, 256, (12, 8, 3), dtype=np.uint8)
        averaged = picture.reshape(4, 3, 4, 2, 3).mean((1, 3))
        assert np.abs(resize(picture, 4, 4) - averaged).max() <= 0.5 + 1e-6
        assert resize(picture, 12, 8) is picture
        larger = resize(picture, 24, 24)
        assert larger.shape == (24, 24, 3) and larger.dtype == np.uint8
        assert larger.min() >= picture.min() and larger.max() <= picture.max()
        np.testing.assert_allclose(resize(np.eye(2, dtype=np.float32), 4, 4)[0], [1, 0.75, 0.25, 0])


def test_thumbnails_are_averages():
    frame = np.random.default_rng(1).integers(0, 256, (32, 16, 3)).astype(np.uint8)
    np.testing.assert_allclose(thumbnail(frame), frame.reshape(16, 2, 8, 2, 3).mean((1, 3)), atol=0.5 + 1e-6)
