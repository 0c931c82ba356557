"""`python -m vrstc_jax` is the command `vrstc`."""

from vrstc_jax.cli import main

main()
