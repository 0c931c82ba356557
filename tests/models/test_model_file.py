"""The model file: it comes back as it was, and what is not one is refused in one line."""

import dataclasses
import hashlib
import json
import os
import struct
from functools import partial
from unittest.mock import Mock

import jax
import numpy as np
import pytest
import safetensors.numpy
from people import SMOKE, random_model, random_reid
from refusals import refused as refusal

import vrstc_jax
from vrstc_jax import config as configs
from vrstc_jax.models import tensor_file
from vrstc_jax.models.model_card import model_card
from vrstc_jax.models.model_file import FORMAT, load_model, load_reid, save_model, save_reid
from vrstc_jax.runtime.errors import InputError


@pytest.fixture(scope="module")
def model():
    return dataclasses.replace(random_model(), tau=0.625, provenance={
        "command": "vrstc fit 'two words'", "text": "τ\n\"q\"",
        "held_out": {"0001/c1": [["000003", "000004"]]}})


@pytest.fixture
def path(tmp_path, model):
    save_model(tmp_path / "m.safetensors", model)
    return tmp_path / "m.safetensors"


def refused(path, *parts):
    with refusal(path, *parts):
        load_model(path)


def leaves(tree):
    return {jax.tree_util.keystr(path): value for path, value in jax.tree_util.tree_leaves_with_path(tree)}


class TestRoundTrip:
    def test_everything_comes_back(self, path, model):
        back = load_model(path)
        assert (back.config, back.tau, back.identities) == (model.config, 0.625, model.identities)
        assert back.provenance == model.provenance
        for part in ("generators", "discriminators", "reid"):
            jax.tree.map(partial(np.testing.assert_array_equal, strict=True), getattr(back, part), getattr(model, part))

    def test_the_package_s_own_names(self):
        assert vrstc_jax.load_model is load_model and vrstc_jax.save_model is save_model

    def test_jax_arrays_and_other_orders_are_saved_too(self, tmp_path, path, model):
        turned = jax.tree.map(lambda a: np.asfortranarray(a) if a.ndim else jax.numpy.asarray(a), model.generators)
        save_model(tmp_path / "turned", dataclasses.replace(model, generators=turned))
        assert (tmp_path / "turned").read_bytes() == path.read_bytes()

    def test_the_same_model_is_the_same_file(self, tmp_path, path):
        save_model(tmp_path / "again", load_model(path))
        assert (tmp_path / "again").read_bytes() == path.read_bytes()

    def test_the_digest_is_of_the_tensors_alone(self, tmp_path, path, model):
        digest = load_model(path).digest
        assert len(digest) == 64 and int(digest, 16)
        save_model(tmp_path / "b", dataclasses.replace(model, provenance={}))
        assert load_model(tmp_path / "b").digest == digest
        for part in ("generators", "discriminators", "reid"):
            first, *others = jax.tree.leaves(getattr(model, part))
            changed = jax.tree.unflatten(jax.tree.structure(getattr(model, part)), [first + 1, *others])
            save_model(tmp_path / "c", dataclasses.replace(model, **{part: changed}))
            assert load_model(tmp_path / "c").digest != digest

    def test_any_safetensors_reader_opens_it(self, path, model):
        tensors = safetensors.numpy.load_file(path)
        # A number without axes; stored as one of length 1 it would broadcast differently.
        np.testing.assert_array_equal(tensors["generators/temporal/softmax_scale"], np.float32(10), strict=True)
        assert {name.split("/")[0] for name in tensors} == {"generators", "discriminators", "reid"}

    @pytest.mark.parametrize("size", configs.SIZES)
    def test_configs_survive_json(self, size):
        config = dataclasses.replace(configs.get(size), seed=7)
        assert configs.from_dict(json.loads(json.dumps(configs.to_dict(config)))) == config


class TestRefused:
    def test_no_such_file(self, tmp_path):
        refused(tmp_path / "none.safetensors", "no such model file")
        refused(tmp_path, "no such model file")

    @pytest.mark.parametrize("share", [0, 0.001, 0.3, 0.9, 1])
    def test_cut_short(self, path, share):
        data = path.read_bytes()
        path.write_bytes(data[:int(share * len(data)) - (share == 1)])
        refused(path)

    def test_a_flipped_bit_in_a_tensor(self, path):
        data = bytearray(path.read_bytes())
        length, = struct.unpack("<Q", data[:8])
        for place in np.linspace(8 + length, len(data) - 1, 5).astype(int):
            data[place] ^= 4
            path.write_bytes(data)
            refused(path, "damaged")
            data[place] ^= 4
        path.write_bytes(data)
        load_model(path)

    def test_a_flipped_bit_in_the_header(self, path, model):
        """Found, or without effect: a changed digit of tau would be neither."""
        data = bytearray(path.read_bytes())
        length, = struct.unpack("<Q", data[:8])
        text = bytes(data[8:8 + length])
        places = [text.index(b"0.625") + 3, text.index(b"learning_rate") + 18, text.index(b"0001/c1") + 2]
        places += np.random.default_rng(0).integers(0, length, 100).tolist()
        for place in places:
            data[8 + place] ^= 1
            path.write_bytes(data)
            data[8 + place] ^= 1
            try:
                back = load_model(path)
            except InputError as error:
                assert str(path) in str(error) and "\n" not in str(error)
            else:
                assert (back.config, back.tau, back.identities, back.provenance) == (
                    model.config, model.tau, model.identities, model.provenance)
                assert leaves(back.reid).keys() == leaves(model.reid).keys()

    @pytest.mark.parametrize("place", range(0, 400, 13))
    def test_garbage_in_the_header(self, path, place):
        data = bytearray(path.read_bytes())
        data[place:place + 8] = b"\xff\x00{\"\\\n}]"
        path.write_bytes(data)
        refused(path)

    def test_other_files(self, tmp_path):
        (tmp_path / "text").write_text("a model\n" * 50)
        refused(tmp_path / "text", "not a whole model file")
        safetensors.numpy.save_file({"weight": np.ones(3)}, tmp_path / "other")
        refused(tmp_path / "other", "not a VRSTC model")

    def rewritten(self, path, change):
        with safetensors.safe_open(path, "numpy") as file:
            header, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        change(header, tensors)
        safetensors.numpy.save_file(tensors, path, header)

    def described(self, path, change):
        """Writes the file anew with `change` of its description's text, and the digest that fits."""
        def describe(header, tensors):
            header["vrstc"] = change(header["vrstc"])
            header["description_digest"] = hashlib.sha256(header["vrstc"].encode()).hexdigest()

        self.rewritten(path, describe)

    def test_another_format(self, path):
        self.rewritten(path, lambda header, tensors: header.update(format=str(FORMAT + 1)))
        refused(path, f"format is {FORMAT + 1}", f"reads {FORMAT}")
        self.rewritten(path, lambda header, tensors: header.pop("format"))
        refused(path, "format is None")

    def test_an_unknown_field_of_the_config(self, path):
        self.described(path, lambda text: text.replace('"stcnet": {', '"stcnet": {"teleport": true, '))
        refused(path, "config.stcnet has no field 'teleport'; it was written by another version")

    def test_a_config_of_something_else(self, tmp_path):
        for config, said in ((SMOKE, "config has no field 'compute'; it was"), (SMOKE.losses, "'adversarial'")):
            save_reid(tmp_path / "reid", dataclasses.replace(random_reid(), config=config))
            with refusal(f"{tmp_path / 'reid'}: config has no field", said):
                load_reid(tmp_path / "reid")

    @pytest.mark.parametrize("key", ["config", "tau", "identities", "provenance"])
    def test_something_missing(self, path, key):
        self.described(path, lambda text: json.dumps({k: v for k, v in json.loads(text).items() if k != key}))
        refused(path, key)

    @pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '"x"'])
    def test_a_description_that_is_none(self, path, text):
        self.described(path, lambda _: text)
        refused(path)

    def test_a_tensor_taken_out(self, path):
        self.rewritten(path, lambda header, tensors: tensors.pop("generators/temporal/softmax_scale"))
        refused(path, "damaged")


class TestNonsense:
    """Files with valid digests whose content is of no use."""

    def rewritten(self, path, *, tensors=lambda _: None, description=lambda _: None, text=None):
        """Writes a file anew with changes of its tensors and description, and the digests that fit."""
        with safetensors.safe_open(path, "numpy") as file:
            header, found = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        kind = next(name for name in header if name.startswith("vrstc"))
        tensors(found)
        described = json.loads(header[kind])
        description(described)
        header[kind] = json.dumps(described) if text is None else text(header[kind])
        header["digest"] = tensor_file._digest(found)
        header["description_digest"] = hashlib.sha256(header[kind].encode()).hexdigest()
        safetensors.numpy.save_file(found, path, header)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("name", ["generators/temporal/softmax_scale", "reid/params/classifier/kernel",
                                      "discriminators/local/unit/bias"])
    def test_values_that_are_not_finite(self, path, name, value):
        self.rewritten(path, tensors=lambda found: found[name].__setitem__(
            () if found[name].ndim == 0 else (0,) * found[name].ndim, value))
        refused(path, path, f"the tensor {name} has values that are not finite")

    @pytest.mark.parametrize("name, value", [
        ("generators/temporal/softmax_scale", 1e30), ("reid/params/classifier/kernel", -1e20),
        ("reid/batch_stats/backbone/stem_norm/var", -1.0)])
    def test_values_that_no_training_gives(self, path, name, value):
        """What they end in may be finite: XLA's ReLU makes 0 of NaN."""
        self.rewritten(path, tensors=lambda found: found.update({name: np.full_like(found[name], value)}))
        refused(path, path, f"the tensor {name} has values from {value:g} to {value:g}, which no training gives")

    def test_a_tensor_missing_or_more(self, path):
        data = path.read_bytes()
        self.rewritten(path, tensors=lambda found: found.pop("generators/temporal/softmax_scale"))
        refused(path, path, "the tensor generators/temporal/softmax_scale is missing")
        path.write_bytes(data)
        self.rewritten(path, tensors=lambda found: found.update({"reid/params/more": np.zeros(2, np.float32)}))
        refused(path, path, "the tensor reid/params/more is of no network")
        path.write_bytes(data)
        self.rewritten(path, tensors=lambda found: found.update(more=np.zeros(2, np.float32)))
        refused(path, path, "'more' are of no part")

    @pytest.mark.parametrize("part", ["generators", "discriminators", "reid"])
    def test_a_part_missing(self, path, part):
        self.rewritten(path, tensors=lambda found: [found.pop(name) for name in [*found] if name.startswith(part)])
        refused(path, part)

    def test_another_shape_or_type(self, path):
        data, name = path.read_bytes(), "reid/params/classifier/bias"
        for change, said in ((lambda x: x[:-1], "float32 [2], and the config's is float32 [3]"),
                             (lambda x: x[None], "float32 [1, 3]"), (lambda x: x.astype(np.float64), "float64 [3]"),
                             (lambda x: x.astype(np.int8), "int8 [3]")):
            self.rewritten(path, tensors=lambda found, change=change: found.update({name: change(found[name])}))
            refused(path, path, f"the tensor {name} is", said)
            path.write_bytes(data)

    def test_a_tensor_that_is_also_a_folder(self, path):
        self.rewritten(path, tensors=lambda found: found.update({"reid/params": np.zeros(2, np.float32)}))
        refused(path, path, "the tensor reid/params is also a folder of tensors (reid/params/")

    @pytest.mark.parametrize("tau", [np.nan, np.inf, -np.inf, "0.5", 5, -1.5, True, None, [0.5], 10 ** 400])
    def test_an_odd_tau(self, path, tau):
        self.rewritten(path, description=lambda described: described.update(tau=tau))
        refused(path, path, "its tau is")

    @pytest.mark.parametrize("depth", [1_000, 200_000])
    def test_deeply_nested_json(self, path, depth):
        self.rewritten(path, text=lambda text: text[:-1] + ', "deep": ' + "[" * depth + "]" * depth + "}")
        try:
            load_model(path)  # what is nested little enough is read, and ignored
        except InputError as error:
            assert str(path) in str(error) and "not complete" in str(error) and "\n" not in str(error)
        else:
            assert depth == 1_000

    @pytest.mark.parametrize("part, field, value, said", [
        ("stcnet", "height", 10 ** 9, "config.stcnet.height is 1000000000, and must be from 1 to 8192"),
        ("stcnet", "height", "64", "config.stcnet.height is '64', and must be int"),
        ("stcnet", "height", 48, "the tensor discriminators/global/unit/kernel is"),
        ("stcnet", "width", 0, "must be from 1 to"), ("stcnet", "patch_size", -3, "must be from 1 to"),
        ("stcnet", "softmax_scale", float("nan"), "config.stcnet.softmax_scale is nan, and must be float"),
        ("stcnet", "spatial", [1, 2], "config.stcnet.spatial is [1, 2], and must be an object"),
        ("stcnet", "temporal_form", ["attention"], "temporal_form"), ("stcnet", "transport", 1, "must be bool"),
        ("reid", "blocks", [10 ** 9], "must be from 0 to 256"), ("reid", "blocks", [[1]], "must be tuple[int, ...]"),
        ("reid", "blocks", [1] * 1000, "has 1000 entries"), ("reid", "clip", 0, "must be from 1"),
        ("reid", "base_width", 8.5, "must be int"), ("discriminators", "widths", [], "is missing; make")])
    def test_a_config_out_of_range(self, path, part, field, value, said):
        self.rewritten(path, description=lambda described: described["config"][part].update({field: value}))
        with refusal(path) as _:
            load_model(path)
        if said != "is missing; make":
            refused(path, said)

    def test_a_config_of_another_network(self, path):
        self.rewritten(path, description=lambda described: described["config"]["reid"].update(locating_width=8))
        refused(path, path, "locating_width")

    @pytest.mark.parametrize("key, value", [
        ("identities", "abc"), ("identities", [1, 2, 3]), ("identities", []), ("provenance", []),
        ("provenance", {"inputs": 3}), ("provenance", {"held_out": {"1": ["000001"]}}),
        ("provenance", {"held_out": [1]}), ("provenance", {"curves": {"net": {"loss": [[1]]}}}), ("config", 3)])
    def test_other_parts_of_the_description(self, path, key, value):
        self.rewritten(path, description=lambda described: described.update({key: value}))
        refused(path, path)

    @pytest.mark.parametrize("reached", [3, {"plain": 3}, {"plain": {"locating": {}}}])
    def test_a_card_of_nonsense(self, path, reached):
        self.rewritten(path, description=lambda described: described["provenance"].update(reached=reached))
        with refusal(path, "provenance"):
            model_card(path)

    def test_a_reid_network(self, tmp_path):
        path = tmp_path / "reid"
        for change, said in (
                ({"tensors": lambda found: found["reid/params/classifier/bias"].fill(np.inf)}, "not finite"),
                ({"description": lambda described: described.update(network="ResNet")}, "'ResNet'"),
                ({"description": lambda described: described["config"].update(blocks=[2, 2])}, "the tensor reid/")):
            save_reid(path, random_reid())
            self.rewritten(path, **change)
            with refusal(path, said):
                load_reid(path)

    def test_a_type_that_numpy_lacks_and_sizes_that_lie(self, path):
        data = path.read_bytes()
        length, = struct.unpack("<Q", data[:8])
        header = data[8:8 + length]
        for old, new in ((b'"F32"', b'"BF6"'), (b'"F32"', b'"F64"'), (b'"data_offsets":', b'"data_offset1":')):
            assert old in header
            path.write_bytes(data[:8] + header.replace(old, new, 1) + data[8 + length:])
            refused(path, path)
        path.write_bytes(struct.pack("<Q", 2 ** 62) + data[8:])
        refused(path, path, "not a whole model file")


class TestSaving:
    def test_into_a_new_folder(self, tmp_path, model):
        save_model(tmp_path / "a/b/m", model)
        load_model(tmp_path / "a/b/m")
        assert os.listdir(tmp_path / "a/b") == ["m"]  # nothing temporary is left

    def test_where_nothing_can_be_written(self, tmp_path, model):
        (tmp_path / "file").write_text("x")
        with refusal("file/m: cannot be written"):
            save_model(tmp_path / "file/m", model)

    def test_one_that_stands_is_whole_or_unchanged(self, path, model, monkeypatch):
        before = path.read_bytes()

        monkeypatch.setattr(os, "replace", Mock(side_effect=OSError(28, "No space left on device")))
        with refusal("No space left"):
            save_model(path, dataclasses.replace(model, tau=0.1))
        assert path.read_bytes() == before and os.listdir(path.parent) == [path.name]


def test_smoke_is_small(path):
    """So that tests with it are quick."""
    assert SMOKE.name == "smoke" and path.stat().st_size < 1_000_000
