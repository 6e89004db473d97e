"""Random images are on disk what the reference model says, and what another engine makes of them."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.support.exact import run_ross, run_umoci
from tests.support.ext4 import ext4_in_memory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration


@pytest.fixture
def disk() -> Iterator[Path]:
    with ext4_in_memory() as path:
        yield path


@pytest.mark.timeout(300)
def test_what_is_mounted_is_what_the_layers_say(disk: Path) -> None:
    run_ross(disk, examples=90, seeded=20_261_124)


@pytest.mark.timeout(300)
def test_umoci_agrees_with_the_model(disk: Path) -> None:
    assert shutil.which("umoci"), "umoci is not installed: apt install umoci"
    run_umoci(disk, examples=25, seeded=20_261_124)
