"""The experiments: each module is a command."""

import vrstc_jax  # noqa: F401  # first of all: it handles signals while the command imports its libraries
