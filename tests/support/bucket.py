"""A stand-in for Google Cloud Storage: what gcsfs would be to epath, with the objects as files of a folder.

It has what a bucket has and no more: objects that are written as a whole, no folders but in the names of objects (so
the `mkdir` and `rmdir` of fsspec do nothing), no adding to an object, no renaming (fsspec copies and removes).
"""

import io
import os
from pathlib import Path

import fsspec
import pytest
from array_record.python import array_record_module
from fsspec import AbstractFileSystem

ROOT = "VRSTC_BUCKETS"  # the variable that names the folder: gs://b/x is its b/x


class Buckets(AbstractFileSystem):
    """For `fsspec.filesystem('gcs')`."""

    protocol = ("gcs", "gs")
    cachable = False

    def ls(self, path, detail=True, **_):
        """Objects and common beginnings of names right below a path, or the object itself."""
        name = self._strip_protocol(path).strip("/")
        place = _file(name)
        found = [name] if place.is_file() else sorted(
            f"{name}/{entry.name}" for entry in place.glob("*")
            if entry.is_file() or any(each.is_file() for each in entry.rglob("*")))
        if not found:
            raise FileNotFoundError(path)
        rows = [{"name": each, "type": "file", "size": _file(each).stat().st_size} if _file(each).is_file() else
                {"name": each, "type": "directory", "size": 0} for each in found]
        return rows if detail else found

    def _open(self, path, mode="rb", **_):
        file = _file(self._strip_protocol(path))
        if mode == "rb":
            return file.open("rb")
        if mode != "wb":
            raise NotImplementedError(f"mode {mode}")
        return _Object(file)

    def rm_file(self, path):
        """Removes an object; what is a beginning of names goes with the last object."""
        if not _file(self._strip_protocol(path)).is_dir():
            _file(self._strip_protocol(path)).unlink()

    def cp_file(self, path1, path2, **_):
        """Copies an object."""
        self.pipe_file(path2, self.cat_file(path1))


class _Object(io.BytesIO):
    def __init__(self, file):
        super().__init__()
        self._file = file

    def close(self):
        if not self.closed:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.write_bytes(self.getvalue())
        super().close()


def _file(name):
    return Path(os.environ[ROOT]) / name


def install(root):
    """Makes gs:// the folder `root`, for epath, and for array_record, which reads buckets by itself."""
    os.environ[ROOT] = str(root)
    fsspec.register_implementation("gcs", Buckets, clobber=True)
    reader = array_record_module.ArrayRecordReader

    def read(path, *args, **kwargs):
        return reader(os.fspath(path).replace("gs://", f"{root}/"), *args, **kwargs)

    array_record_module.ArrayRecordReader = read


@pytest.fixture(params=["local", "gs"])
def folder(request, tmp_path, monkeypatch):
    """(a folder that does not exist yet, where its files really are)."""
    if request.param == "local":
        return tmp_path / "x", tmp_path / "x"
    monkeypatch.setenv(ROOT, str(tmp_path))
    monkeypatch.setattr(array_record_module, "ArrayRecordReader", array_record_module.ArrayRecordReader)
    install(tmp_path)
    # As an argument of a command arrives: pathlib makes one slash of two.
    return Path("gs://b/x"), tmp_path / "b/x"
