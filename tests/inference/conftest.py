"""A completer with random weights, for all tests of completing."""

import pytest
from people import random_model

from vrstc_jax.inference.completer import Completer


@pytest.fixture(scope="module")
def completer(quick_compilation):
    return Completer(random_model())
