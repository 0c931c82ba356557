"""Weights from Flax to PyTorch and back, one rule per leaf, by its path in the tree."""

import numpy as np
import torch
from flax import traverse_util

_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean",
           "var": "running_var"}


def torch_name(path) -> str:
    """('encoder', 'conv1', 'kernel') to 'encoder.conv1.weight'."""
    return ".".join((*path[:-1], _LEAVES.get(path[-1], path[-1])))


def to_torch_layout(path, value) -> np.ndarray:
    """A Flax leaf in PyTorch's order of axes.

    Convolutions go from [h, w, I, O] to [O, I, h, w]. A deconvolution's [4, 4, O, I] is the kernel of the
    strided convolution it transposes, which is what ConvTranspose2d keeps too, as [I, O, 4, 4]: the same
    rule. Dense kernels go from [I, O] to [O, I].
    """
    value = np.asarray(value)
    if path[-1] != "kernel":
        return value
    return value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T


def to_flax_layout(path, value) -> np.ndarray:
    """The inverse of `to_torch_layout`."""
    value = np.asarray(value)
    if path[-1] != "kernel":
        return value
    return value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T


def load(module: torch.nn.Module, *trees) -> torch.nn.Module:
    """Puts Flax trees (parameters, batch statistics) into a twin, in float64.

    Raises:
      KeyError: a leaf has no place in the twin, or the twin has a weight that no leaf fills.
    """
    state = {}
    for tree in trees:
        for path, value in traverse_util.flatten_dict(tree).items():
            state[torch_name(path)] = torch.tensor(to_torch_layout(path, value), dtype=torch.float64)
    module.double()
    missing, unexpected = module.load_state_dict(state, strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise KeyError(f"the twin lacks values for {missing} and has no place for {unexpected}")
    return module


def like_flax(tree, named) -> dict:
    """Tensors by PyTorch's names, as a tree like `tree` in Flax's layout; None counts as zeros."""
    out = {}
    for path, value in traverse_util.flatten_dict(tree).items():
        tensor = named[torch_name(path)]
        out[path] = (np.zeros(np.shape(value)) if tensor is None
                     else to_flax_layout(path, tensor.detach().numpy()).copy())
    return traverse_util.unflatten_dict(out)


def parameters(module, tree) -> dict:
    """The twin's parameters as a Flax tree."""
    return like_flax(tree, dict(module.named_parameters()))


def gradients(module, tree) -> dict:
    """The gradients left in the twin's parameters, as a Flax tree."""
    return like_flax(tree, {name: p.grad for name, p in module.named_parameters()})


def statistics(module, tree) -> dict:
    """The twin's running means and variances, as a Flax tree."""
    return like_flax(tree, dict(module.named_buffers()))


def tensor(array, *, grad=False) -> torch.Tensor:
    """An array [..., H, W, C] with at least 3 axes to [..., C, H, W]; others as they are. Float64."""
    array = np.asarray(array)
    if array.ndim > 3:
        array = np.moveaxis(array, -1, -3)
    return torch.tensor(array, dtype=torch.float64, requires_grad=grad)


def array(value) -> np.ndarray:
    """The inverse of `tensor`."""
    value = value.detach().numpy()
    return np.moveaxis(value, -3, -1) if value.ndim > 3 else value


def biased_statistics(module, before, after):
    """Flax's running statistics from the twin's: its unbiased variances made biased.

    The twin's batch norms keep the number of values they averaged as `count`. `before` and `after` are the
    twin's statistics as Flax trees, before and after one forward pass.
    """
    counts = {name: m.count for name, m in module.named_modules() if hasattr(m, "count")}
    before, out = traverse_util.flatten_dict(before), {}
    for path, value in traverse_util.flatten_dict(after).items():
        if path[-1] == "var":
            n = counts[".".join(path[:-1])]
            kept = 0.9 * np.asarray(before[path], np.float64)
            value = kept + (value - kept) * (n - 1) / n
        out[path] = value
    return traverse_util.unflatten_dict(out)
