"""Three queries and six gallery entries, with distances whose ranking is worked out by hand."""

import numpy as np
from people import tracklet


def seen(person, camera, name=None, colour=0, frames=3, size=(24, 12)):
    """A tracklet of one grey; its middle frame is distinct from the others."""
    pictures = [np.full((*size, 3), colour + 3 * (i == frames // 2), np.uint8) for i in range(frames)]
    return tracklet(pictures, name=name or f"{person}/{camera}", person=person, camera=camera)


QUERY = [seen("ann", "c1"), seen("bob", "c1"), seen("cid", "c1")]  # of cid there is nothing in the gallery
GALLERY = [seen("ann", "c2"), seen("ann", "c1", "again"), seen("bob", "c2"), seen("-1", "c2"),
           seen("eve", "c2"), seen("ann", "c3")]
# Without junk (ann's own camera, and nobody) the orders are: bob, ANN, eve, ANN; and eve, ann, ann, BOB, ann.
BEFORE = np.array([[0.5, 0.1, 0.3, 0.0, 0.6, 0.7],
                   [0.1, 0.2, 0.3, 0.0, 0.05, 0.4],
                   [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]], np.float32)
# ANN, ANN, bob, eve; and BOB is still fourth.
AFTER = np.array([[0.1, 0.0, 0.3, 0.0, 0.6, 0.2],
                  [0.1, 0.2, 0.3, 0.0, 0.05, 0.4],
                  [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]], np.float32)
