"""Made-up pictures and videos, their boxes and masks, and what is cut from them.

Videos that must come back exactly are FFV1, which is lossless in its colour space, so that crops are compared with
what PyAV alone decodes from the same file.
"""


import av
import cv2
import numpy as np
from refusals import refused

from vrstc_jax.data.images import write_png
from vrstc_jax.data.inputs.sources import open_source

HEIGHT, WIDTH = 48, 64


def noise(seed, height=HEIGHT, width=WIDTH):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(seed, height=HEIGHT, width=WIDTH):
    return cv2.resize(noise(seed, 4, 5), (width, height))


def refuses(*parts, **arguments):
    """Expects that open_source raises an InputError of one line that holds all `parts`."""
    with refused(*parts):
        open_source(**arguments)


def make_video(path, *, frames=20, codec="ffv1", container=None, rate=10):
    with av.open(str(path), "w", options=container or {}) as output:
        stream = output.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(frames):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(smooth(index), format="rgb24")))
        output.mux(stream.encode(None))
    return path


def decoded(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def cut(pictures, tracklet):
    """The crops of a tracklet's boxes from the pictures of a video."""
    return [pictures[frame - 1][top:top + height, left:left + width]
            for frame, left, top, width, height in tracklet.boxes.astype(int)]


def assert_same(first, second):
    """That two sequences have as many frames, and the same ones."""
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def mask(path, width, height):
    write_png(path, np.ones((height, width), bool))


def write_boxes(path, *lines):
    path.write_text("\n".join(lines) + "\n")
    return path
