"""One run at a time on an output, by real processes: a second is refused, a killed one leaves no lock."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
from bucket import folder  # noqa: F401
from refusals import refused

from vrstc_jax.runtime import lock
from vrstc_jax.runtime.lifecycle import run_as_command

HOLD = """
import os, sys, time
from vrstc_jax.runtime import lock
lock.take(sys.argv[1], beside=sys.argv[2] == "beside")
if sys.argv[3] == "fork" and not os.fork():
    time.sleep(60)
print(os.getpid(), flush=True)
sys.stdin.readline()
"""


@contextmanager
def another(path, kind="folder", *, fork=False):
    """A process that has the lock, which ends with the block."""
    with subprocess.Popen([sys.executable, "-c", HOLD, path, kind, "fork" if fork else ""], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            assert process.stdout.readline().strip() == str(process.pid)
            yield process
        finally:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("kind", ["folder", "beside"])
class TestLocal:
    def test_a_second_process_is_refused_until_the_first_has_ended(self, tmp_path, kind):
        path, beside = tmp_path / "out", kind == "beside"
        with another(path, kind), refused(f"{path}: another process is writing here"):
            lock.take(path, beside=beside)
        with lock.releasing():
            lock.take(path, beside=beside)  # killed, and its lock with it
            lock.take(path, beside=beside)  # which this process has already
        assert [entry.name for entry in tmp_path.rglob("*")] == ([] if beside else ["out"])

    def test_a_link_to_itself(self, tmp_path, kind):
        (tmp_path / "out").symlink_to("out")
        if kind == "folder":
            with refused(tmp_path / "out", "cannot be written in"):
                lock.take(tmp_path / "out")
        else:  # whoever replaces what is there looks at it
            with lock.releasing():
                lock.take(tmp_path / "out", beside=True)
                assert lock.holds(tmp_path / "out")

    def test_a_worker_that_outlives_a_killed_run_holds_nothing(self, tmp_path, kind):
        with another(tmp_path / "out", kind, fork=True) as process:
            process.kill()  # and not the child
            process.wait()
            deadline = time.monotonic() + 30
            while True:
                try:
                    lock.take(tmp_path / "out", beside=kind == "beside")
                    break
                except lock.InUse:  # until the child has run for the first time, and closed what it inherited
                    assert time.monotonic() < deadline
                    time.sleep(0.01)

    def test_no_two_of_many_have_it_at_once(self, tmp_path, kind):
        """Each writes its number, waits, and must find it there."""
        script = """
import os, sys, time
from pathlib import Path
from vrstc_jax.runtime import lock
here, got = Path(sys.argv[1]), 0
while got < 20:
    try:
        with lock.releasing():
            lock.take(here / "out", beside=sys.argv[2] == "beside")
            (here / "who").write_text(str(os.getpid()))
            time.sleep(0.002)
            assert (here / "who").read_text() == str(os.getpid())
            got += 1
    except lock.InUse:
        time.sleep(0.001)
"""
        processes = [subprocess.Popen([sys.executable, "-c", script, tmp_path, kind]) for _ in range(3)]
        assert [process.wait(120) for process in processes] == [0, 0, 0]


def test_released_at_the_end_of_a_command(tmp_path):
    run_as_command(lambda: lock.take(tmp_path / "out"))
    with another(tmp_path / "out"):
        with pytest.raises(SystemExit) as ended:
            run_as_command(lambda: lock.take(tmp_path / "out"))
        assert ended.value.code == 2


@pytest.mark.parametrize("beside", [False, True])
def test_the_current_folder(tmp_path, monkeypatch, beside):
    """`--output .` and `--output ''`; '.' has no name."""
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    with lock.releasing():
        lock.take("", beside=beside)
        assert lock.holds(".") and lock.holds(tmp_path / "out")
        assert sorted(os.listdir(tmp_path)) == ([".out.lock", "out"] if beside else ["out"])
    assert not lock.holds(".") and os.listdir(tmp_path) == ["out"]


class TestFileSystemsWithoutLocks:
    def test_of_folders(self, tmp_path, monkeypatch):
        """NFS locks only what is open for writing: then a file in the folder."""
        import fcntl

        real = fcntl.flock

        def flock(descriptor, how):
            if os.path.isdir(f"/proc/self/fd/{descriptor}"):
                raise OSError(errno.EBADF, "Bad file descriptor")
            real(descriptor, how)

        monkeypatch.setattr(fcntl, "flock", flock)
        with lock.releasing():
            lock.take(tmp_path / "out")
            assert os.listdir(tmp_path / "out") == [lock.LOCK_FILE]
        assert os.listdir(tmp_path / "out") == []

    def test_of_anything(self, tmp_path, monkeypatch, capsys):
        import fcntl

        def flock(*_):
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(fcntl, "flock", flock)
        with lock.releasing():
            lock.take(tmp_path / "out")
        assert os.listdir(tmp_path / "out") == []
        line, = capsys.readouterr().err.splitlines()
        assert "no locks (No locks available); start no second process" in line


@pytest.mark.parametrize("folder", ["gs"], indirect=True)
class TestBucket:
    @pytest.fixture
    def record(self, folder):
        """Writes a record of an owner, some seconds old."""
        def write(seconds, **owner):
            folder[1].mkdir(parents=True, exist_ok=True)
            owner = {"host": "elsewhere", "pid": 7, "started": 1.0} | owner
            (folder[1] / lock.LOCK_FILE).write_text(json.dumps({"owner": owner, "time": time.time() - seconds}))

        return write

    def test_a_fresh_record_of_another_is_refused(self, folder, record):
        record(5)
        with refused("gs://b/x: another process is writing here (process 7 on elsewhere, 5 s ago"):
            lock.take(folder[0])
        assert json.loads((folder[1] / lock.LOCK_FILE).read_text())["owner"]["pid"] == 7

    @pytest.mark.parametrize("seconds, owner", [
        (lock.FRESH_SECONDS + 1, {}), (1, {"host": socket.gethostname(), "pid": 2**22 + 1}),
        (1, {"host": socket.gethostname(), "pid": os.getpid()})])
    def test_an_old_one_and_one_of_a_process_that_is_gone(self, folder, record, seconds, owner):
        record(seconds, **owner)
        with lock.releasing():
            lock.take(folder[0])
            assert json.loads((folder[1] / lock.LOCK_FILE).read_text())["owner"]["pid"] == os.getpid()
        assert not (folder[1] / lock.LOCK_FILE).exists()

    def test_a_damaged_one(self, folder, record):
        record(0)
        (folder[1] / lock.LOCK_FILE).write_text("{")
        lock.take(folder[0])

    def test_it_is_refreshed(self, folder, monkeypatch):
        monkeypatch.setattr(lock, "REFRESH_SECONDS", 0.05)
        with lock.releasing():
            lock.take(folder[0])
            first = json.loads((folder[1] / lock.LOCK_FILE).read_text())["time"]
            deadline = time.monotonic() + 20
            while json.loads((folder[1] / lock.LOCK_FILE).read_text() or '{"time": 0}')["time"] <= first:
                assert time.monotonic() < deadline
                time.sleep(0.02)
