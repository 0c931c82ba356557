"""Errors of bad input: one line, which names what was wrong."""

from contextlib import contextmanager

import pytest

from vrstc_jax.runtime.errors import InputError


@contextmanager
def refused(*parts):
    """Expects an InputError of one line that holds all `parts`."""
    with pytest.raises(InputError) as raised:
        yield
    message = str(raised.value)
    assert "\n" not in message
    for part in parts:
        assert str(part) in message, message
