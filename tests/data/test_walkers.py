"""Made-up walkers: their ground truth is right, and they are a function of their arguments.

Most tests use 64x32 crops, which are painted in the same way as larger ones and in less time.
"""

import numpy as np
import pytest
from refusals import refused

from vrstc_jax.data.inputs.sources import open_source
from vrstc_jax.data.walkers import TEST_FIRST, WalkerConfig, make_tracklet, make_tracklets, people, write_walkers
from vrstc_jax.data.walkers.people import WARDROBE, make_person, paint_person

SMALL = WalkerConfig(height=64, width=32)
PARTS = ("frames", "truth", "masks", "silhouettes")


def arrays(tracklet):
    """The four parts of a tracklet, each one array [T, H, W, ...]."""
    return tuple(np.stack(getattr(tracklet, part)[:]) for part in PARTS)


@pytest.fixture(scope="module")
def hidden_ones():
    """The parts of 14 tracklets, in each of which something hides the walker."""
    config = WalkerConfig(height=64, width=32, occlusion=1.0, persistent=0.0)
    made = make_tracklets(people("train", 14), cameras=1, seed=7, config=config)
    return [arrays(tracklet) for tracklet in made]


@pytest.mark.parametrize("height, width, frames", [(128, 64, 3), (64, 32, 5)])
def test_parts_have_the_size_asked_for(height, width, frames):
    tracklet = make_tracklet(4, 1, config=WalkerConfig(height=height, width=width, frames=frames))
    seen, truth, masks, silhouettes = arrays(tracklet)
    assert seen.shape == truth.shape == (frames, height, width, 3) and seen.dtype == truth.dtype == np.uint8
    assert masks.shape == silhouettes.shape == (frames, height, width)
    assert masks.dtype == silhouettes.dtype == bool
    assert len(tracklet) == len(set(tracklet.frame_names)) == frames
    assert (tracklet.person, tracklet.camera) == tuple(tracklet.name.split("/")[:2])


def test_what_the_mask_covers(hidden_ones):
    for frames, truth, masks, _ in hidden_ones:
        changed = (frames != truth).any(-1)
        assert not changed[~masks].any() and masks.any()
        # The rim of a mask may hold pixels that blur changes by less than a grey level, hence not all of it.
        assert changed[masks].mean() > 0.8


def hidden_shares(masks, silhouettes):
    """The share of the walker that is hidden in each frame."""
    return (masks & silhouettes).sum((1, 2)) / silhouettes.sum((1, 2))


def test_something_hides_the_person_and_mostly_for_part_of_the_way(hidden_ones):
    shares = np.array([hidden_shares(*parts[2:]) for parts in hidden_ones])
    counts = (shares > 0.05).sum(1)
    assert counts.min() > 0 and np.median(counts) <= 10  # of 16 frames
    assert np.mean(counts == 16) < 0.25


def test_persistent_things_hide_most_frames():
    config = WalkerConfig(height=64, width=32, occlusion=1.0, persistent=1.0)
    for tracklet in make_tracklets(people("train", 5), cameras=1, seed=1, config=config):
        assert (hidden_shares(*arrays(tracklet)[2:]) > 0.05).sum() > 8  # of 16 frames


def test_masks_seldom_end_at_a_bands_edge(hidden_ones):
    # Where what hides has a level upper edge, it is the row in which the masked share grows most.
    edges = [int(np.argmax(np.abs(np.diff(mask.mean(1))))) + 1
             for _, _, masks, _ in hidden_ones for mask in masks if mask.any()]
    thirds = 64 / 3
    near = [min(abs(edge - thirds), abs(edge - 2 * thirds)) <= 1 for edge in edges]
    assert np.mean(near) < 0.25  # even chance over 64 rows is 4 or 5 in 64; three times that and more is aim


def test_nothing_hides_without_occlusion():
    config = WalkerConfig(height=64, width=32, occlusion=0.0, frames=4)
    for tracklet in make_tracklets(people("train", 6), cameras=1, config=config):
        frames, truth, masks, _ = arrays(tracklet)
        assert not masks.any()
        np.testing.assert_array_equal(frames, truth)


def test_occlusion_is_the_share_of_tracklets_in_which_something_hides():
    config = WalkerConfig(height=32, width=16, occlusion=0.5, frames=6)
    made = make_tracklets(people("train", 40), cameras=1, seed=3, config=config)
    # 20 are expected; the bounds are more than three deviations (3.2) off.
    assert 10 <= sum(np.any(tracklet.masks[:]) for tracklet in made) <= 30


def test_walkers_are_a_function_of_their_numbers():
    def once(person=3, camera=1, seed=0):
        return arrays(make_tracklet(person, camera, seed=seed, config=SMALL))

    first = once()
    others = [once(person=4), once(camera=0), once(seed=1), once(person=5)]  # more than are kept in memory
    for a, b in zip(first, once()):
        np.testing.assert_array_equal(a, b)
    for other in others:
        assert np.abs(first[1].astype(int) - other[1]).mean() > 3


def test_training_and_test_people_never_meet():
    assert not set(people("train", TEST_FIRST)) & set(people("test", 1000))
    assert min(people("test", 2)) >= TEST_FIRST
    for part, number, wrong in (("validation", 3, "'validation'"), ("train", 0, 0),
                                ("train", TEST_FIRST + 1, TEST_FIRST + 1)):
        with refused(wrong):
            people(part, number)


def test_no_single_colour_tells_who_it_is():
    walkers = [make_person(np.random.default_rng([0, number])) for number in people("train", 300)]

    def name(colour):
        return int(np.argmin(np.abs(WARDROBE - colour).sum(1)))

    tops = [name(walker.top_colours[0]) for walker in walkers]
    bottoms = [name(walker.bottom_colour) for walker in walkers]
    for colours in (tops, bottoms):
        assert min(np.unique(colours, return_counts=True)[1]) >= 3
    whole = {(top, bottom, name(walker.top_colours[1]), walker.top, walker.top_pattern, walker.bottom,
              walker.bag, walker.hair_style) for top, bottom, walker in zip(tops, bottoms, walkers)}
    assert len(whole) > 0.97 * len(walkers)


def painted(background, **changes):
    canvas = np.full((160, 120, 3), background, np.float32)
    where = {"phase": 0.7, "heading": 0.0, "foot": (60, 150), "height": 130, "light": 0.3} | changes
    return canvas, paint_person(canvas, make_person(np.random.default_rng(5)), **where)


@pytest.mark.parametrize("heading", [0.0, np.pi / 2, np.pi, -np.pi / 2])
def test_the_cover_is_where_the_background_does_not_shine_through(heading):
    dark, cover = painted(0.0, heading=heading)
    bright, _ = painted(1.0, heading=heading)
    through = (bright - dark).max(-1)  # 1 - cover, darkened by the shadow on the ground
    np.testing.assert_allclose(through[cover > 0.999], 0, atol=1e-6)
    assert (through[cover == 0] > 0.5).all()  # a shadow takes at most 0.4


def test_legs_open_and_close_twice_in_a_cycle():
    phases = np.linspace(0, 2 * np.pi, 16, endpoint=False)

    def spread(phase):
        columns = np.flatnonzero((painted(0.5, phase=phase)[1][120:] > 0.5).any(0))
        return columns[-1] - columns[0] + 1

    spreads = np.array([spread(phase) for phase in phases])
    # Half a cycle later the other leg is in front; only its distance from the camera differs.
    assert np.abs(spreads - np.roll(spreads, 8)).max() <= 2
    assert spreads.max() > 1.5 * spreads.min()
    power = np.abs(np.fft.rfft(spreads - spreads.mean()))
    assert np.argmax(power) == 2


def background_shift(first, second, people_mask, reach=12):
    """Columns by which what is behind the walker moved, by the least difference."""
    def difference(shift):
        behind = ~(people_mask | np.roll(people_mask, shift, axis=1))
        behind[:, :max(0, shift)] = behind[:, behind.shape[1] + min(0, shift):] = False  # came in at the other edge
        return np.abs(np.roll(first, shift, axis=1) - second)[behind].mean()

    return min(range(-reach, reach + 1), key=difference)


def test_the_camera_stands_still_while_people_walk():
    config = WalkerConfig(frames=6, occlusion=0.0, jitter=0.0)
    speeds = []
    for tracklet in make_tracklets(people("train", 8), cameras=1, seed=2, config=config):
        _, truth, _, silhouettes = arrays(tracklet)
        shifts = [background_shift(a, b, c | d) for a, b, c, d in zip(
            truth.astype(float), truth[1:].astype(float), silhouettes, silhouettes[1:])]
        assert np.ptp(shifts) <= 3  # turning changes it, whole columns round it
        speeds.append(np.mean(shifts))
    # Two steps are about a body height (113 pixels) in 10 to 15 frames, less for who walks to or from us.
    assert np.abs(speeds).max() < 12 and (np.abs(speeds) > 4).sum() >= 3
    assert min(speeds) < -4 and max(speeds) > 4


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder of walkers with a shorter scene than usual."""
    directory = tmp_path_factory.mktemp("walkers") / "made"
    write_walkers(directory, number=1, frames=3, seed=2, scene_frames=12)
    return directory


def test_a_written_scene_is_a_video_with_boxes_and_masks(written):
    source = open_source(written / "scene/scene.mp4", boxes=written / "scene/boxes.txt", masks=written / "scene/masks")
    assert source.frames_read == 12 and source.picture_size == (360, 640)
    assert len(source.tracklets) >= 3
    for tracklet in source.tracklets:
        assert [frame.shape[:2] for frame in tracklet.frames] == [mask.shape for mask in tracklet.masks]
    assert any(mask.any() for tracklet in source.tracklets for mask in tracklet.masks)


def test_written_tracklets_come_back_as_they_were_made(written):
    made = make_tracklets(people("test", 1), seed=2, config=WalkerConfig(height=128, width=64, frames=3))
    folder = written / "tracklets"
    source = open_source(folder / "frames", masks=folder / "masks", truth=folder / "truth")
    assert [tracklet.name for tracklet in source.tracklets] == [tracklet.name for tracklet in made]
    for read, tracklet in zip(source.tracklets, made):
        for part in ("frames", "masks", "truth"):
            np.testing.assert_array_equal(np.stack(getattr(read, part)[:]), np.stack(getattr(tracklet, part)[:]))


def test_writing_leaves_nothing_unfinished_and_no_full_folder_is_touched(written):
    assert [path.name for path in written.parent.iterdir()] == ["made"]
    before = sorted(path.name for path in written.iterdir())
    with refused("made"):
        write_walkers(written)
    assert sorted(path.name for path in written.iterdir()) == before
