"""Made-up cameras: exposure, colour, blur, noise, and the recorder's compression."""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from vrstc_jax.data.walkers.variety import Variety


@dataclass(frozen=True)
class Camera:
    """A camera's optics, colours and recorder.

    Attributes:
      cast: colour cast, a factor for each channel, [3].
      exposure, contrast: factors.
      blur: of the optics, standard deviation in pixels of a picture 256 high.
      noise: standard deviation of values in [0, 1].
      light: direction of the light, −1 (from the left) to 1 (from the right).
      squeeze: factor for heights, of a camera that looks down.
      gamma, saturation: of colours; 1 changes nothing.
      pixels: height of a person's crop in the camera's native pixels; None: the height of the requested crop.
      sharpening: strength of an unsharp mask, which leaves halos as cameras do; 0: none.
      quality: of the recorder's JPEG, 1 to 100; None: no compression.
    """

    cast: np.ndarray
    exposure: float
    contrast: float
    blur: float
    noise: float
    light: float
    squeeze: float
    gamma: float = 1.0
    saturation: float = 1.0
    pixels: int | None = None
    sharpening: float = 0.0
    quality: int | None = None

    def own_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) in the camera's native pixels of a crop of `size`."""
        if self.pixels is None:
            return size
        return self.pixels, max(4, round(size[1] * self.pixels / size[0]))

    def develop(self, picture: np.ndarray, size: tuple[int, int], noise: np.ndarray) -> np.ndarray:
        """The picture as the camera records it.

        Args:
          picture: float32 [h, w, 3] in [0, 1], larger than the result.
          size: (height, width) of the result.
          noise: float32 [*own_size(size), 3], of standard deviation 1.

        Returns:
          uint8 [*size, 3].
        """
        own = self.own_size(size)
        # In the order of a real camera: optics, sensor, processing, recorder.
        picture = cv2.GaussianBlur(picture, (0, 0), self.blur * picture.shape[0] / 256)
        picture = cv2.resize(picture, own[::-1], interpolation=cv2.INTER_AREA)
        if self.sharpening:
            picture = picture + self.sharpening * (picture - cv2.GaussianBlur(picture, (0, 0), 1.0))
        if self.gamma != 1:
            picture = np.clip(picture, 0, 1) ** self.gamma
        if self.saturation != 1:
            grey = picture.mean(-1, keepdims=True)
            picture = grey + self.saturation * (picture - grey)
        seen = (picture * self.cast * self.exposure - 0.5) * self.contrast + 0.5
        seen = np.clip(np.round((seen + self.noise * noise) * 255), 0, 255).astype(np.uint8)
        if self.quality is not None:
            _, encoded = cv2.imencode(".jpg", seen, [cv2.IMWRITE_JPEG_QUALITY, self.quality])
            # cv2 takes the channels for BGR on both ways, so that their order does not matter.
            seen = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR))
        if own == size:
            return seen
        smaller = own[0] > size[0]
        return cv2.resize(seen, size[::-1], interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)

    def spread(self, size: tuple[int, int]) -> float:
        """How far an edge is blurred: standard deviation in pixels of a picture of twice `size`."""
        # A native pixel blurs by about half its width; variances add.
        return float(np.hypot(self.blur * 2 * size[0] / 256,
                              0.0 if self.pixels is None else 0.5 * max(1.0, 2 * size[0] / self.pixels)))


def make_camera(rng: np.random.Generator) -> Camera:
    """Draws a camera."""
    return Camera(cast=np.clip(1 + rng.normal(0, 0.06, 3), 0.8, 1.2).astype(np.float32),
                  exposure=rng.uniform(0.75, 1.25), contrast=rng.uniform(0.8, 1.2), blur=rng.uniform(0.6, 2.0),
                  noise=rng.uniform(0.004, 0.025), light=rng.uniform(-1, 1), squeeze=rng.uniform(0.9, 1.0))


def vary_camera(camera: Camera, variety: Variety, rng: np.random.Generator, height: int) -> Camera:
    """Draws the camera's lens, light and compression again, as far as the variety has these kinds on.

    Args:
      rng: source of random numbers.
      height: of the crops, in pixels.
    """
    # Draws for all three kinds, also those that are off, so that one kind does not change another's numbers.
    draws = {
        "lens": {"pixels": int(np.clip(np.exp(rng.normal(np.log(1.4), 0.4)) * height, 0.7 * height, 4 * height)),
                 "blur": float(np.exp(rng.uniform(np.log(0.3), np.log(1.8)))),
                 "noise": float(np.exp(rng.uniform(np.log(0.002), np.log(0.03)))),
                 "sharpening": rng.uniform(0, 1.8) if rng.random() < 0.6 else 0.0},
        "light": {"gamma": float(np.exp(rng.normal(0, 0.15))), "saturation": rng.uniform(0.5, 1.3),
                  "exposure": rng.uniform(0.75, 1.35), "contrast": rng.uniform(0.8, 1.35),
                  "cast": np.clip(1 + rng.normal(0, 0.05, 3), 0.8, 1.2).astype(np.float32)},
        "compression": {"quality": int(rng.integers(20, 96))},
    }
    return replace(camera, **{name: value for kind, fields in draws.items() if getattr(variety, kind)
                              for name, value in fields.items()})
