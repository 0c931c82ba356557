"""Temporal attention as VRSTC's equations 1 to 3 put it, word by word, in NumPy's float64.

Patches are cut out, compared, weighted and laid back, one by one. It is slow, and it is what the op is.
"""

import numpy as np


def literal_attention(current, adjacent, *, size=3, scale=10.0, mask=None, payload=None):
    """Equation 3: the weighted patches laid back, overlapping, averaged by how many cover a position."""
    weights = literal_weights(current, adjacent, size=size, scale=scale, mask=mask)
    carried = usable_frames(adjacent if payload is None else payload, mask)
    height, width = current.shape[:2]
    rebuilt = np.tensordot(weights.reshape(height * width, -1), cut_out(carried, size), axes=1)
    total, cover = np.zeros((height, width, carried.shape[-1])), np.zeros((height, width, 1))
    for at, patch in enumerate(rebuilt):
        for (dy, dx), (y, x) in inside(*divmod(at, width), height, width, size):
            total[y, x] += patch[dy, dx]
            cover[y, x] += 1
    return total / cover


def literal_weights(current, adjacent, *, size=3, scale=10.0, mask=None):
    """Equations 1 and 2: [H, W, H', W'] or [H, W, T, H', W'].

    Patches of masked features, which count as zero, are compared; those centred there are not attended.
    """
    current, frames = np.asarray(current, np.float64), usable_frames(adjacent, mask)
    f = [unit(patch) for patch in cut_out(current[None], size)]
    r = [unit(patch) for patch in cut_out(frames, size)]
    similarity = scale * np.array([[(p * q).sum() for q in r] for p in f])
    attended = np.full(len(r), True) if mask is None else np.asarray(mask).ravel()
    weights = np.zeros(similarity.shape)
    if attended.any():
        similarity = similarity[:, attended]
        e = np.exp(similarity - similarity.max(axis=1, keepdims=True))
        weights[:, attended] = e / e.sum(axis=1, keepdims=True)
    return weights.reshape(*current.shape[:2], *np.shape(adjacent)[:-1])


def usable_frames(maps, mask):
    """Maps with or without a frame axis to [T, H, W, C], zeros where the mask is false."""
    maps = np.asarray(maps, np.float64)
    if mask is not None:
        maps = np.where(np.asarray(mask)[..., None], maps, 0)
    return maps if maps.ndim == 4 else maps[None]


def cut_out(maps, size):
    """Every size×size patch of maps [T, H, W, C], zeros outside: [positions, size, size, C]."""
    frames, height, width, channels = maps.shape
    patches = np.zeros((frames, height, width, size, size, channels))
    for t, y, x in np.ndindex(frames, height, width):
        for (dy, dx), (py, px) in inside(y, x, height, width, size):
            patches[t, y, x, dy, dx] = maps[t, py, px]
    return patches.reshape(-1, size, size, channels)


def inside(y, x, height, width, size):
    """((row, column) in the patch centred at y, x; (row, column) of the map) where the map has one."""
    for dy, dx in np.ndindex(size, size):
        py, px = y + dy - size // 2, x + dx - size // 2
        if 0 <= py < height and 0 <= px < width:
            yield (dy, dx), (py, px)


def unit(patch):
    """A patch of length 1, or of zeros."""
    norm = np.sqrt((patch ** 2).sum())
    return patch / norm if norm > 0 else patch
