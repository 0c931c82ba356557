"""Tools for those who work on the package."""

import vrstc_jax  # noqa: F401  # first of all: it handles signals while the command imports its libraries
