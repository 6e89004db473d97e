"""Contributors without root have a green unit session."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


def test_unit_tests_pass_without_root() -> None:
    """In a namespace of users in which whoever runs this is an ordinary one, without any capability."""
    with tempfile.TemporaryDirectory() as base:  # whose path is short: sockets are bound below it
        words = ["-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", "--basetemp", f"{base}/base", "tests/unit"]
        done = subprocess.run(
            ["unshare", "--user", "--map-user", "12345", "--map-group", "12345", sys.executable, *words],
            env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    assert done.returncode == 0, done.stdout[-5000:]
