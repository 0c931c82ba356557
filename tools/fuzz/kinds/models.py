"""Model files: bytes, header, description and tensors that are wrong, with digests that are right."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
from flax import traverse_util

from tools.fuzz import checking, mutation
from tools.fuzz.good import Good
from tools.fuzz.tries import Try, command
from vrstc_jax import config as configs
from vrstc_jax.models.tensor_file import write_tensors

_FLOATS = (np.nan, np.inf, -np.inf, 1e30, -1e9, 0.0, 1e-40)


def models(rng: random.Random, folder: Path, good: Good) -> Try:
    """A damaged model file, given to a command."""
    path = folder / "m.safetensors"
    data = good.model_file.read_bytes()
    match rng.choice(("good", "bytes", "header", "header", "description", "description", "tensors", "tensors",
                      "other")):
        case "good":
            path.write_bytes(data)
        case "bytes":
            path.write_bytes(mutation.damaged(rng, data))
        case "header":
            path.write_bytes(_header(rng, data))
        case "description":
            _write(path, good, description=lambda value: _described(rng, value))
        case "tensors":
            _write(path, good, tensors=lambda flat: _tensors(rng, flat))
        case "other":
            path.write_bytes(rng.choice((b"", b"{}", b"\x00" * 100, b"\xff" * 8, b"\x02\x00\x00\x00\x00\x00\x00\x00{}",
                                         b"PK\x03\x04", (2**63).to_bytes(8, "little") + b"{", rng.randbytes(999))))
            if rng.random() < 0.4:
                mutation.replace(rng, path)
    if rng.random() < 0.3:
        return command("model", "show", path.name)
    expected = good.crops(folder / "in", people=("a",), count=2)
    if rng.random() < 0.15:
        return command("rank", "in", "--query", "x", "--model", path.name)
    return command("complete", "in", "--output", "o", "--model", path.name, outputs=("o",),
                   check=checking.completed(folder / "o", expected))


def _header(rng: random.Random, data: bytes) -> bytes:
    end = 8 + int.from_bytes(data[:8], "little")
    text = mutation.damaged_json(rng, json.loads(data[8:end]))
    size = len(text) if rng.random() < 0.9 else rng.choice((0, 1, 2**31, 2**64 - 1, len(text) + 8))
    return size.to_bytes(8, "little") + text + data[end:]


def _described(rng: random.Random, value: dict[str, Any]) -> Any:
    if rng.random() < 0.5:
        value = value | {"config": mutation.damaged_value(rng, value["config"])}
        if rng.random() < 0.3:
            part = rng.choice(sorted(value["config"])) if isinstance(value["config"], dict) else ""
            inner = value["config"][part] if part else None
            if isinstance(inner, dict) and inner:
                value["config"][part] = inner | {rng.choice(sorted(inner)): rng.choice(mutation.VALUES)}
        return value
    return mutation.damaged_value(rng, value)


def _write(path: Path, good: Good, *, description: Any = None, tensors: Any = None) -> None:
    """A model file of which the description or the flat tensors were changed; its digests are those of what it has."""
    model = good.model
    about: Any = {"config": configs.to_dict(model.config), "tau": model.tau, "identities": list(model.identities),
                  "provenance": {"command": "vrstc fit", "inputs": {"input": ["/x", 1, 2]}, "tracklets": 2, "frames": 9,
                                 "held_out": {"a": [["0001", "0002"]]}, "reid_steps": 1, "stcnet_steps": 1,
                                 "curves": {"STCnet": {"loss": [[1, 0.5], [2, 0.4]]}}, "started_from": None}}
    parts = {part: getattr(model, part) for part in ("generators", "discriminators", "reid")}
    if description is not None:
        about = description(about)
    if tensors is not None:
        flat = traverse_util.flatten_dict(parts, sep="/")
        parts = tensors({name: np.array(value) for name, value in flat.items()})
    write_tensors(path, parts, about, kind="vrstc", version=1)


def _tensors(rng: random.Random, flat: dict[str, np.ndarray]) -> dict[str, Any]:
    name = rng.choice(sorted(flat))
    value: np.ndarray = flat[name]
    match rng.choice(("value", "value", "drop", "add", "shape", "type", "part", "scale", "below")):
        case "value":
            value.reshape(-1)[rng.randrange(value.size)] = rng.choice(_FLOATS)
        case "drop":
            del flat[name]
        case "add":
            added = rng.choice(("x", "", "/", "reid", "reid/params/x", "generators/" + "a/" * 300, "\x00", "é", "../x",
                                f"{name}/x", name.rpartition("/")[0]))
            flat[added] = np.zeros(rng.choice(((), (0,), (3, 2))), np.float32)
        case "shape":
            flat[name] = rng.choice((value[None], value.reshape(-1), value.reshape(-1)[:0], value.T, value[..., :1]))
        case "type":
            flat[name] = value.astype(rng.choice((np.float64, np.float16, np.int32, np.uint8, bool, np.int64)))
        case "part":
            part = name.split("/")[0]
            flat = {key: item for key, item in flat.items() if not key.startswith(part)}
        case "scale":
            flat = {key: item * np.float32(rng.choice((0.0, 1e5, 1e20, -1.0))) if key.startswith("generators") else item
                    for key, item in flat.items()}
        case "below":
            flat = {f"reid/{key}": item for key, item in flat.items()}
    return flat

