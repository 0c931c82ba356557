"""Judging: how well people are found again (`distances`, `rerank`, `rank`), and image quality (`quality`)."""

from vrstc_jax.evaluation.distances import distances
from vrstc_jax.evaluation.ranking import Ranking, first_entries, rank
from vrstc_jax.evaluation.reranking import rerank

__all__ = ["Ranking", "distances", "first_entries", "rank", "rerank"]
