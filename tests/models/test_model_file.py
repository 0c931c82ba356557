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
