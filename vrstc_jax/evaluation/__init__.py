"""Evaluation: ranking people by their features (`distances`, `rerank`, `rank`), image quality, locating quality."""

from vrstc_jax.evaluation.distances import distances
from vrstc_jax.evaluation.ranking import Ranking, first_entries, rank
from vrstc_jax.evaluation.reranking import rerank

__all__ = ["Ranking", "distances", "first_entries", "rank", "rerank"]
