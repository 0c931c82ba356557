"""Training clips with known truth: what is said to be hidden is, and nothing else is changed."""

import numpy as np
import pytest
from locating import TINY, material

from vrstc_jax import config as configs
from vrstc_jax.data.composing import Ground, Material, compose
from vrstc_jax.data.composing.batches import locating_batches
from vrstc_jax.data.composing.material import SIZE
from vrstc_jax.data.composing.pasting import Scene, paste_behind, paste_in_front, shade
from vrstc_jax.runtime.errors import InputError

COUNT = 12


def scene():
    ground = material().walkers[0].at(np.arange(COUNT))
    return Scene(ground.clear.copy(), np.zeros_like(ground.occluder), ground.person, np.zeros_like(ground.person))


class TestPasting:
    def test_only_what_is_called_covered_changes_in_front(self):
        covered = 0
        for seed in range(40):
            rng, one, before = np.random.default_rng(seed), scene(), scene().frames.astype(int)
            paste_in_front(rng, material(), one)
            change = np.abs(one.frames - before).max(-1)
            # A pixel is called covered from 12 % on, so others change by at most that share of 255, and a rounding.
            assert change[~one.occluder].max(initial=0) <= 0.12 * 255 + 1
            covered += one.occluder.any()
            assert not (one.nearer & ~one.occluder.any((1, 2), keepdims=True)).all()
        assert covered > 30

    def test_people_who_pass_behind_change_no_pixel_of_the_person(self):
        changed = 0
        for seed in range(10):
            one, before = scene(), scene().frames
            paste_behind(np.random.default_rng(seed), material(), one)
            np.testing.assert_array_equal(one.frames[one.person], before[one.person])
            assert not one.occluder.any() and not one.nearer.any()
            changed += (one.frames != before).any()
        assert changed >= 8

    def test_a_shadow_hides_nothing(self):
        one, before = scene(), scene().frames
        shade(np.random.default_rng(0), one)
        assert (one.frames != before).any() and not one.occluder.any()


class TestClips:
    def test_the_same_seed_gives_the_same_clip(self):
        first, second = (compose(np.random.default_rng(3), material(), COUNT) for _ in range(2))
        for name in ("frames", "occluder", "person", "nearer", "times"):
            np.testing.assert_array_equal(getattr(first, name), getattr(second, name))

    def test_about_half_of_the_clips_hide_nothing_and_some_hide_most(self):
        rng, shares, known = np.random.default_rng(0), [], 0
        for _ in range(50):
            clip = compose(rng, material(), COUNT)
            shares.append((clip.person & clip.occluder).any((1, 2)).mean())
            known += clip.boxes_known
            assert clip.boxes_known or not clip.nearer.any()
            assert clip.frames.shape == (COUNT, *SIZE, 3) and clip.frames.dtype == np.uint8
        # 50 draws: three standard deviations of a share of a half are 0.21.
        assert 0.27 < np.mean(np.array(shares) == 0) < 0.7
        assert np.mean(np.array(shares) == 1) > 0
        assert 0.2 < known / 50 < 0.65

    def test_times_tell_which_frames_are_neighbours(self):
        rng = np.random.default_rng(0)
        gaps = {tuple(np.diff(compose(rng, material(), COUNT).times)) for _ in range(60)}
        assert (1.0,) * (COUNT - 1) in gaps
        assert all(min(each) > 0 for each in gaps) and any(max(each) > 2 for each in gaps)

    def test_cut_outs_are_drawn_in_other_colours(self):
        one = Material(material().walkers, material().cut_outs, real=1.0)
        looks = [one.person(np.random.default_rng(seed), COUNT) for seed in range(5)]
        for ground in looks:
            assert isinstance(ground, Ground) and 0.1 < ground.person.mean() < 0.7 and not ground.occluder.any()
        assert len({tuple(ground.frames[ground.person].mean(0).round()) for ground in looks}) == 5

    def test_cut_outs_walk(self):
        """Their feet come and go, their heads stay, and their outlines stay those of what is drawn."""
        moving = 0
        for seed in range(12):
            ground = Material(material().walkers, material().cut_outs, real=1.0).person(np.random.default_rng(seed), 16)
            wide = ground.person.sum(2)
            feet = [rows[rows > 0][-8:].mean() for rows in wide]
            moving += np.std(feet) > 2
        assert 4 <= moving < 12

    def test_a_material_of_walkers_alone_will_do(self):
        compose(np.random.default_rng(0), Material(material().walkers), COUNT)


class TestBatches:
    TASK = configs.LocatingTask("smoke", TINY, configs.Training(steps=4, batch=2, learning_rate=1e-3), clip=6,
                                compute="float32", seed=0)

    def test_they_hold_what_the_network_takes(self):
        batch = next(locating_batches(material(), self.TASK))
        shapes = {name: (array.shape, array.dtype.name) for name, array in batch.items()}
        assert shapes == {
            "frames": ((2, 6, 128, 64, 3), "uint8"), "person": ((2, 6, 128, 64), "bool"),
            "occluder": ((2, 6, 128, 64), "bool"), "nearer": ((2, 6, 32, 16, 2), "float32"),
            "offsets": ((2, 6, 6), "float32"), "seen": ((2, 6, 6), "bool")}
        assert not batch["seen"][:, range(6), range(6)].any()
        np.testing.assert_array_equal(batch["offsets"], -batch["offsets"].transpose(0, 2, 1))

    def test_an_interrupted_training_goes_on_with_the_same_batches(self):
        batches = locating_batches(material(), self.TASK)
        third = [next(batches) for _ in range(3)][2]
        again = next(locating_batches(material(), self.TASK, start=2))
        for name, array in third.items():
            np.testing.assert_array_equal(again[name], array)

    def test_without_walkers_there_is_nothing_to_compose(self):
        with pytest.raises(InputError, match="nobody to compose"):
            locating_batches(Material(()), self.TASK)
