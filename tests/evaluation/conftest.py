"""What tests of scores and of fillings share."""

import numpy as np
import pytest


@pytest.fixture
def rng():
    return np.random.default_rng(3)
