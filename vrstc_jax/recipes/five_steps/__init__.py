"""The five steps of the paper as one resumable job: from raw tracklets to a ranking.

    0 data      WORK/data                 the tracklets, as a TFDS set with splits train, query, gallery
    1 reid      WORK/reid.safetensors     the re-ID network that locates and guides
    2 locate    WORK/scores/, locating.json   how well each band agrees with its tracklet, and τ
    3 stcnet    WORK/model.safetensors    the whole model, generators included
    4 complete  WORK/completed            the completed tracklets, a set of the same form
    5 rank      WORK/final.safetensors, before.safetensors, results.json, features.npz (after completion, with
                names, persons and cameras; see `retrieval.save_features`), ranked.png, cmc.png

A step whose result exists is skipped. Everything is a function of the config and the data. What the last steps
need of the data is checked after step 0, before any training. WORK/made_from.json records what each result was made
from: a result of other data, or of another result of an earlier step, is refused.
"""

from vrstc_jax.recipes.five_steps.completing import complete_sets
from vrstc_jax.recipes.five_steps.data import SPLITS, DataSource, read_splits, require_trainable
from vrstc_jax.recipes.five_steps.job import run
from vrstc_jax.recipes.five_steps.locating import PAPER_TAU, Located, locate, locating_table, read_located
from vrstc_jax.recipes.five_steps.networks import all_frames, backbone_of, final_network, first_network, generators
from vrstc_jax.recipes.five_steps.options import STEPS, Options, Step, complete_record, differing
from vrstc_jax.recipes.five_steps.ranking import evaluate, evaluate_galleries, rank_sets, tracklets_to_rank

__all__ = ["PAPER_TAU", "SPLITS", "STEPS", "DataSource", "Located", "Options", "Step", "all_frames", "backbone_of",
           "complete_record", "complete_sets", "differing", "evaluate", "evaluate_galleries", "final_network",
           "first_network", "generators", "locate", "locating_table", "rank_sets", "read_located", "read_splits",
           "require_trainable", "run", "tracklets_to_rank"]
