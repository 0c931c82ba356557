"""The named sizes. To add one, add its config to `SIZES` and its name to `SizeName`."""

import dataclasses
from typing import Literal

from vrstc_jax.config import method
from vrstc_jax.config.method import Autoencoder, Config, Discriminators, Losses, Masks, Reid, STCnet, Training
from vrstc_jax.runtime.errors import InputError

# The last three are earlier names.
SizeName = Literal["small", "full", "as_published", "as_published_mars", "smoke", "paper", "paper_literal",
                   "mars_paper"]

_SMALL_AUTOENCODER = Autoencoder(widths=(16, 32, 32, 64, 64), dilated_width=64, decoder_width=32)
# Few layers: compiling is most of a test's time.
_SMOKE_AUTOENCODER = Autoencoder(widths=(4, 8, 8), strides=(1, 2, 2), dilated_width=8, dilations=(2,), decoder_width=8)

_SMALL_REID = Reid(height=64, width=32, blocks=(1, 1, 1, 1), bottleneck=False, base_width=32, stem_pool=False,
                   attention_width=32, embedding=64, pyramid=(4, 2, 1))
_SMALL_REID_TRAINING = Training(steps=400, batch=16, learning_rate=2e-3, schedule="cosine", warmup=20,
                                weight_decay=5e-4, shift=0.06)
_SMOKE_REID = Reid(height=32, width=16, blocks=(1, 1, 1, 1), bottleneck=False, base_width=4, stem_pool=False,
                   clip=2, test_clip=4, attention_maps=2, attention_width=4, embedding=8, pyramid=(2, 1))
_SMOKE_REID_TRAINING = Training(steps=6, batch=8, learning_rate=1e-3, weight_decay=5e-4)

_AS_PUBLISHED = Config(name="as_published", stcnet=STCnet(softmax_scale=1.0), masks=Masks(kind="bands"))

SIZES: dict[str, Config] = {
    "full": Config(),
    "as_published": _AS_PUBLISHED,
    # 39,000 steps of 32 are 150 epochs of MARS's 8,298 training tracklets.
    "as_published_mars": dataclasses.replace(_AS_PUBLISHED, name="as_published_mars"),
    "small": Config(
        name="small",
        stcnet=STCnet(height=64, width=32, spatial=_SMALL_AUTOENCODER, temporal=_SMALL_AUTOENCODER,
                      neighbour_reach=10, learned_scale=True, transport=True),
        discriminators=Discriminators(widths=(24, 48, 96, 96, 96, 96)),
        # A small R, trained for minutes, knows few people well; at the paper's 0.1 it outweighs L_r.
        losses=Losses(identity=0.02),
        masks=Masks(longest_run=9),
        # A small R that learns from occluded people learns to ignore occluders, and by itself locates few of them.
        reid=dataclasses.replace(_SMALL_REID, locating_loss=1.0, locating_width=64, locating_stages=True),
        # Small batches, because on two CPU cores a step's time grows with its batch.
        stcnet_training=Training(steps=6000, batch=8, learning_rate=1e-3, schedule="cosine", warmup=200,
                                 shift=0.06, average=0.998),
        reid_training=_SMALL_REID_TRAINING,
        final=dataclasses.replace(_SMALL_REID, non_local=(0, 1, 1, 0), non_local_deviation=0.0),
        final_from_first=True,
        final_training=dataclasses.replace(_SMALL_REID_TRAINING, learning_rate=1e-3),
        tau=1 / 3, tau_quantile=0.12),  # the head's score is 1 − 2p: 1/3 where a share p = 1/3 of the band is hidden
    "smoke": Config(
        name="smoke",
        stcnet=STCnet(height=32, width=16, spatial=_SMOKE_AUTOENCODER, temporal=_SMOKE_AUTOENCODER,
                      transport=True, learned_scale=True, blend_width=4),
        discriminators=Discriminators(widths=(4, 8, 8)),
        masks=Masks(longest_run=5),
        reid=_SMOKE_REID,
        stcnet_training=Training(steps=6, batch=8, learning_rate=1e-3, average=0.9),
        reid_training=_SMOKE_REID_TRAINING,
        final=dataclasses.replace(_SMOKE_REID, non_local=(0, 1, 0, 0)),
        final_from_first=True,
        final_training=_SMOKE_REID_TRAINING,
        tau=None),
}


def get(name: str) -> Config:
    """The config of a named size, by its present or its earlier name.

    Raises:
      InputError: there is no size of that name.
    """
    name = method.OLD_SIZE_NAMES.get(name, name)
    if name not in SIZES:
        raise InputError(f"There is no size '{name}'; choose one of {', '.join(SIZES)}.")
    return SIZES[name]
