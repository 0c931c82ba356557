"""Names and axes of foreign weights: torchvision's and Keras' ResNets in our layout."""

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from vrstc_jax import config as configs
from vrstc_jax.models.imagenet.weight_files import read_state_dict, read_tensorflow_js
from vrstc_jax.models.resnet import ResNet, normalise
from vrstc_jax.runtime.errors import InputError

KERAS_MEAN = (123.68, 116.779, 103.939)  # red, green, blue, of 255
_DEPTHS = {((2, 2, 2, 2), False): 18, ((3, 4, 6, 3), False): 34, ((3, 4, 6, 3), True): 50,
           ((3, 4, 23, 3), True): 101, ((3, 8, 36, 3), True): 152}
# The parts that a foreign file must have; it has no non-local blocks.
_OF_RESNET = re.compile(r"stem_(conv|norm)|stage\d+_block\d+/(conv\d|norm\d|shortcut_(conv|norm))")


@dataclass(frozen=True, eq=False)
class Weights:
    """Weights of a ResNet from a file, in our layout.

    Attributes:
      fields: the fields of `config.Reid` that these weights fix: blocks, bottleneck, base_width, stem_pool,
        stride_on, norm_epsilon.
      variables: {'params', 'batch_stats'} of `resnet.ResNet`, float32.
      head: {'kernel' [C, K], 'bias' [K]} of the classifier over the last map's mean, or None.
      classes: the K names, or None where the file has none.
      layout: 'torchvision' or 'Keras'.
      depth: the number of layers in the network's name.
      tensors: how many of the file's tensors are used.
      parameters: how many numbers in them were trained (batch norm's means and variances were not).
      border_error: the largest change of the first batch norm's output at the picture's border.
    """

    fields: dict
    variables: dict
    head: dict | None
    classes: tuple[str, ...] | None
    layout: str
    depth: int
    tensors: int
    parameters: int
    border_error: float = 0.0


def read_weights(path: str | os.PathLike) -> Weights:
    """The weights in a `.pth`, `.pt` or `.safetensors` file, or in a TensorFlow.js model's folder or `.tgz`.

    Raises:
      InputError: it cannot be read, is of another kind, or a tensor of it does not fit.
    """
    path = Path(path)
    if path.is_dir() or path.name.endswith((".tgz", ".tar.gz")):
        model = read_tensorflow_js(path)
        return from_keras(model.tensors, model.layers, classes=model.classes, source=path)
    return from_torchvision(read_state_dict(path), source=path)


def from_torchvision(tensors: dict[str, np.ndarray], *, source: str | os.PathLike = "the state dict") -> Weights:
    """Weights from torchvision's names and layout: `layer1.0.conv1.weight`, kernels [O, I, h, w].

    Args:
      tensors: the state dict; with or without `fc` and `num_batches_tracked`.
      source: what errors call it.

    Raises:
      InputError: a tensor is missing, left over, of another shape, or not of finite numbers.
    """
    tensors = {name: value for name, value in tensors.items() if not name.endswith(".num_batches_tracked")}
    blocks = _blocks(tensors, r"layer([1-4])\.(\d+)\.", int, "layer1.0.conv1.weight", source)
    fields = {"blocks": blocks, "bottleneck": any(".conv3." in name for name in tensors),
              "base_width": _stem_width(tensors.get("conv1.weight"), 0), "stem_pool": True, "stride_on": "3x3",
              "norm_epsilon": 1e-5}
    depth = _depth(fields, source)
    shapes = _shapes(fields)
    wanted = {_torchvision_name(path): _torch_shape(shape) for path, shape in shapes.items()}
    has_head = "fc.weight" in tensors or "fc.bias" in tensors
    if has_head:
        number = (next(tensors[name] for name in ("fc.weight", "fc.bias") if name in tensors).shape or (0,))[0]
        wanted |= {"fc.weight": (number, _channels(fields)), "fc.bias": (number,)}
    what = f"torchvision's ResNet-{depth} of width {fields['base_width']}"
    tensors = _checked(tensors, wanted, what, source)
    flat = {path: _from_torch(tensors[_torchvision_name(path)]) for path in shapes}
    head = {"kernel": tensors["fc.weight"].T, "bias": tensors["fc.bias"]} if has_head else None
    return Weights(fields, _tree(flat), head, None, "torchvision", depth, len(tensors), _trained(tensors, "running_"))


def from_keras(tensors: dict[str, np.ndarray], layers: dict[str, dict], *, classes: tuple[str, ...] | None = None,
               source: str | os.PathLike = "the model") -> Weights:
    """Weights from Keras' names and layout: `res2a_branch2a/kernel`, kernels [h, w, I, O].

    Args:
      tensors: the model's weights; with or without `fc1000`.
      layers: {layer's name: its config}, for strides and epsilon.
      classes: the classes' names, if known.
      source: what errors call it.

    Raises:
      InputError: as `from_torchvision`; or strides or epsilons are not those of a ResNet.
    """
    blocks = _blocks(tensors, r"res([2-5])([a-z])_branch", lambda letter: ord(letter) - ord("a"),
                     "res2a_branch2a/kernel", source)
    fields = {"blocks": blocks, "bottleneck": True, "base_width": _stem_width(tensors.get("conv1/kernel"), 3),
              "stem_pool": True, "stride_on": _keras_stride(layers, source),
              "norm_epsilon": _keras_epsilon(layers, source)}
    depth = _depth(fields, source)
    shapes = _shapes(fields)
    wanted = {_keras_name(path): shape for path, shape in shapes.items()}
    biases = {path: _keras_name((*path[:-1], "conv_bias")) for path in shapes if path[-1] == "kernel"}
    wanted |= {name: shapes[path][-1:] for path, name in biases.items()}
    has_head, number = "fc1000/kernel" in tensors or "fc1000/bias" in tensors, 0
    if has_head:
        number = (next(tensors[name] for name in ("fc1000/bias", "fc1000/kernel") if name in tensors).shape or (0,))[-1]
        wanted |= {"fc1000/kernel": (_channels(fields), number), "fc1000/bias": (number,)}
    what = f"Keras' ResNet-{depth} of width {fields['base_width']}"
    tensors = _checked(tensors, wanted, what, source)
    flat = {path: tensors[_keras_name(path)].astype(np.float64) for path in shapes}
    for path, name in biases.items():
        # The batch norm after a convolution subtracts its bias together with the mean.
        flat["batch_stats", *path[1:-2], path[-2].replace("conv", "norm"), "mean"] -= tensors[name]
    border_error = _take_our_pictures(flat, fields["norm_epsilon"])
    head = {"kernel": tensors["fc1000/kernel"], "bias": tensors["fc1000/bias"]} if has_head else None
    classes = classes if has_head and classes and len(classes) == number else None
    return Weights(fields, _tree(flat), head, classes, "Keras", depth, len(tensors),
                   _trained(tensors, "/moving_"), border_error)


# The tensors that a network needs.


def _blocks(names: Iterable[str], pattern: str, index: Callable[[str], int], example: str,
            source: str | os.PathLike) -> tuple[int, ...]:
    """How many blocks each stage has, by the highest one in the names."""
    counts: dict[str, int] = {}
    for match in filter(None, (re.match(pattern, name) for name in names)):
        counts[match[1]] = max(counts.get(match[1], 0), index(match[2]) + 1)
    if not counts:
        some = ", ".join(sorted(names)[:3]) or "no tensor"
        raise InputError(f"{source}: this is no ResNet that can be read: it has {some}, and no '{example}'.")
    return tuple(counts[stage] for stage in sorted(counts))


def _depth(fields: dict, source: str | os.PathLike) -> int:
    blocks, bottleneck = fields["blocks"], fields["bottleneck"]
    if (blocks, bottleneck) not in _DEPTHS:
        known = "; ".join(f"{depth} has {list(b)}" for (b, _), depth in _DEPTHS.items())
        kind = "bottlenecks" if bottleneck else "blocks"
        raise InputError(f"{source}: its stages have {list(blocks)} {kind}, as no known ResNet ({known}); "
                         "give a whole file of one of these.")
    return _DEPTHS[blocks, bottleneck]


def _stem_width(kernel: np.ndarray | None, axis: int) -> int:
    return kernel.shape[axis] if kernel is not None and kernel.ndim == 4 else 64


def _channels(fields: dict) -> int:
    return 8 * fields["base_width"] * (4 if fields["bottleneck"] else 1)


def _shapes(fields: dict) -> dict[tuple, tuple[int, ...]]:
    """{(collection, …, leaf): shape} of `resnet.ResNet`."""
    network = ResNet(configs.Reid(**fields))
    tree: Any = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    leaves: dict[tuple, Any] = dict(traverse_util.flatten_dict(tree))
    return {path: leaf.shape for path, leaf in leaves.items() if _OF_RESNET.fullmatch("/".join(path[1:-1]))}


def _checked(tensors: dict[str, np.ndarray], wanted: dict[str, tuple[int, ...]], what: str,
             source: str | os.PathLike) -> dict[str, np.ndarray]:
    """The tensors as float32, if they are those of `wanted` {name: shape}."""
    missing = [name for name in wanted if name not in tensors]
    if missing:
        raise InputError(f"{source}: {_first(missing)} of {what} is missing; give a whole file.")
    extra = [name for name in tensors if name not in wanted]
    if extra:
        raise InputError(f"{source}: {_first(extra)} is not a tensor of {what}; give that network's own file.")
    for name, shape in wanted.items():
        value = tensors[name]
        if value.shape != shape:
            raise InputError(f"{source}: {name} is {list(value.shape)}, and {what} wants {list(shape)}.")
        if value.dtype.kind != "f" or not np.isfinite(value).all():
            raise InputError(f"{source}: {name} ({value.dtype}) holds what are not finite floating-point "
                             "numbers; give another file.")
        if name.endswith(("var", "variance")) and value.min() < 0:
            raise InputError(f"{source}: {name} has a negative variance, {value.min()}; give another file.")
    return {name: value.astype(np.float32) for name, value in tensors.items()}


def _first(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} (and {len(names) - 1} more)"


def _trained(tensors: dict[str, np.ndarray], untrained: str) -> int:
    return sum(value.size for name, value in tensors.items() if untrained not in name)


def _tree(flat: dict[tuple, np.ndarray]) -> dict:
    return traverse_util.unflatten_dict({path: np.ascontiguousarray(value, np.float32)
                                         for path, value in flat.items()})


# torchvision's names and axes.


def _torchvision_name(path: tuple[str, ...]) -> str:
    """('params', 'stage1_block1', 'shortcut_norm', 'scale') to 'layer1.0.downsample.1.weight'."""
    leaf = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean",
            "var": "running_var"}[path[-1]]
    if len(path) == 3:
        return f"{ {'stem_conv': 'conv1', 'stem_norm': 'bn1'}[path[1]] }.{leaf}"
    stage, block = re.findall(r"\d+", path[1])
    module = {"shortcut_conv": "downsample.0", "shortcut_norm": "downsample.1"}.get(
        path[2], path[2].replace("norm", "bn"))
    return f"layer{stage}.{int(block) - 1}.{module}.{leaf}"


def _torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape


def _from_torch(value: np.ndarray) -> np.ndarray:
    return value.transpose(2, 3, 1, 0) if value.ndim == 4 else value


# Keras' names, strides and pictures.


def _keras_name(path: tuple[str, ...]) -> str:
    """('params', 'stage1_block1', 'shortcut_norm', 'scale') to 'bn2a_branch1/gamma'."""
    leaf = {"kernel": "kernel", "scale": "gamma", "bias": "beta", "mean": "moving_mean",
            "var": "moving_variance", "conv_bias": "bias"}[path[-1]]
    if len(path) == 3:
        return f"{ {'stem_conv': 'conv1', 'stem_norm': 'bn_conv1'}[path[1]] }/{leaf}"
    stage, block = map(int, re.findall(r"\d+", path[1]))
    kind, branch = ("bn" if "norm" in path[2] else "res"), path[2][-1]
    branch = f"2{'abc'[int(branch) - 1]}" if branch.isdigit() else "1"
    return f"{kind}{stage + 1}{chr(ord('a') + block - 1)}_branch{branch}/{leaf}"


def _keras_stride(layers: dict[str, dict], source: str | os.PathLike) -> str:
    try:
        found: set[tuple] = {tuple(tuple(layers[f"res{stage}a_branch{branch}"]["strides"]) for branch in ("2a", "2b"))
                 for stage in (3, 4, 5)}
    except (KeyError, TypeError) as error:
        raise InputError(f"{source}: model.json lacks strides of stages 3 to 5 ({error}); give the whole "
                         "model.") from None
    known: dict[tuple, str] = {((2, 2), (1, 1)): "1x1", ((1, 1), (2, 2)): "3x3"}
    if len(found) != 1 or not found <= known.keys():
        raise InputError(f"{source}: the strides of stages 3 to 5 are {sorted(found)}; a ResNet's are 2 in "
                         "branch2a of the first block, or in branch2b.")
    return known[found.pop()]


def _keras_epsilon(layers: dict[str, dict], source: str | os.PathLike) -> float:
    found: set[Any] = {layer.get("epsilon") for name, layer in layers.items() if name.startswith("bn")}
    if len(found) != 1 or not all(isinstance(value, float) for value in found):
        raise InputError(f"{source}: the epsilons of its batch norms are {sorted(map(str, found))}; "
                         "one number for all is needed.")
    return found.pop()


def _take_our_pictures(flat: dict[tuple, np.ndarray], epsilon: float) -> float:
    """Adapts the stem, in place, to the output of `normalise`; returns the change of its output at the border."""
    # Per channel, a grey value of 0 to 255 is scale · normalised + offset.
    black, white = (np.asarray(normalise(jnp.full(3, v, jnp.float32)), np.float64) for v in (-1, 1))
    scale = 255 / (white - black)
    offset = -scale * black - KERAS_MEAN
    kernel = flat["params", "stem_conv", "kernel"][:, :, ::-1]  # its inputs are blue, green, red
    flat["params", "stem_conv", "kernel"] = kernel * scale[:, None]
    flat["batch_stats", "stem_norm", "mean"] -= np.einsum("hwio,i->o", kernel, offset)

    # In a picture of one colour, `offset`, the stem's output differs between positions only by the zero padding.
    flat_colour = np.broadcast_to(offset, (1, 16, 16, 3)).astype(np.float32)
    stem = jax.lax.conv_general_dilated(jnp.asarray(flat_colour), jnp.asarray(kernel, jnp.float32), (2, 2),
                                        ((3, 3), (3, 3)), dimension_numbers=("NHWC", "HWIO", "NHWC"))
    gain = flat["params", "stem_norm", "scale"] / np.sqrt(flat["batch_stats", "stem_norm", "var"] + epsilon)
    return float(np.abs((stem - stem[:, 4:5, 4:5]) * gain).max())
