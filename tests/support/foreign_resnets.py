"""ResNets as others write them, in PyTorch: torchvision's with its names, and Keras' ResNet-50 as a function
of its weights, with the TensorFlow.js folder that holds them. Pictures are [B, C, H, W], in float64.

Nothing here comes from the package: names, strides and preprocessing are those of torchvision's
`models/resnet.py` and of Keras 2.2's `applications/resnet50.py` and `imagenet_utils.py` ('caffe').
"""

import json

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

# torchvision.


class Block(nn.Module):
    """Convolutions, each (size, inputs, outputs, stride) with its batch norm, and the shortcut around them."""

    def __init__(self, inplanes, stride, *convolutions):
        super().__init__()
        self.count, planes = len(convolutions), convolutions[-1][2]
        for i, (size, inputs, outputs, step) in enumerate(convolutions, 1):
            self.add_module(f"conv{i}", nn.Conv2d(inputs, outputs, size, step, size // 2, bias=False))
            self.add_module(f"bn{i}", nn.BatchNorm2d(outputs))
        self.downsample = None
        if stride != 1 or inplanes != planes:
            self.downsample = nn.Sequential(nn.Conv2d(inplanes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x):
        y = x
        for i in range(1, self.count + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y if i == 1 else F.relu(y)))
        return F.relu(y + (self.downsample(x) if self.downsample else x))


class BasicBlock(Block):
    expansion = 1

    def __init__(self, inplanes, planes, stride, stride_on):
        super().__init__(inplanes, stride, (3, inplanes, planes, stride), (3, planes, planes, 1))


class Bottleneck(Block):
    expansion = 4

    def __init__(self, inplanes, planes, stride, stride_on):
        first, second = (stride, 1) if stride_on == "1x1" else (1, stride)
        super().__init__(inplanes, stride, (1, inplanes, planes, first), (3, planes, planes, second),
                         (1, planes, 4 * planes, 1))


class ResNet(nn.Module):
    """torchvision's, with its names; its width is 64, its last stride 2, and its strides are on the 3×3."""

    def __init__(self, block, layers, *, width=64, last_stride=2, stride_on="3x3", classes=1000):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        inplanes = width
        for i, (count, stride) in enumerate(zip(layers, (1, 2, 2, last_stride))):
            planes, blocks = width * 2 ** i, []
            for j in range(count):
                blocks.append(block(inplanes, planes, stride if j == 0 else 1, stride_on))
                inplanes = planes * block.expansion
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(inplanes, classes)

    def outputs(self, x):
        """The stem's output and every block's, by our names, and the logits."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        found = {}
        for i in range(1, 5):
            for j, block in enumerate(getattr(self, f"layer{i}")):
                found[f"stage{i}_block{j + 1}"] = x = block(x)
        found["logits"] = self.fc(x.mean((2, 3)))
        return found


def randomise(module, seed):
    """No bias is zero, no scale is one, and no layer dies out; the shortcuts' sums stay moderate."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if value.ndim > 1:
                value.normal_(0, (1.5 / value[0].numel()) ** 0.5, generator=random)
            elif name.endswith("running_var") or (name.endswith("weight") and value.ndim == 1):
                value.uniform_(0.5, 1.5, generator=random)
            elif value.is_floating_point():
                value.normal_(0, 0.2, generator=random)
    return module.eval()


# Keras.

BLOCKS = {2: "abc", 3: "abcd", 4: "abcdef", 5: "abc"}
EPSILON = 1e-3
MEAN_BGR = (103.939, 116.779, 123.68)


def keras_weights(seed, width=8, classes=10):
    """Random weights by Keras' names: kernels [h, w, I, O], and biases on all convolutions."""
    random = np.random.default_rng(seed)
    weights = {}

    def conv(name, norm, size, inputs, outputs):
        spread = np.sqrt(1.5 / (size * size * inputs))
        weights[f"{name}/kernel"] = spread * random.standard_normal((size, size, inputs, outputs))
        weights[f"{name}/bias"] = 0.2 * random.standard_normal(outputs)
        weights[f"{norm}/gamma"] = random.uniform(0.5, 1.5, outputs)
        weights[f"{norm}/beta"] = 0.2 * random.standard_normal(outputs)
        weights[f"{norm}/moving_mean"] = 0.2 * random.standard_normal(outputs)
        weights[f"{norm}/moving_variance"] = random.uniform(0.5, 1.5, outputs)

    conv("conv1", "bn_conv1", 7, 3, width)
    weights["conv1/kernel"] /= 60  # which brings pictures of −128 to 151 to a size of about 1
    inputs = width
    for stage, letters in BLOCKS.items():
        planes = width * 2 ** (stage - 2)
        for letter in letters:
            res, bn = f"res{stage}{letter}_branch", f"bn{stage}{letter}_branch"
            conv(res + "2a", bn + "2a", 1, inputs, planes)
            conv(res + "2b", bn + "2b", 3, planes, planes)
            conv(res + "2c", bn + "2c", 1, planes, 4 * planes)
            if letter == "a":
                conv(res + "1", bn + "1", 1, inputs, 4 * planes)
            inputs = 4 * planes
    weights["fc1000/kernel"] = 0.02 * random.standard_normal((inputs, classes)) / np.sqrt(inputs)
    weights["fc1000/bias"] = 0.2 * random.standard_normal(classes)
    return {name: value.astype(np.float32) for name, value in weights.items()}


def keras_outputs(weights, photos, *, border=(0.0, 0.0, 0.0)):
    """The first batch norm's output, every block's, and the logits, for photos uint8 [B, H, W, 3], RGB.

    `border` is what the photo is padded with, blue, green, red, less the mean; Keras' is zero.
    """
    w = {name: torch.tensor(np.asarray(value, np.float64)) for name, value in weights.items()}

    def conv(x, name, stride=1, padding=0):
        return F.conv2d(x, w[f"{name}/kernel"].permute(3, 2, 0, 1), w[f"{name}/bias"], stride, padding)

    def norm(x, name):
        return F.batch_norm(x, w[f"{name}/moving_mean"], w[f"{name}/moving_variance"], w[f"{name}/gamma"],
                            w[f"{name}/beta"], eps=EPSILON)

    x = np.asarray(photos, np.float64)[..., ::-1] - MEAN_BGR
    padded = np.pad(x - border, ((0, 0), (3, 3), (3, 3), (0, 0))) + border
    found = {"stem_norm": norm(conv(torch.tensor(padded).permute(0, 3, 1, 2), "conv1", 2), "bn_conv1")}
    x = F.max_pool2d(F.pad(F.relu(found["stem_norm"]), (1, 1, 1, 1)), 3, 2)
    for stage, letters in BLOCKS.items():
        for number, letter in enumerate(letters, 1):
            res, bn = f"res{stage}{letter}_branch", f"bn{stage}{letter}_branch"
            stride = 2 if letter == "a" and stage > 2 else 1
            y = F.relu(norm(conv(x, res + "2a", stride), bn + "2a"))
            y = F.relu(norm(conv(y, res + "2b", 1, 1), bn + "2b"))
            y = norm(conv(y, res + "2c"), bn + "2c")
            x = F.relu(y + (norm(conv(x, res + "1", stride), bn + "1") if letter == "a" else x))
            found[f"stage{stage - 1}_block{number}"] = x
    found["logits"] = x.mean((2, 3)) @ w["fc1000/kernel"] + w["fc1000/bias"]
    return found


def write_tensorflow_js(folder, weights, labels=None, shard=100_000):
    """The package's layout: ResNet50/model.json, its shards, and assets/labels.json."""
    layers = []
    for name in (name.partition("/")[0] for name in weights if name.endswith(("/kernel", "/gamma"))):
        config = {"name": name}
        if name.startswith("bn"):
            config["epsilon"] = EPSILON
        elif name != "fc1000":
            strided = ["conv1", *(f"res{stage}a_branch{b}" for stage in (3, 4, 5) for b in ("1", "2a"))]
            config["strides"] = [2, 2] if name in strided else [1, 1]
        layers.append({"class_name": "Layer", "name": name, "config": config})
    data = b"".join(value.tobytes() for value in weights.values())
    pieces = [data[i:i + shard] for i in range(0, len(data), shard)]
    paths = [f"group1-shard{i + 1}of{len(pieces)}.bin" for i in range(len(pieces))]
    entries = [{"name": name, "shape": list(value.shape), "dtype": "float32"} for name, value in weights.items()]
    model = {"format": "layers-model", "modelTopology": {"model_config": {"config": {"layers": layers}}},
             "weightsManifest": [{"paths": paths, "weights": entries}]}
    (folder / "ResNet50").mkdir(parents=True)
    (folder / "ResNet50" / "model.json").write_text(json.dumps(model))
    for name, piece in zip(paths, pieces, strict=True):
        (folder / "ResNet50" / name).write_bytes(piece)
    if labels:
        (folder / "assets").mkdir()
        (folder / "assets" / "labels.json").write_text(json.dumps({str(i): v for i, v in enumerate(labels)}))
    return folder
