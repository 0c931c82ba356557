"""The order of the house: who may import whom, what `import vrstc_jax` brings, and that things are described.
"""

import ast
import graphlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import vrstc_jax

ROOT = Path(__file__).resolve().parent.parent

# A room imports from rooms on floors below its own; modules within a room may import each other, without a circle.
FLOORS = (
    ("attention", "ops", "runtime"),
    ("config",),
    ("models", "data"),
    ("training", "inference"),
    ("evaluation",),
    ("report",),
    ("recipes",),
    ("cli", "experiments", "tools"),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
HEAVY = ("orbax", "tensorflow_datasets", "tensorflow", "grain", "matplotlib", "torch", "cv2", "av",
         "tensorboardX", "PIL")


def sources():
    for folder in ("vrstc_jax", "experiments", "tools"):
        yield from sorted((ROOT / folder).rglob("*.py"))


def module_of(path):
    """The dotted name of a source file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module):
    """The room of a dotted name: a package or lone module of vrstc_jax, or a folder beside it."""
    first, *rest = module.split(".")
    return rest[0] if first == "vrstc_jax" and rest else first


MODULES = {module_of(path): path for path in sources()}


def imports(path):
    """(line, module of ours) for each import, also within functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            while name and name not in MODULES:
                name = name.rpartition(".")[0]
            if name:
                yield node.lineno, name


def test_rooms_import_only_from_floors_below():
    wrong = []
    for module, path in MODULES.items():
        room = room_of(module)
        if module in ("vrstc_jax", "vrstc_jax.__main__"):
            continue  # the public names of all floors, imported on demand, and the command
        assert room in FLOOR_OF, f"{module}: name its room in FLOORS"
        for line, other in imports(path):
            if other == "vrstc_jax" and room in FLOORS[-1]:
                continue  # the ways in use the public names
            if other == "vrstc_jax" or room_of(other) != room and FLOOR_OF[room_of(other)] >= FLOOR_OF[room]:
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {room} must not import {other}")
    assert not wrong, "\n".join(wrong)


def test_no_module_imports_itself_through_others():
    graph = {module: {other for _, other in imports(path)} - {module} for module, path in MODULES.items()
             if module != "vrstc_jax"}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def loaded_by(*modules):
    """The modules that imports load in a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", f"import sys, {', '.join(modules)}; print(*sys.modules)"],
                          capture_output=True, text=True, cwd=ROOT, check=True)
    return set(done.stdout.split())


def test_import_is_light():
    """What comes beyond Flax is ours, and of that the op, its layer and what they stand on."""
    loaded, flax_loads = loaded_by("vrstc_jax"), loaded_by("flax.linen")
    assert {"vrstc_jax.attention.op", "vrstc_jax.attention.layers"} <= loaded
    assert not {module.partition(".")[0] for module in loaded} & set(HEAVY)
    more = loaded - flax_loads
    assert not more & {"flax.nnx", "vrstc_jax.attention.nnx"}
    assert len([module for module in more if not module.startswith("vrstc_jax")]) < 20, sorted(more)


def test_inference_loads_no_trainer_and_no_data_pipeline():
    """Neither they nor their libraries, nor those that draw; completing needs OpenCV and PIL."""
    modules = [module for module in MODULES if room_of(module) == "inference"]
    loaded = loaded_by(*modules)
    assert {"vrstc_jax.inference.complete", "vrstc_jax.inference.results_folder"} <= set(modules) <= loaded
    assert not {module.partition(".")[0] for module in loaded} & set(HEAVY) - {"cv2", "PIL"}
    assert not [module for module in loaded if module.startswith(("vrstc_jax.training", "vrstc_jax.data.batches"))]


def test_one_module_compares_scores_with_tau():
    """The rule for what is hidden is `inference.plan`'s; others call it."""
    order = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
    comparing = {module for module, path in MODULES.items() for node in ast.walk(ast.parse(path.read_text()))
                 if isinstance(node, ast.Compare) and isinstance(node.ops[0], order) and any(
                     "tau" in (getattr(side, "id", ""), getattr(side, "attr", ""))
                     for side in (node.left, *node.comparators))}
    assert comparing == {"vrstc_jax.inference.plan"}


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
    methods = [inner for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
               for inner in node.body]
    for node in (tree, *tree.body, *methods):
        if isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef)) and node.body and not ast.get_docstring(node):
            name = getattr(node, "name", "the module")
            # Flax's `setup` is part of `__call__`, and speaks for itself as other special methods do.
            if not name.startswith("_") and name != "setup":
                yield f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}: {name}"


def test_everything_public_is_described():
    missing = [line for path in sources() for line in undescribed(path)]
    assert not missing, "\n".join(missing)


# It stands in for `lax.conv_general_dilated` in Flax's layers, which pass it arguments by position.
POSITIONAL_BY_CONTRACT = {"vrstc_jax.ops.convolution.convolution"}


def options_by_position(module):
    """Public functions of a module, and methods of its public classes, with a default for a positional argument."""
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.FunctionDef) and node.args.defaults:
            name = f"{module}.{node.name}"
            if name not in POSITIONAL_BY_CONTRACT and (not node.name.startswith("_") or node.name == "__call__"):
                yield f"{name}: {ast.unparse(node.args)}"


def test_options_of_the_ground_floors_are_keyword_only():
    ours = [module for module in MODULES
            if room_of(module) in ("attention", "ops") or module == "vrstc_jax.models.losses"]
    assert {"vrstc_jax.attention.op", "vrstc_jax.ops.masks", "vrstc_jax.models.losses"} <= set(ours)
    assert not [found for module in ours for found in options_by_position(module)]
    # The op's first arguments are arrays, and all else has a default.
    for function in (vrstc_jax.temporal_attention, vrstc_jax.attention_weights):
        assert [p.name for p in inspect.signature(function).parameters.values() if p.default is p.empty] == [
            "current", "adjacent"]


def test_every_room_has_a_name_that_says_something():
    names = {path.stem for path in sources()}
    assert not names & {"utils", "util", "helpers", "common", "misc", "tools"}


def functions(path):
    """(name, function, whether its first parameter is self or cls) of each function in a file, also inner ones."""
    for owner in ast.walk(ast.parse(path.read_text())):
        for node in owner.body if isinstance(getattr(owner, "body", None), list) else ():
            if isinstance(node, ast.FunctionDef):
                in_class = isinstance(owner, ast.ClassDef)
                bound = in_class and not any(getattr(each, "id", "") == "staticmethod" for each in node.decorator_list)
                yield f"{owner.name}.{node.name}" if in_class else node.name, node, bound


def test_modules_and_functions_stay_small():
    """A module has at most 350 lines; a function 60 without its docstring, and 8 parameters."""
    # Public, or lax's own: the NNX layer takes what the Linen layer has as fields, a convolution what lax's takes.
    many = {"TemporalAttention.__init__", "convolution"}
    wrong = [f"{path}: over 350 lines" for path in sources() if len(path.read_text().splitlines()) > 350]
    for path in sources():
        for name, node, bound in functions(path):
            first = node.body[0]
            described = first.end_lineno - first.lineno + 1 if ast.get_docstring(node) else 0
            count = len(node.args.posonlyargs) + len(node.args.args) + len(node.args.kwonlyargs) - bound
            if node.end_lineno - node.lineno + 1 - described > 60:
                wrong.append(f"{path}:{node.lineno}: {name} is over 60 lines")
            if count > 8 and name not in many:
                wrong.append(f"{path}:{node.lineno}: {name} takes {count} parameters")
    assert not wrong, "\n".join(wrong)
