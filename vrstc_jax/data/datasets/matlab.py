"""Reads tables of whole numbers from MATLAB's .mat files."""

import io
from pathlib import Path

import h5py
import numpy as np
from scipy.io import loadmat

from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.records import read_bytes


def read_mat(path: Path, variable: str, *, columns: int | None = None) -> np.ndarray:
    """Reads a variable of a .mat file; version 7.3 (HDF5) too.

    Returns:
      int64 [rows, columns], in MATLAB's order; or flat [N] where `columns` is None.

    Raises:
      InputError: the file cannot be read, lacks the variable, or it is not a table of whole numbers with these columns.
    """
    try:
        # Read here, because of a pipe SciPy would wait for the writer.
        file = io.BytesIO(read_bytes(path))
        try:
            found = loadmat(file)
        except NotImplementedError:  # SciPy does not read version 7.3
            found = _read_hdf5(file)
    # On damaged files SciPy raises ValueError, OSError, TypeError, zlib.error and others, h5py OSError, RuntimeError,
    # KeyError and ValueError.
    except Exception as error:
        raise InputError(f"{path}: cannot be read as a MATLAB file ({' '.join(str(error).split())}); "
                         "unpack it again.") from None
    if variable not in found:
        names = ", ".join(sorted(name for name in found if not name.startswith("__"))) or "nothing"
        raise InputError(f"{path}: has no variable {variable}; it has {names}.")
    # MATLAB stores whole numbers as floats unless it is asked for another type.
    table = np.asarray(found[variable])
    if table.dtype.kind not in "iuf" or not np.all(table == np.floor(table)):
        raise InputError(f"{path}: {variable} must be whole numbers; it is {table.dtype} {list(table.shape)}.")
    if columns is None:
        return table.astype(np.int64).reshape(-1)
    if table.ndim != 2 or table.shape[1] != columns:
        raise InputError(f"{path}: {variable} must have {columns} columns; its shape is {list(table.shape)}.")
    return table.astype(np.int64)


def _read_hdf5(data: io.BytesIO) -> dict[str, np.ndarray]:
    with h5py.File(data, "r") as file:
        # HDF5 holds MATLAB's columns as rows.
        return {name: np.asarray(item).T for name, item in file.items() if isinstance(item, h5py.Dataset)}
