"""Material that all tests of the commands share: none of them changes it."""

import pytest
from material import Material, Refusals


@pytest.fixture(scope="session")
def material(vrstc, tmp_path_factory):
    return Material(vrstc, tmp_path_factory.mktemp("material"))


@pytest.fixture
def refused(material, tmp_path):
    return Refusals(material, tmp_path)
