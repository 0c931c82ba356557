"""Files and folders here and in a bucket, of which `bucket.py` is a stand-in."""

import itertools
import re
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import safetensors.numpy
from bucket import folder  # noqa: F401
from people import figures, random_reid, tracklet
from refusals import refused

from vrstc_jax import cli
from vrstc_jax.data.images import read_image, write_png
from vrstc_jax.data.tracklet_set import is_complete, read_set, write_set
from vrstc_jax.models.model_file import load_reid, save_reid
from vrstc_jax.report.writing import write_text
from vrstc_jax.runtime import storage
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.sharded_map import by_shards
from vrstc_jax.runtime.storage import replace_file, require_writable_directory
from vrstc_jax.training import metrics_log
from vrstc_jax.training.metrics_log import MetricsLog, read_metrics


class TestMetrics:
    def test_lines_and_events_are_there(self, folder):
        there, here = folder
        with MetricsLog(there) as log:
            for step in (1, 2, 3):
                log.write(step, {"loss": step / 2})
            log.flush()
            assert [line["step"] for line in read_metrics(there)] == [1, 2, 3]
            log.write(4, {"loss": 2.0})
        file, = here.glob("events.out.tfevents.*")
        assert file.read_bytes().count(b"loss") == 4
        with MetricsLog(there, start=3) as log:  # goes on from a checkpoint
            log.write(4, {"loss": 3.0})
        assert read_metrics(there) == [{"step": step, "loss": loss} for step, loss in enumerate((0.5, 1, 1.5, 3.0), 1)]

    def test_a_bucket_is_not_written_at_every_line(self, folder, monkeypatch):
        """An object is written as a whole: a line at a time would be its size squared."""
        written = []
        monkeypatch.setattr(metrics_log, "write_whole", lambda path, data: written.append(path.name))
        monkeypatch.setattr(metrics_log.time, "monotonic", itertools.count().__next__)
        log = MetricsLog(folder[0])
        for step in range(100):
            log.write(step, {"loss": 1.0})
        # Once at the beginning; in a bucket once a minute too.
        assert written.count("metrics.jsonl") == (2 if "gs:" in str(folder[0]) else 1)


def really(directory):
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


class TestFiles:
    def test_whole_or_not_at_all(self, folder):
        there, here = folder
        for data in (b"one", b"two"):
            replace_file(there / "deep/file", data)
            assert (here / "deep/file").read_bytes() == data
        write_text(there / "deep/text", "für")
        assert (here / "deep/text").read_text() == "für"
        picture = figures(1)[0]
        write_png(there / "a.png", picture)
        np.testing.assert_array_equal(read_image(there / "a.png"), picture)
        assert really(here) == ["a.png", "deep/file", "deep/text"]

    def test_entries_and_removing(self, folder):
        there, here = folder
        assert storage.entries(there) == []
        for name in ("a", "b/c", "b/d/e"):
            replace_file(there / name, b"x")
        assert sorted(entry.name for entry in storage.entries(there)) == ["a", "b"]
        storage.remove(there / "b")
        storage.remove(there / "b")
        storage.remove(there / "a")
        require_writable_directory(there / "new")
        assert really(here) == [] and not storage.as_path(there / "a").exists()

    def test_networks(self, folder):
        there, here = folder
        here.mkdir(parents=True)
        save_reid(there / "reid.safetensors", random_reid())
        assert load_reid(there / "reid.safetensors").digest
        assert safetensors.numpy.load_file(here / "reid.safetensors")
        with pytest.raises(InputError, match="no such model file"):
            load_reid(there / "other.safetensors")

    def test_shards(self, folder):
        there, here = folder
        here.mkdir(parents=True)
        make = mock.Mock(side_effect=lambda part: [np.full(2, index) for index in part])
        for _ in range(2):
            got = by_shards(there / "s.npz", [1, 1, 1], make, frames=1)
            assert [list(array) for array in got] == [[0, 0], [1, 1], [2, 2]] and make.call_count == 3
        assert really(here) == ["s.npz"]


def test_sets(folder):
    there, here = folder
    assert not is_complete(there / "set")
    for count in (3, 2):  # the second in the place of the first
        given = [tracklet(figures(count, seed=k), name=str(k), person="ann") for k in range(2)]
        write_set(there / "set", given)
        assert is_complete(there / "set")
        found = read_set(there / "set").tracklets
        assert [(each.name, len(each)) for each in found] == [("0", count), ("1", count)]
        for one, other in zip(given, found):
            np.testing.assert_array_equal(np.stack(one.frames), np.stack(other.frames[:]))
    assert {path.parent for path in here.rglob("*") if path.is_file()} == {here / "set"}
    (here / "set/dataset_info.json").unlink()  # as where the copying was cut off
    assert is_complete(there / "set") == (there == here)


def test_what_is_missing_is_said(monkeypatch):
    monkeypatch.setattr("fsspec.get_filesystem_class", lambda name: (_ for _ in ()).throw(ImportError("no gcsfs")))
    with pytest.raises(InputError, match=re.escape("gs://b/x: paths of gs:// need gcsfs; get it with: pip install "
                                                   "'etils[epath-gcs]'")):
        storage.as_path("gs://b/x")
    with pytest.raises(InputError, match="s3://b/x: only local paths and gs:// are known"):
        require_writable_directory(Path("s3://b/x"))


@pytest.mark.parametrize("command", [
    ["complete", "gs://b/in", "--output", "out"], ["complete", "in", "--output", "gs://b/out"],
    ["fit", "in", "--output", "out", "--masks", "gs://b/masks"], ["demo", "--output", "gs://b/out"]])
def test_commands_for_local_files_say_so(command, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        cli.main(command)
    said = capsys.readouterr().err
    assert ended.value.code == 2 and re.fullmatch(r"vrstc: gs://b/\w+: what `vrstc` reads and writes .*\n", said)
    assert not list(tmp_path.iterdir())


def test_what_is_in_the_way_of_a_file_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "folder").mkdir()
    for path, blocker in (("file/a/b", "file"), ("loop/a", "loop"), ("folder", "folder")):
        with refused(f"{tmp_path / path}: cannot be written, because", tmp_path / blocker, "remove"):
            replace_file(tmp_path / path, b"y")
    replace_file(tmp_path / "new/a", b"y")
    assert (tmp_path / "file").read_text() == "x" and (tmp_path / "new/a").read_bytes() == b"y"
