"""Opens a user's input: a video with boxes, as a file or as a folder of its pictures; or a folder of crops.

Checks everything about the input that can be checked before work begins, so that a command that fails on its input
fails before it has written anything.
"""

import os
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np

from vrstc_jax.data.inputs.boxes import Boxes, picture_warnings, read_boxes
from vrstc_jax.data.inputs.companions import MASKS, TRUTH, companions_of_crops
from vrstc_jax.data.inputs.folders import open_folder
from vrstc_jax.data.inputs.people_masks import VISIBLE, WHOLE, PeopleMasks, masks_of_people, people_content
from vrstc_jax.data.inputs.picture_files import picture_files
from vrstc_jax.data.inputs.picture_sequence import is_sequence
from vrstc_jax.data.inputs.spool import open_spool
from vrstc_jax.data.made_from import digest, file_content, file_time
from vrstc_jax.data.nearer_boxes import with_nearer_boxes
from vrstc_jax.data.tracklets import Tracklet, about_tracklet
from vrstc_jax.runtime.errors import InputError

_SAMPLE = 100  # masks that are read before any work; whole pictures take 10 ms each


@dataclass(frozen=True, eq=False)
class Source:
    """Tracklets and their origin.

    Attributes:
      tracklets: with their own warnings; of a video, one for each track with a crop, by number.
      kind: 'video' or 'folder'.
      path: the video file or the top folder.
      warnings: irregularities of the source as a whole, one sentence each.
      picture_size: a video's height and width in pixels; None for folders.
      frame_rate: a video's frames per second, by its time stamps where the header differs; None for folders.
      frames_read: how many frames of a video could be decoded; None for folders.
      notes: how the source was understood where that was a choice, one sentence each.
    """

    tracklets: list[Tracklet]
    kind: Literal["video", "folder"]
    path: Path
    warnings: tuple[str, ...] = ()
    picture_size: tuple[int, int] | None = None
    frame_rate: Fraction | None = None
    frames_read: int | None = None
    notes: tuple[str, ...] = ()

    def all_warnings(self) -> list[str]:
        """Those of the source, then those of its tracklets with their names."""
        return [*self.warnings, *(about_tracklet(tracklet.name, warning)
                                  for tracklet in self.tracklets for warning in tracklet.warnings)]


def open_source(path: str | Path, *, boxes: str | Path | None = None, masks: str | Path | None = None,
                truth: str | Path | None = None, pattern: str | None = None, spool: str | Path | None = None,
                first_frame: int = 1, people: PeopleMasks = PeopleMasks()) -> Source:
    """Opens the tracklets of a video file or of a folder of pictures.

    In a video, a box partly outside the picture is clipped; one wholly outside is left out, with a warning of its
    tracklet. Tracklet names and `person` are track numbers; frame names are frame numbers in 6 digits. Of a video that
    breaks off in the middle, the frames before the break are used, and of one with frames that do not decode the
    others, with a warning of the source.

    Args:
      path: a video (MP4, MOV, MKV, WebM, AVI, MPEG, FLV and others), or a folder. A folder with boxes is a video, its
        pictures the frames in the order of their names (see `PictureSequence`).
      boxes: for a video, the boxes of the people: MOTChallenge text (see `read_boxes`).
      masks: a folder of masks, white = hidden. For a folder of pictures it has the same layout (see `open_folder`),
        for a video that of `companions_of_crops`. None: hidden parts are located.
      truth: a folder of the pictures without the occluder, in the layout of masks. None: unknown.
      pattern: for a folder, the nesting of its levels, such as 'person/camera/tracklet/frame' (see `open_folder`).
      spool: for a video, the folder for its crops, created if missing; None: a temporary one, removed with the
        tracklets.
      first_frame: the number of the video's first frame in `boxes`.
      people: for a video, masks of what is seen of each person, or of the whole person (see `masks_of_people`).

    Raises:
      InputError: something about the input cannot be used; the message has one line.
    """
    path = Path(path)
    if first_frame < 0:
        raise InputError(f"--first-frame {first_frame}: frames count from 0 or more; give the number that the boxes "
                         "have for the video's first frame.")
    if boxes is None and first_frame != 1:
        raise InputError(f"--first-frame {first_frame}: is about boxes of a video; leave it out, or give --boxes.")
    if not os.path.exists(path):  # False, and no error, for a name that is too long
        raise InputError(f"{path}: no such file or folder; give a video or a folder of pictures.")
    if path.is_dir():
        if boxes is not None:
            _require_pictures_of_video(path, boxes, pattern)
            return _open_video(path, read_boxes(boxes, first_frame=first_frame), masks, truth, spool, people)
        if is_sequence(path):
            raise InputError(f"{path}: is an image sequence of MOTChallenge, by its seqinfo.ini, and needs boxes that "
                             "say where the people are; give them with --boxes, such as its gt/gt.txt or det/det.txt.")
        if people != PeopleMasks():
            raise InputError(f"--visible and --whole are of people in a video, by their boxes; {path} is a folder of "
                             "crops, whose hidden parts --masks gives.")
        found = open_folder(path, pattern=pattern, masks=masks, truth=truth)
        _look_at_masks(found.tracklets)
        return Source(found.tracklets, "folder", path, found.warnings, notes=found.notes)
    if pattern is not None:
        raise InputError(f"{path}: is a file, and the pattern {pattern!r} is for a folder of pictures; leave it out.")
    if boxes is None:
        raise InputError(f"{path}: a video needs boxes that say where the people are; "
                         "give them with --boxes FILE (MOTChallenge text).")
    return _open_video(path, read_boxes(boxes, first_frame=first_frame), masks, truth, spool, people)


def _require_pictures_of_video(path: Path, boxes: str | Path, pattern: str | None) -> None:
    """Checks that a folder given with boxes can be the pictures of a video: no tree of crops, no pattern.

    Raises:
      InputError: it cannot.
    """
    if pattern is not None:
        raise InputError(f"{path}: the pattern {pattern!r} is for a folder of crops, which has no boxes; leave out one "
                         "of the two.")
    if not is_sequence(path) and not picture_files(path):
        raise InputError(f"{path}: holds no pictures directly in it, and the boxes {boxes} go with a video or with a "
                         "folder of its pictures; give that, or leave the boxes out.")


def _open_video(path: Path, boxes: Boxes, masks: str | Path | None, truth: str | Path | None,
                spool: str | Path | None, people: PeopleMasks) -> Source:
    if masks is not None and people != PeopleMasks():
        raise InputError("--masks says what is hidden, so that --visible and --whole have nothing to add; leave one of "
                         "the two out.")
    kinds = ((masks, MASKS), (truth, TRUTH))
    # Checked before the video is decoded, which may take minutes.
    for folder, kind in kinds:
        if folder is not None and not Path(folder).is_dir():
            raise InputError(f"{folder}: no such folder; give the folder of the {kind.name} pictures.")
    spooled = open_spool(spool, path, boxes)
    mask_crops, truth_crops = (dict.fromkeys(spooled.crops) if folder is None
                               else companions_of_crops(Path(folder), kind, boxes, spooled) for folder, kind in kinds)
    modal, amodal = (dict.fromkeys(spooled.crops) if folder is None else masks_of_people(folder, kind, boxes, spooled)
                     for folder, kind in ((people.visible, VISIBLE), (people.whole, WHOLE)))
    video, content = file_time(path), cache(file_content)
    of_people = [each and people_content(each) for each in (people.visible, people.whole)]

    def made_from(name: str) -> str:
        of_masks = mask_crops[name]
        # The masks of pictures are shared by tracks: each file is read once.
        files = of_masks and [of_masks.form, *(
            [content(item if isinstance(item, Path) else item[0])] for item in of_masks.items)]
        return digest([video, spooled.crops[name].tolist(), files, *(each for each in of_people if each)])

    tracklets = [
        Tracklet(name=name, person=name, frames=spooled.frames(name), boxes=table.astype(np.float64),
                 frame_names=tuple(f"{frame:06d}" for frame in table[:, 0]), masks=mask_crops[name],
                 truth=truth_crops[name], modal=modal[name], amodal=amodal[name],
                 warnings=spooled.track_warnings[name], made_from=made_from(name))
        for name, table in spooled.crops.items()]
    tracklets = with_nearer_boxes(tracklets)
    _look_at_masks(tracklets)
    warnings = (*boxes.warnings, *picture_warnings(boxes, spooled.picture_size), *spooled.warnings)
    return Source(tracklets, "video", path, warnings, spooled.picture_size, spooled.frame_rate,
                  spooled.frames_read)


def _look_at_masks(tracklets: list[Tracklet]) -> None:
    """Reads some masks, spread over all, so that masks of a wrong kind are refused now and not in the middle."""
    masked = [tracklet for tracklet in tracklets if tracklet.masks is not None]
    ends = np.cumsum([len(tracklet) for tracklet in masked])
    for index in np.unique(np.linspace(0, ends[-1] - 1, _SAMPLE).astype(int)) if masked else ():
        row = int(np.searchsorted(ends, index, side="right"))
        masks = masked[row].masks
        assert masks is not None
        masks[int(index - ends[row])]  # counted from the tracklet's end
