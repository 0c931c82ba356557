"""One training step of ASTPN's pair scorer: contrastive loss on pairs and cross-entropy of both their clips.

Batches are those of the re-ID network with `Training.clips_per_identity` = 2, in which neighbours are of one
person. Each clip is embedded once, and takes part in two pairs: with its neighbour, and with the other
person who follows. As the authors have it, half of the pairs are of one person, and the losses weigh the
same; that their pairs come from two cameras is up to the tracklets.
"""

from functools import partial

import jax
import jax.numpy as jnp

from vrstc_jax import config as configs
from vrstc_jax.models import losses
from vrstc_jax.models.reid import PairScorer
from vrstc_jax.ops.pictures import to_float
from vrstc_jax.training.reid import State, first_state, pmap_update


def initial_state(config: configs.Config, identities: int, *, start_from: dict | None = None) -> State:
    """As `training.reid.initial_state`, of `PairScorer`."""
    clips = jnp.zeros((1, 1, config.reid.height, config.reid.width, 3))

    def network(key):
        return PairScorer(config.reid, identities).init(key, clips, clips)

    return first_state(network, config.reid_training, seed=config.seed + 1, start_from=start_from)


def gradients(config: configs.Config, identities: int, state: State, batch: dict, axis_name: str | None):
    """As `training.reid.gradients`; the pairs, too, are those of the global batch."""
    network, weights = PairScorer(config.reid, identities, axis_name, config.compute), config.reid_losses
    if len(batch["labels"]) % 2:
        raise ValueError("a device's part of a batch must hold pairs, an even number of clips. "
                         f"Got {len(batch['labels'])}.")

    def pairs(clips_or_labels):
        """Each first clip with its neighbour, and with the neighbour of the first that follows."""
        first, second = clips_or_labels[0::2], clips_or_labels[1::2]
        return jnp.concatenate([first, first]), jnp.concatenate([second, _next(second, axis_name)])

    def both(module, clips):
        return module.compare(*pairs(module.embed(clips, train=True)))

    labels = pairs(batch["labels"])

    def forward(params):
        (distances, *logits), updated = network.apply(
            {"params": params, "batch_stats": state.batch_stats}, to_float(batch["clips"]),
            mutable=["batch_stats"], method=both)
        entropies = [losses.identity(*of_clip, smoothing=weights.label_smoothing)
                     for of_clip in zip(logits, labels)]
        parts = {
            "contrastive": losses.contrastive(distances, labels[0] == labels[1], margin=weights.pair_margin),
            "cross_entropy": sum(entropies),
            "accuracy": jnp.mean(jnp.argmax(logits[0], -1) == labels[0]),
        }
        return parts["contrastive"] + parts["cross_entropy"], (updated["batch_stats"], parts)

    (_, (batch_stats, metrics)), grads = jax.value_and_grad(forward, has_aux=True)(state.params)
    return grads, batch_stats, metrics


def _next(rows, axis_name):
    """Row i + 1 of the global batch at row i, and the first at the last; rows [B, …]."""
    if axis_name is None:
        return jnp.roll(rows, -1, axis=0)
    # As for the triplet loss, the gather's transpose brings back what other devices' losses say.
    heads = jax.lax.all_gather(rows[0], axis_name)
    following = (jax.lax.axis_index(axis_name) + 1) % heads.shape[0]
    return jnp.concatenate([rows[1:], heads[following][None]])


def pmap_step(config: configs.Config, identities: int, devices=None):
    """As `training.reid.pmap_step`.

    Raises:
      ValueError: batches do not hold two clips of each person.
    """
    if config.reid_training.clips_per_identity != 2:
        raise ValueError("pairs need two clips of each person in a batch: Training.clips_per_identity must "
                         f"be 2. Got {config.reid_training.clips_per_identity}.")
    return pmap_update(partial(gradients, config, identities), config.reid_training, devices)
