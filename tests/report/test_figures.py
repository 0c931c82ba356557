"""Figures of completed tracklets."""

import numpy as np
import pytest
from people import figures, masks_at, random_model, tracklet

from vrstc_jax.inference.completer import Completer
from vrstc_jax.report.figures import attention_pictures

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_attention_is_of_frames_with_hidden_pixels():
    frames = figures(3)
    masks = masks_at(frames, (1,))
    given, completer = tracklet(frames, masks), Completer(random_model())
    pictures = attention_pictures(completer, given, completer.plan(given), 1)
    assert [picture.names for picture in pictures] == [("previous, 000000", "next, 000002")] * 2
    for picture in pictures:
        np.testing.assert_array_equal(picture.neighbours, [frames[0], frames[2]])
        np.testing.assert_array_equal(picture.frame, np.where(masks[1][..., None], 127, frames[1]))
        row, column = (np.array(picture.position) * masks[1].shape).astype(int)
        assert masks[1][row, column]
    everywhere = tracklet(frames, masks_at(frames, (0, 1, 2)))
    assert attention_pictures(completer, everywhere, completer.plan(everywhere), 1) == []
    with pytest.raises(ValueError, match="Got frame 000002 of tracklet 1, in which all is visible"):
        attention_pictures(completer, given, completer.plan(given), 2)
