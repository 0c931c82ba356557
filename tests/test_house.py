"""The order of the house: who may import whom, what `import vrstc_jax` brings, and that things are described.
"""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import vrstc_jax

ROOT = Path(__file__).resolve().parent.parent

# A room imports from floors below, and on its own floor from rooms named before it. `__init__` stands for
# the public names, which only the ways in may import from the top.
FLOORS = (
    ("errors", "config", "places", "hosts", "process", "shards", "attention", "convolution", "regions",
     "precision"),
    ("networks", "non_local", "resnet", "pooling", "losses", "hidden_bands", "reid", "data", "tensor_file",
     "imagenet"),
    ("training", "model", "evaluation", "locate", "locating_quality", "held_out", "model_card"),
    ("complete", "report", "render", "outputs", "judge", "pictures", "fit", "pipeline", "retrieval",
     "five_steps"),
    ("__init__", "demo", "cli", "__main__", "experiments", "tools"),
)
ROOMS = [room for floor in FLOORS for room in floor]
HEAVY = ("orbax", "tensorflow_datasets", "tensorflow", "grain", "matplotlib", "torch", "cv2", "av",
         "tensorboardX", "PIL")


def sources():
    for folder in ("vrstc_jax", "experiments", "tools"):
        yield from sorted((ROOT / folder).rglob("*.py"))


def room_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[1] if parts[0] == "vrstc_jax" else parts[0]


def imported_rooms(path):
    """(line, room) for each import of something of ours, wherever in the file it stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for first, *rest in (name.split(".") for name in names):
            if first == "vrstc_jax":
                yield node.lineno, "__init__" if not rest or rest[0] in vrstc_jax.__all__ else rest[0]
            elif first in ("experiments", "tools"):
                yield node.lineno, first


def test_rooms_import_only_from_below():
    wrong = []
    for path in sources():
        room = room_of(path)
        where = path.relative_to(ROOT)
        if room not in ROOMS:
            wrong.append(f"{where}: say in FLOORS on which floor this room is")
            continue
        if room == "__init__":
            continue  # it has the public names of all floors, those of the upper ones on demand
        for line, other in imported_rooms(path):
            if other not in ROOMS or ROOMS.index(other) > ROOMS.index(room):
                wrong.append(f"{where}:{line}: {room} must not import {other}")
    assert not wrong, "\n".join(wrong)


def loaded_by(module):
    """The modules that an import loads in a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", f"import sys, {module}; print(*sys.modules)"], capture_output=True,
                          text=True, cwd=ROOT, check=True)
    return set(done.stdout.split())


def test_import_is_light():
    """What comes beyond Flax is ours, and of that the op, its layer and what they stand on."""
    loaded, flax_loads = loaded_by("vrstc_jax"), loaded_by("flax.linen")
    assert {"vrstc_jax.attention.op", "vrstc_jax.attention.layers"} <= loaded
    assert not {module.partition(".")[0] for module in loaded} & set(HEAVY)
    more = loaded - flax_loads
    assert not more & {"flax.nnx", "vrstc_jax.attention.nnx"}
    assert len([module for module in more if not module.startswith("vrstc_jax")]) < 20, sorted(more)


def test_public_names_are_there():
    for name in vrstc_jax.__all__:
        assert getattr(vrstc_jax, name).__doc__, name
    promised = {"load_model", "complete_tracklet", "temporal_attention", "TemporalAttention"}
    assert promised <= set(vrstc_jax.__all__)
    assert set(vrstc_jax.__all__) <= set(dir(vrstc_jax))
    with pytest.raises(AttributeError, match="no attribute 'complete_trackelt'"):
        vrstc_jax.complete_trackelt


def test_signatures_are_as_promised():
    arrays_then_options = inspect.signature(vrstc_jax.temporal_attention).parameters
    assert {name: p.default for name, p in arrays_then_options.items() if p.kind is p.KEYWORD_ONLY} == {
        "patch_size": 3, "softmax_scale": 10.0, "adjacent_mask": None, "block_size": None, "precision": None,
        "payload": None}
    assert list(inspect.signature(vrstc_jax.load_model).parameters) == ["path"]
    assert list(inspect.signature(vrstc_jax.complete_tracklet).parameters)[:3] == ["model", "frames", "masks"]


def undescribed(path):
    """Public modules, functions, classes and methods without a docstring."""
    tree = ast.parse(path.read_text())
    where = path.relative_to(ROOT)
    if tree.body and not ast.get_docstring(tree):
        yield f"{where}: the module"
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from ((f"{where}:{inner.lineno}: {node.name}.{inner.name}")
                        for inner in node.body if is_undescribed(inner))
        if is_undescribed(node):
            yield f"{where}:{node.lineno}: {node.name}"


def is_undescribed(node):
    if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or ast.get_docstring(node):
        return False
    # Flax's `setup` is part of `__call__`, and speaks for itself as other special methods do.
    return not node.name.startswith("_") and node.name != "setup"


def test_everything_public_is_described():
    missing = [line for path in sources() for line in undescribed(path)]
    assert not missing, "\n".join(missing)


def test_options_of_the_ground_floors_are_keyword_only():
    from vrstc_jax import attention, losses, regions

    for module in (attention, losses, regions):
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if function.__module__ == module.__name__ and not name.startswith("_"):
                for option in inspect.signature(function).parameters.values():
                    assert option.default is option.empty or option.kind is option.KEYWORD_ONLY, name


def test_every_room_has_a_name_that_says_something():
    names = {path.stem for path in sources()}
    assert not names & {"utils", "util", "helpers", "common", "misc", "tools"}
