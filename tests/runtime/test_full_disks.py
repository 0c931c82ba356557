"""A full disk, wherever it is, and pipes that nobody writes to: one line, soon, and nothing left behind."""

import errno
import os
import shutil
import tempfile
import threading
import time
from contextlib import suppress

import numpy as np
import pytest
from people import figures, random_model, tracklet
from refusals import refused
from small_disk import small_disk  # noqa: F401

from vrstc_jax.data.inputs.boxes import read_boxes
from vrstc_jax.data.inputs.sources import open_source
from vrstc_jax.data.inputs.spool import open_spool
from vrstc_jax.data.inputs.video import VideoReader
from vrstc_jax.data.tracklet_set import read_set, write_set
from vrstc_jax.inference.locate import Locator
from vrstc_jax.models.model_file import load_model
from vrstc_jax.runtime import storage
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.lifecycle import run_as_command

NOISE = list(np.random.default_rng(0).integers(0, 256, (30, 120, 60, 3), np.uint8))  # 650 kB that do not compress


@pytest.mark.parametrize("left", [0, 4_000, 100_000, 500_000])
@pytest.mark.parametrize("existing", [False, True])
def test_of_a_data_set(small_disk, left, existing):
    disk, enlarge = small_disk
    old = figures(2, sizes=((12, 8),))
    if existing:
        write_set(disk / "set", [tracklet(old)])
    (disk / "other").write_bytes(bytes(max(0, shutil.disk_usage(disk).free - left)))
    with refused(disk / "set", "disk is full"):
        write_set(disk / "set", [tracklet(NOISE)])
    assert sorted(path.name for path in disk.iterdir()) == ["other", *(["set"] if existing else [])]
    if existing:
        np.testing.assert_array_equal(read_set(disk / "set").tracklets[0].frames[:], old)
    enlarge()
    write_set(disk / "set", [tracklet(NOISE)])
    np.testing.assert_array_equal(read_set(disk / "set").tracklets[0].frames[:], NOISE)


@pytest.fixture
def full_tmpdir(small_disk, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk[0]))
    (small_disk[0] / "other").write_bytes(bytes(shutil.disk_usage(small_disk[0]).free))
    return small_disk[0]


def test_of_temporary_files(full_tmpdir):
    model = random_model()
    with refused(full_tmpdir, "disk is full", "TMPDIR"):
        Locator(model.config.reid, model.reid, 3).scores(NOISE)
    with refused("disk is full"):
        with storage.temporary_folder() as folder:
            (folder / "file").write_bytes(bytes(100_000))
    assert [path.name for path in full_tmpdir.iterdir()] == ["other"]


def test_without_a_folder_for_temporary_files(monkeypatch):
    def none():
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    with refused("no folder for temporary files", "TMPDIR"):
        with storage.temporary_folder():
            pass


@pytest.mark.parametrize("error, said", [
    (OSError(errno.ENOSPC, "No space left on device", "/somewhere/file"), "/somewhere/file: the disk is full"),
    (RuntimeError("INTERNAL: write failed: No space left on device"), "the disk is full")])
def test_anywhere_else(error, said, capsys):
    def work():
        raise error

    with pytest.raises(SystemExit) as ended:
        run_as_command(work)
    message = capsys.readouterr().err
    assert ended.value.code == 2 and said in message and message.count("\n") == 1


class TestPipes:
    @pytest.fixture
    def pipe(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        return tmp_path / "pipe"

    def test_that_nobody_writes_to(self, pipe, monkeypatch):
        assert storage._PATIENCE < 10
        monkeypatch.setattr(storage, "_PATIENCE", 0.5)
        began = time.monotonic()
        with refused(pipe, "nothing was written to it"):
            read_boxes(pipe)
        for read in (load_model, VideoReader, lambda path: open_source(path, boxes=path),
                     lambda path: open_source(path.parent, masks=path), lambda path: open_source(path.parent)):
            with pytest.raises(InputError, match=str(pipe.parent)):
                read(pipe)
        assert time.monotonic() - began < 5

    @pytest.mark.parametrize("device", ["/dev/zero", "/dev/null", "/dev/full"])
    def test_a_device_is_no_pipe(self, device):
        """Some have no end, and would fill the memory before they are refused."""
        with refused(device, "it is a device"):
            read_boxes(device)

    def test_with_a_writer_who_takes_his_time(self, pipe, monkeypatch):
        monkeypatch.setattr(storage, "_PATIENCE", 0.3)

        def write():
            with open(pipe, "w") as file:
                time.sleep(0.8)
                file.write("1,3,0,0,5,5\n")
                file.flush()
                time.sleep(0.8)
                file.write("2,3,0,0,5,5\r\n")

        writer = threading.Thread(target=write)
        writer.start()
        assert read_boxes(pipe).frames.tolist() == [1, 2]
        writer.join()

    def test_that_never_ends(self, pipe, monkeypatch):
        monkeypatch.setattr(storage, "LARGEST", 10 ** 6)

        def write():
            with suppress(BrokenPipeError), open(pipe, "wb", 0) as file:
                while True:
                    file.write(bytes(2 ** 16))

        writer = threading.Thread(target=write)
        writer.start()
        with refused(pipe, "more than 1,000,000 bytes"):
            read_boxes(pipe)
        writer.join()

    def test_beside_pictures(self, tmp_path, pipe):
        """They are no pictures, whatever they are called."""
        os.rename(pipe, tmp_path / "a.png")
        with refused("no pictures"):
            open_source(tmp_path)


def test_a_spool_in_which_a_pipe_is(tmp_path):
    """The index of the crops, and a track's file."""
    import av

    video, boxes = tmp_path / "v.mkv", tmp_path / "b.txt"
    with av.open(str(video), "w") as output:
        stream = output.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "bgr0"
        for frame in figures(3, sizes=((24, 32),)):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="bgr0")))
        output.mux(stream.encode(None))
    boxes.write_text("".join(f"{frame},7,0,0,10,20\n" for frame in (1, 2, 3)))
    expected = open_spool(tmp_path / "spool", video, read_boxes(boxes)).frames("7")[:]
    for name in ("index.json", "7.rgb"):
        for make in (os.mkfifo, os.mkdir, lambda path: os.symlink(path.name, path)):
            (tmp_path / "spool" / name).unlink()
            make(tmp_path / "spool" / name)
            np.testing.assert_array_equal(open_spool(tmp_path / "spool", video, read_boxes(boxes)).frames("7")[:],
                                          expected)
