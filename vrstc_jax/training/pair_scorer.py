"""Training ASTPN's pair scorer: contrastive loss on pairs, and cross-entropy of both their clips.

Batches are those of the re-ID network with `Training.clips_per_identity` = 2, in which clips 2i and 2i + 1 are of one
person. Each clip is embedded once and takes part in two pairs: with the other clip of its person, and with a clip of
the person who follows. As in the authors' training, half of the pairs are of one person, and the losses weigh the
same; whether a pair comes from two cameras depends on the tracklets.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from vrstc_jax.config import ReidTask
from vrstc_jax.models import losses
from vrstc_jax.models.reid import PairScorer
from vrstc_jax.ops.pixel_values import to_float
from vrstc_jax.training import state as states
from vrstc_jax.training import step
from vrstc_jax.training.devices import AXIS
from vrstc_jax.training.reid_step import adopted
from vrstc_jax.training.state import TrainState


def initial_state(task: ReidTask, identities: int, *, start_from: dict | None = None) -> TrainState:
    """As `training.reid_step.initial_state`, of `PairScorer`."""
    clips = jnp.zeros((1, 1, task.network.height, task.network.width, 3))

    def init(key):
        return PairScorer(task.network, identities).init(key, clips, clips)

    return states.initial_state(init, task.training, seed=task.seed, adopt=partial(adopted, start_from=start_from))


def gradients(task: ReidTask, identities: int, state: TrainState, batch: dict, *,
              axis_name: str | None = None) -> tuple[dict, dict, dict]:
    """As `training.reid_step.gradients`; the pairs, too, are those of the global batch.

    Raises:
      ValueError: this device's part of the batch has an odd number of clips.
    """
    network, weights = PairScorer(task.network, identities, axis_name, task.compute), task.losses
    if len(batch["labels"]) % 2:
        raise ValueError("a device's part of a batch must hold pairs, an even number of clips. "
                         f"Got {len(batch['labels'])}.")

    def pairs(clips_or_labels: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Clip 2i with clip 2i + 1, of the same person, and with clip 2i + 3, of the person who follows."""
        first, second = clips_or_labels[0::2], clips_or_labels[1::2]
        return jnp.concatenate([first, first]), jnp.concatenate([second, _next(second, axis_name)])

    def both(module, clips):
        return module.compare(*pairs(module.embed(clips, train=True)))

    labels = pairs(batch["labels"])

    def forward(params):
        (distances, *logits), updated = network.apply(
            {"params": params, "batch_stats": state.batch_stats}, to_float(batch["clips"]),
            mutable=["batch_stats"], method=both)
        entropies = [losses.identity(*of_clip, smoothing=weights.label_smoothing) for of_clip in zip(logits, labels)]
        parts = {"contrastive": losses.contrastive(distances, labels[0] == labels[1], margin=weights.pair_margin),
                 "cross_entropy": sum(entropies), "accuracy": jnp.mean(jnp.argmax(logits[0], -1) == labels[0])}
        return parts["contrastive"] + parts["cross_entropy"], (updated["batch_stats"], parts)

    (_, (batch_stats, metrics)), grads = jax.value_and_grad(forward, has_aux=True)(state.params)
    return grads, batch_stats, metrics


def _next(rows: jax.Array, axis_name: str | None) -> jax.Array:
    """Row i + 1 of the global batch at row i, and the first at the last; rows [B, …]."""
    if axis_name is None:
        return jnp.roll(rows, -1, axis=0)
    # The gather's transpose adds the gradients of the other devices' losses, as in the triplet loss.
    heads = jax.lax.all_gather(rows[0], axis_name)
    following = (jax.lax.axis_index(axis_name) + 1) % heads.shape[0]
    return jnp.concatenate([rows[1:], heads[following][None]])


def training_step(task: ReidTask, identities: int, devices: step.Devices = None) -> Callable:
    """As `training.reid_step.training_step`.

    Raises:
      ValueError: batches do not hold two clips of each person.
    """
    if task.training.clips_per_identity != 2:
        raise ValueError("pairs need two clips of each person in a batch: Training.clips_per_identity must "
                         f"be 2. Got {task.training.clips_per_identity}.")
    return step.training_step(partial(gradients, task, identities, axis_name=AXIS), task.training, devices=devices,
                              parallel=task.parallel)
