"""Masks of people in the forms of segmentation tools, against pycocotools and against each other."""

import json

import cv2
import numpy as np
import pytest
from footage import make_video
from refusals import refused

from vrstc_jax.data.images import write_png
from vrstc_jax.data.inputs.people_masks import PeopleMasks, _runs
from vrstc_jax.data.inputs.sources import open_source

coco = pytest.importorskip("pycocotools.mask", reason="it is an extra")

FRAMES, SIZE = 6, (48, 64)
BOXES = {1: (4, 2, 20, 40), 2: (30, 5, 18, 36)}  # left, top, width, height


def person(track, frame):
    """A person's mask of the picture: an ellipse in the box that moves with the frame; hidden in frame 4."""
    left, top, width, height = BOXES[track]
    mask = np.zeros(SIZE, np.uint8)
    if not (track == 2 and frame == 4):
        cv2.ellipse(mask, (left + width // 2, top + height // 2), (width // 3, height // 2 - frame), 0, 0, 360, 1, -1)
    return mask.astype(bool)


@pytest.fixture
def footage(tmp_path):
    make_video(tmp_path / "v.mkv", frames=FRAMES)
    lines = [f"{frame},{track},{','.join(map(str, box))}" for track, box in BOXES.items()
             for frame in range(1, FRAMES + 1)]
    (tmp_path / "b.txt").write_text("\n".join(lines))
    return tmp_path


def opened(folder, visible=None, whole=None, **more):
    source = open_source(folder / "v.mkv", boxes=folder / "b.txt", people=PeopleMasks(visible, whole), **more)
    return {tracklet.name: tracklet for tracklet in source.tracklets}


def encoded(mask):
    return coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()


def pairs():
    return [(track, frame) for track in BOXES for frame in range(1, FRAMES + 1)]


def write_mots(path, track_of=lambda track: 2000 + track, first=1):
    path.write_text("".join(f"{frame - 1 + first} {track_of(track)} 2 {SIZE[0]} {SIZE[1]} {encoded(mask)}\n"
                            for track, frame in pairs() if (mask := person(track, frame)).any()))


def write_json(path, compress=True, wrap=True):
    rows = []
    for track, frame in pairs():
        mask = person(track, frame)
        runs = np.flatnonzero(np.diff(np.concatenate([[0], mask.T.ravel().astype(int), [0]])))
        plain = np.diff(np.concatenate([[0], runs, [mask.size]])).tolist()
        rows.append({"image_id": frame, "track_id": track, "segmentation": {
            "size": list(SIZE), "counts": encoded(mask) if compress else plain}})
    path.write_text(json.dumps({"annotations": rows} if wrap else rows))


def write_pictures(folder):
    folder.mkdir()
    for frame in range(1, FRAMES + 1):
        values = np.zeros(SIZE, np.uint16)
        for track in BOXES:
            values[person(track, frame)] = 2000 + track
        cv2.imwrite(str(folder / f"{frame:06d}.png"), values)


def write_tracks(folder):
    for track, frame in pairs():
        left, top, width, height = BOXES[track]
        write_png(folder / str(track) / f"{frame:06d}.png", person(track, frame)[top:top + height, left:left + width])


FORMS = {"mots.txt": write_mots, "coco.json": write_json, "pictures": write_pictures, "tracks": write_tracks,
         "plain.txt": lambda path: write_mots(path, track_of=lambda track: track),
         "runs.json": lambda path: write_json(path, compress=False, wrap=False)}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_masks_of_the_crops(footage, form):
    FORMS[form](footage / form)
    for name, tracklet in opened(footage, visible=footage / form).items():
        left, top, width, height = BOXES[int(name)]
        assert tracklet.amodal is None
        for index, mask in enumerate(tracklet.modal[:]):
            wanted = person(int(name), index + 1)[top:top + height, left:left + width]
            np.testing.assert_array_equal(mask, wanted, err_msg=f"track {name}, frame {index + 1}")


def test_frames_may_count_from_zero(footage):
    write_mots(footage / "m.txt", first=0)
    text = (footage / "b.txt").read_text().splitlines()
    rows = [line.partition(",") for line in text]
    (footage / "b.txt").write_text("\n".join(f"{int(frame) - 1},{rest}" for frame, _, rest in rows))
    tracklet = opened(footage, whole=footage / "m.txt", first_frame=0)["1"]
    assert tracklet.amodal[0].sum() == person(1, 1).sum()


def test_a_changed_mask_changes_what_the_tracklet_is_made_from(footage):
    write_mots(footage / "m.txt")
    before = opened(footage, visible=footage / "m.txt")["1"].made_from
    assert before == opened(footage, visible=footage / "m.txt")["1"].made_from != opened(footage)["1"].made_from
    (footage / "m.txt").write_text((footage / "m.txt").read_text().split("\n", 1)[1])
    assert opened(footage, visible=footage / "m.txt")["1"].made_from != before


LINE = f"1 2001 2 {SIZE[0]} {SIZE[1]} {encoded(person(1, 1))}\n"


@pytest.mark.parametrize("name, text, said", [
    ("m.txt", "1 2001 2 48\n", "m.txt:1: is no line of MOTS"),
    ("m.txt", LINE + LINE, "m.txt:2: track 1 has two masks in frame 1"),
    ("m.txt", LINE, "has no visible-person mask of track 2 in any of its 6 frames"),
    ("m.json", "{", "is no JSON"), ("m.json", "{}", "has no list of annotations"),
    ("m.json", '[{"image_id": 1}]', "annotation 1 has no image_id, track_id and segmentation"),
    ("m.json", '[{"image_id": -1, "track_id": 1, "segmentation": {"size": [4, 4], "counts": "0"}}]',
     "annotation 1 has"),
    ("m.json", "[" * 100_000, "is no JSON")])
def test_bad_files_are_refused_in_one_line(footage, name, text, said):
    (footage / name).write_text(text)
    with refused(said):
        opened(footage, visible=footage / name)


@pytest.mark.parametrize("change, said", [
    ({"size": [8, 8]}, "has a mask of 8x8, and the video's picture has 64x48"),
    ({"counts": "zzzz"}, "has a damaged run-length encoding"),
    ({"counts": "1"}, "has a damaged run-length encoding (its runs have 1 pixels of 3072)"),
    ({"counts": "é"}, "has a damaged run-length encoding")])
def test_a_bad_mask_is_refused_when_it_is_read(footage, change, said):
    write_json(footage / "m.json")
    read = json.loads((footage / "m.json").read_text())
    read["annotations"][0]["segmentation"] |= change
    (footage / "m.json").write_text(json.dumps(read))
    with refused(said):
        opened(footage, visible=footage / "m.json")["1"].modal[:]


def test_masks_of_what_is_hidden_leave_nothing_to_add(footage):
    write_tracks(footage / "tracks")
    with refused("leave one of the two out"):
        opened(footage, visible=footage / "tracks", masks=footage / "tracks")
    with refused("no such file or folder"):
        opened(footage, whole=footage / "nowhere")


def test_runs_are_those_of_pycocotools():
    rng = np.random.default_rng(0)
    for _ in range(50):
        mask = cv2.resize(rng.random((6, 5)), SIZE[::-1]) > rng.uniform(0.2, 0.8)
        runs = np.flatnonzero(np.diff(np.concatenate([[0], mask.T.ravel().astype(int)])))
        lengths = np.diff(np.concatenate([[0], runs, [mask.size]]))
        assert _runs(encoded(mask).encode()) == lengths.tolist()
