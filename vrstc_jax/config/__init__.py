"""Every choice of the method, as frozen dataclasses, and the named sizes.

| size | what it is |
|---|---|
| `full` | the paper's network, with our choice wherever the paper leaves one open |
| `as_published` | the paper's network, with what the paper prints wherever our choice differs |
| `as_published_mars` | `as_published` with the paper's training recipe for MARS |
| `small` | trains in minutes on two CPU cores, and adds the options that helped there |
| `smoke` | for tests: it runs, and learns little |

    config = vrstc_jax.config.get("small")
    config = dataclasses.replace(config, tau=0.8)

The dataclasses are in `method`, the sizes in `sizes`, and what reads and writes them as JSON in `records`. Each
dataclass checks its choices when it is made.
"""

from vrstc_jax.config.method import (
    GENERATOR_FORMS,
    Autoencoder,
    Compute,
    Config,
    Discriminators,
    GeneratorForm,
    Locating,
    LocatingTask,
    Losses,
    Masks,
    Parallel,
    Pooling,
    Reconstruction,
    Reid,
    ReidLosses,
    ReidTask,
    Repairing,
    STCnet,
    STCnetTask,
    StrideOn,
    TemporalForm,
    Training,
)
from vrstc_jax.config.records import LARGEST_TAU, from_dict, to_dict, with_defaults
from vrstc_jax.config.sizes import SIZES, SizeName, get

__all__ = [
    "GENERATOR_FORMS", "LARGEST_TAU", "SIZES", "Autoencoder", "Compute", "Config", "Discriminators", "GeneratorForm",
    "Locating", "LocatingTask", "Losses", "Masks", "Parallel", "Pooling", "Reconstruction", "Reid", "ReidLosses",
    "ReidTask", "Repairing", "STCnet", "STCnetTask", "SizeName", "StrideOn", "TemporalForm", "Training", "from_dict",
    "get", "to_dict", "with_defaults"]
