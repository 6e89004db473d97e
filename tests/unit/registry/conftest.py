"""An authority that nobody trusts of their own accord."""

from __future__ import annotations

import pytest

from tests.support.certificates import Authority, make_authority


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("pki") / "authority")
