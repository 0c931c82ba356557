"""Made-up walkers as a re-ID data set: who is in which split, and how much of them is hidden."""

import dataclasses

import numpy as np
import pytest
from refusals import refused

from vrstc_jax.data.walkers import OCCLUSION, WalkerProtocol, unoccluded, walker_splits

SMALL = WalkerProtocol(train_people=5, test_people=3, distractors=2, cameras=3, frames=6, height=32, width=16)


@pytest.fixture(scope="module")
def splits():
    return walker_splits(SMALL)


def people(tracklets):
    return {tracklet.person for tracklet in tracklets}


def test_who_is_where(splits):
    assert list(splits) == ["train", "query", "gallery"]
    train, query, gallery = splits.values()
    assert [len(each) for each in (train, query, gallery)] == [5 * 3, 3, (3 + 2) * 2]
    assert len(people(train)) == 5 and len(people(query)) == 3 and len(people(gallery)) == 5
    assert people(query) < people(gallery) and not people(train) & people(gallery)
    assert [{t.camera for t in each} for each in splits.values()] == [{"c0", "c1", "c2"}, {"c0"}, {"c1", "c2"}]
    everything = [*train, *query, *gallery]
    assert len({t.name for t in everything}) == len(everything) and {len(t) for t in everything} == {6}
    assert query[0].frames[0].shape == (32, 16, 3)


def test_every_query_has_a_match_in_each_other_camera(splits):
    for query in splits["query"]:
        assert {t.camera for t in splits["gallery"] if t.person == query.person} == {"c1", "c2"}


def test_without_distractors():
    splits = walker_splits(dataclasses.replace(SMALL, distractors=0))
    assert people(splits["query"]) == people(splits["gallery"])


def test_hidden_share_rises_with_the_level():
    assert list(OCCLUSION) == ["none", "light", "usual", "heavy", "persistent"]
    shares, frames = [], []
    for level in OCCLUSION:
        splits = walker_splits(dataclasses.replace(SMALL, train_people=8, cameras=2, occlusion=level))
        masks = np.array([tracklet.masks[:] for tracklet in splits["train"]])
        shares.append(masks.mean())
        frames.append(masks.any((2, 3)).mean())
    assert shares[0] == 0 == frames[0]
    assert (np.diff(shares) > 0.01).all(), shares
    assert (np.diff(frames) > 0.01).all(), frames


def test_unoccluded_is_the_truth(splits):
    hidden = max(splits["train"], key=lambda tracklet: np.mean(tracklet.masks[:]))
    clear = unoccluded(hidden)
    assert clear.masks is None and clear.truth is None
    assert (clear.name, clear.person, clear.camera, clear.frame_names) == (
        hidden.name, hidden.person, hidden.camera, hidden.frame_names)
    masks = np.stack(hidden.masks[:])
    before, after = np.stack(hidden.frames[:]), np.stack(clear.frames[:])
    np.testing.assert_array_equal(after, np.stack(hidden.truth[:]))
    np.testing.assert_array_equal(after[~masks], before[~masks])
    assert masks.any() and (after[masks] != before[masks]).any(1).mean() > 0.5


def test_unoccluded_without_truth(splits):
    clear = unoccluded(splits["query"][0])
    with pytest.raises(ValueError, match=f"tracklet {clear.name} needs its frames without occluders. Got no truth"):
        unoccluded(clear)


def test_everything_follows_from_the_numbers(splits):
    again = walker_splits(SMALL)["gallery"][3]
    np.testing.assert_array_equal(np.stack(again.frames[:]), np.stack(splits["gallery"][3].frames[:]))
    other = walker_splits(dataclasses.replace(SMALL, seed=1))["gallery"][3]
    assert again.name == other.name and (np.stack(again.frames[:]) != np.stack(other.frames[:])).mean() > 0.5


@pytest.mark.parametrize("change, message", [
    ({"occlusion": "dense"},
     "There is no occlusion level 'dense'; choose one of none, light, usual, heavy, persistent."),
    ({"cameras": 1}, "A query's person must be seen by another camera too: give at least 2 cameras. Got 1."),
    ({"test_people": 0}, "test_people must be at least 1. Got 0."),
    ({"train_people": 0}, "train_people must be at least 1. Got 0."),
    ({"distractors": -1}, "distractors must be at least 0. Got -1."),
    ({"frames": 0}, "frames must be at least 1. Got 0."),
])
def test_what_is_refused(change, message):
    with refused(message):
        dataclasses.replace(SMALL, **change)
