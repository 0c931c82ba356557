"""The five steps with their options, and the galleries in which they rank."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from five_steps_runs import (
    CONFIG,
    all_with,
    assert_figures,
    assert_same_frames,
    names,
    run,
    times,
    with_stand_ins,
)
from people import figures, tracklet
from refusals import refused

from vrstc_jax.data.inputs.folders import read_folder
from vrstc_jax.data.inputs.masks import read_mask
from vrstc_jax.data.tracklet_set import read_set, write_set
from vrstc_jax.recipes import five_steps
from vrstc_jax.recipes.five_steps import SPLITS, Options, ranking, read_splits

pytestmark = pytest.mark.usefixtures("quick_compilation", "compiled_once")


class TestOptions:
    @pytest.fixture(scope="class")
    def given(self, tmp_path_factory, quick_compilation, compiled_once):
        """By the data's masks, without comparison, queries in the gallery, and the folder is kept."""
        return with_stand_ins(
            tmp_path_factory.mktemp("given") / "work", dataclasses.replace(CONFIG, final_from_first=False),
            backbone=lambda: {"marked": 1}, options=Options(
                hidden="given", compare=False, queries_in_gallery=True, queries_in_official_gallery=True,
                keep_folder=True))

    def test_masks_say_what_is_hidden(self, given):
        raw, completed = read_splits(given.work / "data"), read_splits(given.work / "completed")
        clean = [[i for i, mask in enumerate(t.masks) if not mask.any()] for t in raw["train"].tracklets]
        assert [each.frames.tolist() for each in given.trained.calls[1].seen] == clean
        changed = hidden = 0
        for split in SPLITS:
            for before, after in zip(raw[split].tracklets, completed[split].tracklets, strict=True):
                masks, filled, frames = (np.stack(arrays[:]) for arrays in (before.masks, after.frames, before.frames))
                assert_same_frames(after.masks, masks)
                np.testing.assert_array_equal(filled[~masks], frames[~masks])
                changed += (filled != frames).any(-1)[masks].sum()
                hidden += masks.sum()
        assert changed > 0.9 * hidden > 100

    def test_the_folder_has_the_same_tree_and_names(self, given):
        folder, completed = given.work / "completed_frames", read_splits(given.work / "completed")
        tracklets = [t for data in completed.values() for t in data.tracklets]
        assert times(folder).keys() == {Path(t.name, f"{name}.png") for t in tracklets for name in t.frame_names}
        details = given.work / "completed_details"
        assert names(details) == {"masks", "origin", "scores", "run.json"}
        # What reads such folders reads this one.
        read = {t.name: t for t in read_folder(folder, pattern="person/camera/tracklet/frame")}
        for tracklet in tracklets:
            mine = read.pop(tracklet.name)
            assert (mine.person, mine.camera) == (tracklet.person, tracklet.camera)
            assert_same_frames(mine.frames, tracklet.frames)
            mask = read_mask(details / "masks" / tracklet.name / "000002.png")
            np.testing.assert_array_equal(mask, tracklet.masks[1])
        assert not read

    def test_without_comparison(self, given):
        assert list(given.results["evaluations"]) == ["after completion"]
        assert given.trained.names() == ["re-ID network", "STCnet", "final network, after completion"]
        assert not (given.work / "before.safetensors").exists() and not (given.work / "ranked.png").exists()

    def test_both_galleries_are_ranked_in(self, given):
        """Each by NumPy from what other tools are given; the official one is marked."""
        results = given.results
        assert (results["gallery"], results["official"]) == ("with the queries", True)
        other = results["other_gallery"]
        assert (other["gallery"], other["official"]) == ("without the queries", False)
        with np.load(given.work / "features.npz") as stored:
            arrays = dict(stored)
        assert len(arrays["gallery"]) == 2 + 3 and arrays["gallery_names"][:2].tolist() == [
            t.name for t in read_set(given.work / "completed", "query").tracklets]
        np.testing.assert_array_equal(arrays["gallery"][:2], arrays["query"])
        for found in (results, other):
            assert found["evaluations"].keys() == {"after completion"}
            assert_figures(found["evaluations"]["after completion"], arrays)
            # Without the queries the gallery is what follows them.
            arrays |= {name: value[2:] for name, value in arrays.items() if name.startswith("gallery")}

    def test_what_networks_start_from(self, given):
        networks = [call for call in given.trained.calls if call.name != "STCnet"]
        assert [call.start_from for call in networks] == [{"marked": 1}] * 2

    def test_masks_that_are_not_there(self, trained, tmp_path):
        with refused("tracklet 0000000/c0/t0 of train: has no masks"):
            run(tmp_path / "work", write=lambda path: write_set(path, all_with(masks=None)),
                options=Options(hidden="given"))
        assert not trained.calls and not names(tmp_path / "work")


class TestGalleries:
    """Of ann and bob in camera 1 as queries, whose features lie in the order ann, bob, ann in camera 2."""

    @pytest.fixture
    def asked(self, monkeypatch):
        """What features were asked for; they are angles, which the tracklets' names say."""
        asked = []

        def features_of(model, tracklets, path=None):
            asked.append([t.name for t in tracklets])
            angles = np.array([float(t.name) for t in tracklets])
            return np.stack([np.cos(angles), np.sin(angles)], 1)

        monkeypatch.setattr(ranking.retrieval, "features_of", features_of)
        return asked

    @staticmethod
    def sets(query, gallery):
        return {split: SimpleNamespace(tracklets=[tracklet(figures(1), name=name, person=person, camera=camera)
                                                  for name, person, camera in rows])
                for split, rows in (("query", query), ("gallery", gallery))}

    QUERY, GALLERY = [("0.0", "ann", "1"), ("0.1", "bob", "1")], [("0.3", "ann", "2"), ("0.5", "bob", "2")]

    @pytest.mark.parametrize("joined", [True, False])
    def test_both_from_the_same_features(self, asked, joined):
        options = Options(queries_in_gallery=joined, queries_in_official_gallery=True)
        found = five_steps.evaluate_galleries(None, self.sets(self.QUERY, self.GALLERY), options)
        assert asked == [["0.0", "0.1", "0.3", "0.5"]]
        # ann finds bob first only where he is in the gallery; bob finds ann's two first, or her one.
        assert found[False].ranking.first_hit.tolist() == [1, 2]
        assert found[True].ranking.first_hit.tolist() == [2, 3]
        assert found[True].features[1].shape == (4, 2) and found[False].features[1].shape == (2, 2)
        for with_queries, evaluation in found.items():
            one = five_steps.evaluate_galleries(None, self.sets(self.QUERY, self.GALLERY),
                                                Options(queries_in_gallery=with_queries))
            assert list(one) == [with_queries] and one[with_queries].figures() == evaluation.figures()
        for official in (True, False):
            results = ranking.figures({"after completion": found}, dataclasses.replace(
                options, queries_in_official_gallery=official))
            names = [("with" if with_queries else "without") + " the queries" for with_queries in (joined, not joined)]
            assert [each["gallery"] for each in (results, results["other_gallery"])] == names
            assert [each["official"] for each in (results, results["other_gallery"])] == [
                joined == official, joined != official]
            assert results["evaluations"]["after completion"] == found[joined].figures()

    def test_matches_among_queries_alone(self, asked):
        """They are some where the queries have joined; in the other gallery there is nothing to judge."""
        sets = self.sets([*self.QUERY, ("0.4", "ann", "2")], [("0.3", "eve", "2")])
        sets["train"] = SimpleNamespace(tracklets=[tracklet(figures(2), name=name, person=name, camera="1")
                                                   for name in "cd"])
        options = Options(queries_in_gallery=True, queries_in_official_gallery=True)
        five_steps.require_trainable(sets, options)
        found = five_steps.evaluate_galleries(None, sets, options)
        assert found.keys() == {True} and found[True].figures()["left_out"] == 1
        results = ranking.figures({"after completion": found}, options)
        assert results["other_gallery"] == {"gallery": "without the queries", "official": False, "evaluations": {}}
        with refused("None of the 3 queries"):
            five_steps.require_trainable(sets)
