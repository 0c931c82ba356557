"""Locating and completing, in crops a second."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import numpy as np

from tools.accelerator_report.plan import Size
from tools.attention_forms import LeftOut
from tools.example_steps import IDENTITIES, example_step
from vrstc_jax import config as configs

_HEIGHT, _WIDTH = 128, 64


def measure(size: Size) -> Iterator[dict[str, Any]]:
    """{model: {'locating', 'completing': {'crops', 'seconds', 'crops_per_second'}}} of crops in memory.

    Every second crop has its lower half hidden, and these are counted in completing. The time includes the resizing of
    crops on the host.

    Raises:
      LeftOut: a library that completing needs is not installed.
    """
    try:
        from vrstc_jax.data.tracklets import Tracklet
        from vrstc_jax.inference.completer import Completer
        from vrstc_jax.models.model_file import Model, load_model
    except ImportError as error:
        raise LeftOut(f"{error.name} is not installed; locating and completing need OpenCV and safetensors") from None

    def model_of(name: str) -> Model:
        if name == "default":
            return load_model()
        config = configs.get(name)
        with jax.default_device(jax.devices("cpu")[0]):
            _, (state, reid), _ = example_step(config.stcnet_task, 1, jax.devices()[:1])
        return Model(config=config, generators=state.params["generators"], discriminators={}, reid=reid,
                     identities=tuple(map(str, range(IDENTITIES))), tau=0.5)

    frames = list(np.random.default_rng(0).integers(0, 256, (size.crops, _HEIGHT, _WIDTH, 3)).astype(np.uint8))
    hidden = np.zeros((size.crops, _HEIGHT, _WIDTH), bool)
    hidden[1::2, _HEIGHT // 2:] = True
    tracklet = Tracklet(name="crops", frames=frames, frame_names=tuple(f"{i:06d}" for i in range(size.crops)))
    masked = dataclasses.replace(tracklet, masks=list(hidden))
    result = {}
    for name in size.models:
        completer = Completer(model_of(name))
        result[name] = {"locating": _timed(size.crops, partial(completer.locator.scores, frames))}
        yield result
        result[name]["completing"] = _timed(size.crops // 2, lambda c=completer: list(c.stream(masked)))
        yield result


def _timed(crops: int, call: Callable[[], object]) -> dict[str, float]:
    call()  # compiles
    began = time.perf_counter()
    call()
    seconds = time.perf_counter() - began
    return {"crops": crops, "seconds": seconds, "crops_per_second": crops / seconds}
