"""Every network of the package a second time, in PyTorch, with the losses and a step of training.

Written from the paper and from torchvision's layout with PyTorch's own layers (Conv2d, ConvTranspose2d,
BatchNorm2d, unfold and fold), so that a mistake would have to be made twice. Pictures are [B, C, H, W] here.
Submodules bear the names of the Flax tree; `torch_weights` carries the weights across.

In the tests the twins compute in float64: what is left of a difference is the rounding of the float32 under test.
`tools/benchmark_training.py` times them in float32.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch_weights import tensor

# Equations 1 to 3, with unfold and fold.


def temporal_attention(current, adjacent, patch_size=3, softmax_scale=10.0, payload=None, mask=None):
    """current [B, C, H, W], adjacent [B, T, C, H', W'], payload [B, T, D, H', W'] to [B, C or D, H, W], or all of
    them without B.

    The mask, bool [B, T, H', W'], is true where adjacent may be used; somewhere it must be.
    """
    payload = adjacent if payload is None else payload
    if current.dim() == 3:
        batched = (None if x is None else x[None] for x in (payload, mask))
        return temporal_attention(current[None], adjacent[None], patch_size, softmax_scale, *batched)[0]

    def patches(maps):  # [B, T, C, H, W] to [B, C·k·k, T·H·W]
        cut = F.unfold(maps.flatten(0, 1), patch_size, padding=patch_size // 2)
        return cut.unflatten(0, maps.shape[:2]).transpose(1, 2).flatten(2)

    if mask is not None:
        adjacent, payload = adjacent * mask[:, :, None], payload * mask[:, :, None]
    f = F.normalize(patches(current[:, None]), dim=1)
    r = F.normalize(patches(adjacent), dim=1)
    similarity = softmax_scale * f.transpose(1, 2) @ r
    if mask is not None:
        similarity = similarity.masked_fill(~mask.flatten(1)[:, None], -torch.inf)
    weights = torch.softmax(similarity, dim=2)
    size, padding = current.shape[2:], patch_size // 2
    rebuilt = F.fold(patches(payload) @ weights.transpose(1, 2), size, patch_size, padding=padding)
    ones = current.new_ones(1, patch_size ** 2, weights.shape[1])
    return rebuilt / F.fold(ones, size, patch_size, padding=padding)


# Generators.


class Encoder(nn.Module):
    def __init__(self, config, channels):
        super().__init__()
        self.order = []
        for i, (width, stride) in enumerate(zip(config.widths, config.strides)):
            self._append(f"conv{i + 1}", nn.Conv2d(channels, width, 3, stride, padding=1))
            channels = width
        for i, dilation in enumerate(config.dilations):
            self._append(f"dilated{i + 1}", nn.Conv2d(channels, config.dilated_width, 3, padding=dilation,
                                                      dilation=dilation))
            channels = config.dilated_width

    def _append(self, name, layer):
        self.add_module(name, layer)
        self.order.append(layer)

    def forward(self, x):
        for layer in self.order:
            x = F.elu(layer(x))
        return x


class Decoder(nn.Module):
    def __init__(self, config, channels):
        super().__init__()
        self.deconv1 = nn.ConvTranspose2d(channels, config.decoder_width, 4, 2, padding=1)
        self.deconv2 = nn.ConvTranspose2d(config.decoder_width, 3, 4, 2, padding=1)

    def forward(self, x):
        return torch.tanh(self.deconv2(F.elu(self.deconv1(x))))


class SpatialGenerator(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.encoder = Encoder(config.spatial, 4)
        self.decoder = Decoder(config.spatial, config.spatial.dilated_width)

    def forward(self, frames, masks):
        return self.decoder(self.encoder(torch.cat([(1 - masks) * frames, masks], 1)))


class TemporalGenerator(nn.Module):
    def __init__(self, config):
        super().__init__()
        c = self.config = config
        self.current_encoder = Encoder(c.temporal, 4)
        self.neighbour_encoder = Encoder(c.temporal, 3)
        if not c.share_neighbour_encoders:
            self.following_encoder = Encoder(c.temporal, 3)
        self.decoder = Decoder(c.temporal, 3 * c.temporal.dilated_width)
        if c.learned_scale:
            self.softmax_scale = nn.Parameter(torch.zeros(()))
        if c.transport:
            self.blend = Blend(c.blend_width)

    def forward(self, frames, masks, previous, following):
        """frames [B, 3, H, W], masks [B, 1, H, W], previous and following [B, T, 3, H, W]."""
        c = self.config
        second = self.neighbour_encoder if c.share_neighbour_encoders else self.following_encoder
        current = self.current_encoder(torch.cat([frames, masks], 1))
        attended, carried = [], []
        for encoder, side in ((self.neighbour_encoder, previous), (second, following)):
            features = encoder(side.flatten(0, 1)).unflatten(0, side.shape[:2])
            attended.append(self._attend(current, features, features))
            if c.transport:
                # pixel_unshuffle and pixel_shuffle agree on an order; any order will do.
                block = side.shape[-1] // features.shape[-1]
                pixels = F.pixel_unshuffle(side, block)
                carried.append(F.pixel_shuffle(self._attend(current, features, pixels), block))
        generated = self.decoder(torch.cat([current, *attended], 1))
        if not c.transport:
            return generated
        return self.blend(generated, frames, masks, carried, [previous[:, 0], following[:, 0]])

    def _attend(self, current, features, payload):
        scale = self.softmax_scale if self.config.learned_scale else self.config.softmax_scale
        return temporal_attention(current, features, self.config.patch_size, scale, payload)


class Blend(nn.Module):
    def __init__(self, width):
        super().__init__()
        w = width
        self.fine = nn.Conv2d(5 * 3 + 3 + 1, w, 3, padding=1)
        self.middle1 = nn.Conv2d(w, 2 * w, 3, 2, padding=1)
        self.middle2 = nn.Conv2d(2 * w, 2 * w, 3, padding=1)
        self.coarse1 = nn.Conv2d(2 * w, 4 * w, 3, 2, padding=1)
        self.coarse2 = nn.Conv2d(4 * w, 4 * w, 3, padding=2, dilation=2)
        self.coarse3 = nn.Conv2d(4 * w, 4 * w, 3, padding=4, dilation=4)
        self.up1 = nn.ConvTranspose2d(4 * w, 2 * w, 4, 2, 1)
        self.middle3 = nn.Conv2d(2 * w, 2 * w, 3, padding=1)
        self.up2 = nn.ConvTranspose2d(2 * w, w, 4, 2, 1)
        self.fine2 = nn.Conv2d(w, w, 3, padding=1)
        self.heads = nn.Conv2d(w, 4 + 5 + 3, 3, padding=1)

    def forward(self, generated, frames, masks, carried, nearest):
        fine = F.elu(self.fine(torch.cat([generated, *carried, *nearest, frames, masks], 1)))
        middle = F.elu(self.middle2(F.elu(self.middle1(fine))))
        coarse = F.elu(self.coarse3(F.elu(self.coarse2(F.elu(self.coarse1(middle))))))
        middle = F.elu(self.middle3(middle + self.up1(coarse)))
        heads = self.heads(F.elu(self.fine2(fine + self.up2(middle))))
        moved = [warp(frame, 4.0 * heads[:, 2 * i:2 * i + 2]) for i, frame in enumerate(nearest)]
        shares = torch.softmax(heads[:, 4:9], 1)
        mixed = (shares[:, :, None] * torch.stack([generated, *carried, *moved], 1)).sum(1)
        return mixed + heads[:, 9:]


def warp(frames, flow):
    """Samples frames [B, C, H, W] at each position moved by flow [B, 2, H, W] (rows, columns), in pixels."""
    height, width = frames.shape[2:]
    rows, columns = torch.meshgrid(*(torch.arange(n, device=frames.device) for n in (height, width)), indexing="ij")
    y, x = rows + flow[:, 0], columns + flow[:, 1]
    grid = torch.stack([2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1], -1)
    return F.grid_sample(frames, grid, "bilinear", "border", align_corners=True)


class Generators(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.spatial = SpatialGenerator(config)
        self.temporal = TemporalGenerator(config)

    def forward(self, frames, masks, previous, following):
        """Equations 5 and 6 as printed."""
        first = masks * self.spatial(frames, masks) + (1 - masks) * frames
        second = masks * self.temporal(first, masks, previous, following) + (1 - masks) * frames
        return first, second


# Discriminators.


class Discriminator(nn.Module):
    def __init__(self, config, size):
        super().__init__()
        self.config = config
        channels = 3
        for i, width in enumerate(config.widths):
            self.add_module(f"conv{i + 1}", nn.Conv2d(channels, width, 3, 2, padding=1))
            channels = width
            size = [(side + 1) // 2 for side in size]
        self.unit = nn.Linear(size[0] * size[1] * channels, 1)

    def forward(self, x):
        for i in range(len(self.config.widths)):
            x = F.leaky_relu(getattr(self, f"conv{i + 1}")(x), self.config.slope)
        # Flax flattens rows, columns, channels; the weights of the unit come in that order.
        return self.unit(x.permute(0, 2, 3, 1).flatten(1))[:, 0]


class DiscriminatorPair(nn.Module):
    def __init__(self, config, size):
        super().__init__()
        self.config = config
        self.add_module("global", Discriminator(config, size))
        self.local = Discriminator(config, size)

    def forward(self, frames, masks):
        part = cropped(frames, masks) if self.config.local_input == "cropped" else masks * frames
        return getattr(self, "global")(frames), self.local(part)


def cropped(frames, masks):
    """The box around each hole, enlarged to the frame's size, by grid_sample."""
    out = []
    for frame, mask in zip(frames, masks[:, 0]):
        theta = torch.zeros(1, 2, 3, dtype=frame.dtype)
        for row, (axis, size) in enumerate(((0, mask.shape[1]), (1, mask.shape[0]))):
            hidden = torch.nonzero(mask.any(axis))[:, 0]
            first, last = (hidden[0].item(), hidden[-1].item() + 1) if len(hidden) else (0, size)
            theta[0, row, row] = (last - first) / size  # in grid_sample's units the frame is [−1, 1]
            theta[0, row, 2] = (first + last) / size - 1
        grid = F.affine_grid(theta, (1, *frame.shape), align_corners=False)
        out.append(F.grid_sample(frame[None], grid, "bilinear", "border", align_corners=False)[0])
    return torch.stack(out)


# The re-ID network.


class BatchNorm(nn.BatchNorm2d):
    """Remembers over how many values it averaged, since Flax keeps the biased variance and PyTorch the
    unbiased one, n / (n − 1) times as large (to normalise, both use the biased one)."""

    def forward(self, x):
        self.count = x.numel() // x.shape[1]
        return super().forward(x)


class Residual(nn.Module):
    """A basic block or a bottleneck."""

    def __init__(self, channels, layers, stride_of):
        super().__init__()
        self.depth = len(layers)
        first, total = channels, 1
        for i, (width, kernel) in enumerate(layers):
            stride = stride_of if i == (1 if self.depth == 3 else 0) else 1
            total *= stride
            self.add_module(f"conv{i + 1}", nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2,
                                                      bias=False))
            self.add_module(f"norm{i + 1}", BatchNorm(width))
            channels = width
        self.shortcut = first != channels or total != 1
        if self.shortcut:
            self.shortcut_conv = nn.Conv2d(first, channels, 1, total, bias=False)
            self.shortcut_norm = BatchNorm(channels)

    def forward(self, x):
        y = x
        for i in range(self.depth):
            y = getattr(self, f"norm{i + 1}")(getattr(self, f"conv{i + 1}")(y))
            if i + 1 < self.depth:
                y = F.relu(y)
        return F.relu(y + (self.shortcut_norm(self.shortcut_conv(x)) if self.shortcut else x))


class NonLocal(nn.Module):
    """Embedded Gaussian over all positions of a clip: [B, T, C, h, w] to the same."""

    def __init__(self, channels):
        super().__init__()
        self.query = nn.Linear(channels, channels // 2)
        self.key, self.value = (nn.Linear(channels, channels // 2, bias=False) for _ in range(2))
        self.out = nn.Linear(channels // 2, channels, bias=False)
        self.norm = BatchNorm(channels)

    def forward(self, x):
        positions = x.permute(0, 1, 3, 4, 2).flatten(1, 3)  # [B, T·h·w, C]
        weights = torch.softmax(self.query(positions) @ self.key(positions).transpose(1, 2), 2)
        said = self.out(weights @ self.value(positions))
        said = said.unflatten(1, (x.shape[1], *x.shape[3:])).permute(0, 1, 4, 2, 3)
        return x + self.norm(said.flatten(0, 1)).unflatten(0, x.shape[:2])


class ResNet(nn.Module):
    def __init__(self, config):
        super().__init__()
        c = self.config = config
        self.stem_conv = nn.Conv2d(3, c.base_width, 7, 2, 3, bias=False)
        self.stem_norm = BatchNorm(c.base_width)
        channels, self.order = c.base_width, []
        for stage, count in enumerate(c.blocks):
            width = c.base_width * 2 ** stage
            stride = [1, 2, 2, c.last_stride][stage]
            for i in range(count):
                layers = ([(width, 1), (width, 3), (4 * width, 1)] if c.bottleneck
                          else [(width, 3), (width, 3)])
                block = Residual(channels, layers, stride if i == 0 else 1)
                self.add_module(f"stage{stage + 1}_block{i + 1}", block)
                self.order.append(block)
                channels = layers[-1][0]
                wanted = c.non_local[stage] if c.non_local else 0
                if i + 1 in (after := [count * (k + 1) // wanted for k in range(wanted)]):
                    block = NonLocal(channels)
                    self.add_module(f"stage{stage + 1}_non_local{after.index(i + 1) + 1}", block)
                    self.order.append(block)
        self.channels = channels

    def forward(self, x, frames=1):
        x = F.relu(self.stem_norm(self.stem_conv(x)))
        if self.config.stem_pool:
            x = F.max_pool2d(x, 3, 2, 1)
        for block in self.order:
            if isinstance(block, NonLocal):
                x = block(x.unflatten(0, (-1, frames))).flatten(0, 1)
            else:
                x = block(x)
        return x


class ReidNet(nn.Module):
    def __init__(self, config, identities):
        super().__init__()
        self.config = config
        self.backbone = ResNet(config)
        self.classifier = nn.Linear(self.backbone.channels, identities)

    def forward(self, clips):
        """[B, T, 3, H, W] in [−1, 1] to logits [B, K]."""
        features = self.maps(clips.flatten(0, 1), clips.shape[1]).mean((2, 3))
        return self.classifier(features.unflatten(0, clips.shape[:2]).mean(1))

    def maps(self, frames, length=1):
        c = self.config
        if tuple(frames.shape[2:]) != (c.height, c.width):
            frames = F.interpolate(frames, (c.height, c.width), mode="bilinear", antialias=True)
        mean, deviation = (frames.new_tensor(each)[:, None, None]
                           for each in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
        return self.backbone(((frames + 1) / 2 - mean) / deviation, length)


# Losses, equations 4 to 10, as PyTorch has them.


def discriminator_loss(real, fake):
    bce = F.binary_cross_entropy_with_logits
    return bce(real, torch.ones_like(real)) + bce(fake, torch.zeros_like(fake))


def adversarial_loss(fake):
    return F.binary_cross_entropy_with_logits(fake, torch.ones_like(fake))


def reconstruction_loss(frames, first, second, kind="l1"):
    distance = {"l1": F.l1_loss, "l2": F.mse_loss}[kind]
    return distance(first, frames) + distance(second, frames)


# One training step, in the way PyTorch code usually has it: the discriminators' loss on detached pictures.


def stcnet_backward(config, generators, discriminators, guider, batch, dtype=torch.float64,
                    device="cpu") -> dict[str, float]:
    """Leaves the gradients of generators and discriminators in their parameters; returns the metrics.

    `batch` is as the trainer takes it: uint8 pictures [B, H, W, 3] or [B, T, H, W, 3], bool masks, labels.
    """
    def placed(array):
        array = np.ascontiguousarray(np.moveaxis(array, -1, -3))
        return torch.as_tensor(array).to(device).to(dtype)

    frames, previous, following = (placed(batch[k]) / 127.5 - 1 for k in ("frames", "previous", "following"))
    masks, labels, weights = placed(batch["masks"]), torch.as_tensor(batch["labels"]).long().to(device), config.losses
    first, second = generators(frames, masks, previous, following)

    fake_global, fake_local = discriminators(second, masks)
    parts = {"reconstruction": reconstruction_loss(frames, first, second, weights.reconstruction),
             "adversarial_global": adversarial_loss(fake_global),
             "adversarial_local": adversarial_loss(fake_local)}
    total = parts["reconstruction"] + weights.adversarial * (parts["adversarial_global"]
                                                             + parts["adversarial_local"])
    if guider is not None:
        parts["identity"] = F.cross_entropy(guider(second[:, None]), labels)
        total = total + weights.identity * parts["identity"]
    _leave(generators, total)

    real_global, real_local = discriminators(frames, masks)
    fake_global, fake_local = discriminators(second.detach(), masks)
    parts["discriminator_global"] = discriminator_loss(real_global, fake_global)
    parts["discriminator_local"] = discriminator_loss(real_local, fake_local)
    against = parts["discriminator_global"] + parts["discriminator_local"]
    _leave(discriminators, against)

    parts |= {"generators": total, "discriminators": against,
              "psnr_spatial": psnr(first, frames, masks), "psnr_stcnet": psnr(second, frames, masks)}
    return {name: value.item() for name, value in parts.items()}


def reid_backward(network, batch) -> dict[str, float]:
    """As `stcnet_backward`, for the re-ID network on clips [B, T, H, W, 3]."""
    logits = network(tensor(batch["clips"].astype(np.float64) / 127.5 - 1))
    labels = torch.tensor(batch["labels"]).long()
    loss = F.cross_entropy(logits, labels)
    _leave(network, loss)
    return {"cross_entropy": loss.item(), "accuracy": (logits.argmax(1) == labels).double().mean().item()}


def _leave(module, loss):
    names, parameters = zip(*module.named_parameters())
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters, retain_graph=True)):
        parameter.grad = gradient


def psnr(completed, frames, masks):
    """In dB over each hole's pixels, pictures in [−1, 1]; the mean over the batch."""
    values = []
    for got, true, mask in zip(completed, frames, masks):
        error = (got - true)[:, mask[0] > 0.5]
        values.append(10 * torch.log10(4 / (error ** 2).mean()))
    return torch.stack(values).mean()
