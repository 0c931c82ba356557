"""What is hidden where masks of people are known: of what is seen of a person (modal), or of all of them (amodal)."""

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np

from vrstc_jax.data.tracklets import LazySequence, Tracklet
from vrstc_jax.inference.plan import Plan

_MARGIN = 0.015  # of a crop's height: how far beyond its hidden part a person is repainted


def masks_are_known(tracklet: Tracklet) -> bool:
    """Whether masks of people say what is hidden, so that nothing is located."""
    return tracklet.modal is not None and tracklet.amodal is not None


def plan_of_people(tracklet: Tracklet) -> Plan:
    """Hides what is of the whole person and not seen, with a margin, but nothing that is seen."""
    modal, amodal = tracklet.modal, tracklet.amodal
    assert modal is not None and amodal is not None

    def hidden(index: int) -> np.ndarray:
        seen = modal[index]
        missing = amodal[index] & ~seen
        if not missing.any():
            return missing
        reach = max(1, round(_MARGIN * len(missing)))
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
        return (cv2.dilate(missing.astype(np.uint8), kernel) > 0) & ~seen

    return Plan.from_masks(LazySequence(len(tracklet), hidden))


def without_visible(plan: Plan, tracklet: Tracklet) -> Plan:
    """A located plan that leaves what is known to be seen of the person, and what touches no part of them."""
    modal, amodal = tracklet.modal, tracklet.amodal
    if modal is None and amodal is None:
        return plan

    def mask(index: int, frame: np.ndarray) -> np.ndarray:
        found = plan.mask(index, frame)
        if found.any() and amodal is not None:
            found = _touching(found, amodal[index])
        return found & ~modal[index] if modal is not None else found

    return replace(plan, mask=mask, visible=_empty(mask, tracklet, plan.visible))


def _touching(mask: np.ndarray, person: np.ndarray) -> np.ndarray:
    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    touching = np.unique(labels[person])
    return np.isin(labels, touching[touching > 0])


def _empty(mask: Callable[[int, np.ndarray], np.ndarray], tracklet: Tracklet, visible: np.ndarray) -> np.ndarray:
    """The frames in which nothing is hidden, of which those that were visible need no look."""
    return np.array([bool(visible[i]) or not mask(i, tracklet.frames[i]).any() for i in range(len(tracklet))], bool)
