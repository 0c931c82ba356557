"""Good inputs, made once in a process: a model, pictures, videos with boxes, data sets, checkpoints, results."""

import io
import shutil
from collections.abc import Callable
from fractions import Fraction
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from vrstc_jax import config as configs
from vrstc_jax.models.expected import completion_shapes, reid_shapes
from vrstc_jax.models.model_file import Model, save_model

HEIGHT, WIDTH, FRAMES = 48, 64, 8  # of the videos
VIDEOS = {"v.mp4": "mpeg4", "h.mp4": "libx264", "v.mkv": "libx264", "v.avi": "mjpeg", "m.avi": "mpeg4",
          "v.webm": "libvpx", "v.ts": "mpeg2video", "v.gif": "gif", "f.mkv": "ffv1", "v.mov": "mjpeg",
          "v.mpg": "mpeg1video", "v.flv": "flv", "v.h264": "libx264"}
"""Names of the good videos, and their codecs."""
TRACKS = {1: (4, 4, 12, 24), 2: (36, 10, 16, 30)}
"""Left, top, width and height of the two people, who stand still."""
_IDENTITIES = ("a", "b", "c")


class Good:
    """The good inputs.

    Args:
      folder: where they are kept, outside the folders of the tries.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    @cached_property
    def model(self) -> Model:
        """A model of size `smoke` with random weights, none of them zero."""
        config = configs.get("smoke")
        shapes = completion_shapes(config)
        return Model(config, identities=_IDENTITIES, tau=0.3, reid=self.reid(len(_IDENTITIES)),
                     generators=random_weights(shapes["generators"]),
                     discriminators=random_weights(shapes["discriminators"]))

    @cache  # noqa: B019, one object in a process
    def reid(self, identities: int) -> dict[str, Any]:
        """Random variables of a re-ID network with this many identities."""
        return random_weights(reid_shapes(configs.get("smoke").reid, identities, "ReidNet"))

    @cached_property
    def model_file(self) -> Path:
        """The file of `model`."""
        save_model(self.folder / "model.safetensors", self.model)
        return self.folder / "model.safetensors"

    @cached_property
    def videos(self) -> dict[str, bytes]:
        """Videos of the names and codecs of `VIDEOS`."""
        (self.folder / "videos").mkdir(parents=True, exist_ok=True)
        return {name: write_video(self.folder / "videos" / name, codec).read_bytes()
                for name, codec in VIDEOS.items()}

    @cached_property
    def decoded(self) -> dict[str, list[np.ndarray]]:
        """The frames of each video, as PyAV decodes them."""
        found = {}
        for name, data in self.videos.items():
            with av.open(io.BytesIO(data), "r") as container:
                frames = container.decode(container.streams.video[0])
                found[name] = [frame.to_ndarray(format="rgb24") for frame in frames]
        return found

    def finished(self, folder: Path, name: str, make: Callable[[Path], object]) -> None:
        """Puts into an empty folder what `make` put there when this was first called by this name, times too."""
        kept = self.folder / name
        if not kept.exists():
            make(folder)
            shutil.copytree(folder, kept, symlinks=True)
            return
        shutil.rmtree(folder)
        shutil.copytree(kept, folder, symlinks=True)

    @staticmethod
    def crops(folder: Path, *, people: tuple[str, ...] = ("a", "b"), count: int = 3) -> dict[str, np.ndarray]:
        """Writes folders of crops; returns {person/frame: picture}."""
        found = {}
        for seed, person in enumerate(people):
            (folder / person).mkdir(parents=True, exist_ok=True)
            for index in range(count):
                found[f"{person}/{index:04d}"] = picture = figure(index, seed=seed)
                Image.fromarray(picture).save(folder / person / f"{index:04d}.png")
        return found

    @staticmethod
    def boxes(first: int = 1) -> list[str]:
        """Lines of boxes for a good video."""
        return [f"{first + index},{track},{','.join(map(str, box))},1,-1,-1,-1"
                for index in range(FRAMES) for track, box in TRACKS.items()]


def figure(index: int, height: int = 40, width: int = 20, seed: int = 0) -> np.ndarray:
    """A figure in clothes of three colours, uint8 [height, width, 3]; frames differ in a stripe."""
    clothes = np.random.default_rng(seed).integers(60, 200, (3, 3)).astype(np.uint8)
    frame = np.full((height, width, 3), (90, 120, 90), np.uint8)
    for band in range(3):
        frame[height * band // 3:height * (band + 1) // 3, width // 4:width // 4 + max(1, width // 2)] = clothes[band]
    frame[(height * 2 // 3 + index) % height] = 255
    return frame


def random_weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    """A nested dictionary of random float32 tensors by their names and shapes."""
    from flax import traverse_util

    rng, found = np.random.default_rng(0), {}
    for name, shape in sorted(shapes.items()):
        if name.endswith(("var", "scale")) and not name.endswith("softmax_scale"):
            value = rng.uniform(0.5, 1.5, shape)
        elif name.endswith("softmax_scale"):
            value = np.full(shape, 10.0)
        else:
            fan_in = max(1, int(np.prod(shape[:-1])))
            value = rng.standard_normal(shape) * (0.1 if len(shape) < 2 else fan_in ** -0.5)
        found[name] = np.asarray(value, np.float32)
    return traverse_util.unflatten_dict(found, sep="/")


def write_video(path: Path, codec: str) -> Path:
    """Writes `FRAMES` pictures of two people, 10 a second."""
    # Bit-exact, so that a video is the same in every process.
    with av.open(str(path), "w", format="h264" if path.suffix == ".h264" else None,
                 options={"fflags": "+bitexact"}) as output:
        rate = 25 if codec in ("mpeg1video", "mpeg2video") else 10
        exact = {"flags": "+bitexact", "threads": "1"} | ({"x264-params": "mbtree=0"} if codec == "libx264" else {})
        stream: Any = output.add_stream(codec, rate=rate, options=exact)
        stream.width, stream.height = WIDTH, HEIGHT
        stream.pix_fmt = {"gif": "rgb8", "mjpeg": "yuvj420p", "ffv1": "bgr0"}.get(codec, "yuv420p")
        for index in range(FRAMES):
            picture = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
            picture[:4, ::4] = 40 * (index % 6)
            for track, (left, top, width, height) in TRACKS.items():
                picture[top:top + height, left:left + width] = figure(index, height, width, seed=track)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, rate)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path

