"""All kinds of input, by name."""

from tools.fuzz.kinds import boxes, datasets, flags, footage, models, names, pictures, records, video
from tools.fuzz.tries import Kind

KINDS: dict[str, Kind] = {
    "boxes": boxes.boxes, "sequences": boxes.sequences, "masks": pictures.masks, "pictures": pictures.pictures,
    "video": video.video, "render": video.render, "models": models.models, "checkpoints": records.checkpoints,
    "datasets": datasets.datasets, "sets": datasets.sets, "workdirs": records.workdirs, "records": records.records,
    "fits": records.fits, "flags": flags.flags, "names": names.names, "paths": footage.paths, "trees": footage.trees}
"""To add a kind, add a function to a module of this folder, and its name here."""
