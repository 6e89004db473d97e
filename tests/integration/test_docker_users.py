"""Who a container's process is, and where it begins: Docker's behaviour, a case a row.

Every row was tried against Docker 20.10 with the client of 28.2, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.images import push
from tests.support.typed import REFUSED, furnished, run

if TYPE_CHECKING:
    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def box(registry: str) -> str:
    return push(registry, "docker/box:1", furnished())


# -- users ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("", "0 0 0"),
        ("-u alice", "1000 1000 10,50,1000"),
        ("-u alice:", "1000 1000 10,50,1000"),
        ("-u bob", "1001 50 50"),
        ("-u alice:staff", "1000 50 50"),
        ("-u alice:8", "1000 8 8"),
        ("-u 1000", "1000 1000 10,50,1000"),
        ("-u 1000:50", "1000 50 50"),
        ("-u 1000:wheel", "1000 10 10"),
        ("-u 4000", "4000 0 0"),
        ("-u 4000:5000", "4000 5000 5000"),
        ("-u :staff", "0 50 50"),
        ("-u :60", "0 60 60"),
        ("-u :", "0 0 0"),
        ("-u 2147483647:2147483647", "2147483647 2147483647 2147483647"),
        ("--group-add 60", "0 0 0,60"),
        ("--group-add staff --group-add wheel --group-add 50", "0 0 0,10,50"),
        ("-u alice --group-add 60 --group-add staff", "1000 1000 10,50,60,1000"),
        ("-u alice:staff --group-add wheel", "1000 50 10,50"),
        ("-u 4000:5000 --group-add 60", "4000 5000 60,5000"),
        ("-u nosuch", None),
        ("-u nosuch:staff", None),
        ("-u alice:nosuch", None),
        ("-u alice:7", None),  # Docker's would be in the group 0, which the image's /etc/group calls 7
        ("-u 2147483648", None),
        ("-u 4294967296", None),
        ("--user=-1", None),
        ("-u 0x0", None),
        ("-u \N{FULLWIDTH DIGIT ZERO}", None),
        ("--group-add nosuch", None),
        ("--group-add ''", None),
    ],
)
def test_users_and_groups(one_daemon: Daemon, box: str, flags: str, expected: str | None) -> None:
    code, output = run(one_daemon, box, flags, "grep", "-E", "^(Uid|Gid|Groups):", "/proc/self/status")
    if expected is None:
        assert (code, output) == (REFUSED, "")
        return
    (uid, *uids), (gid, *gids), groups = [line.split()[1:] for line in output.splitlines()]
    assert {*uids} == {uid}
    assert {*gids} == {gid}
    assert f"{uid} {gid} {','.join(sorted(set(groups), key=int))}" == expected


# -- working directories ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("", "/ 0:0 755"),
        ("-w /own", "/own 1000:1000 700"),
        ("-w /new", "/new 0:0 755"),
        ("--workdir /new/deep/down", "/new/deep/down 0:0 755"),
        ("-w /new -u alice", "/new 0:0 755"),
        ("-w '/with space'", "/with space 0:0 755"),
        ("-w /new --read-only", "/new 0:0 755"),
        ("-w //own//new", "/own/new 0:0 755"),
        ("-w /../../new", "/new 0:0 755"),
        ("-w /link", "/own 1000:1000 700"),
        ("-w /link/new", "/own/new 0:0 755"),
        ("-w /up/new", "/new 0:0 755"),
        ("-w /astray", "/nowhere/deep 0:0 755"),
        ("-w /tmp/new --tmpfs /tmp", "/tmp/new 0:0 755"),
        ("-w /circle", None),
        ("-w /etc/passwd", None),
        ("-w /etc/passwd/new", None),
        ("-w relative", None),
        ("-w ''", "/ 0:0 755"),
    ],
)
def test_working_directory(one_daemon: Daemon, box: str, flags: str, expected: str | None) -> None:
    answer = (0, f"{expected}\n") if expected is not None else (REFUSED, "")
    assert run(one_daemon, box, flags, "sh", "-c", 'echo "$(pwd -P) $(stat -c %u:%g\\ %a .)"') == answer


@pytest.mark.parametrize(
    ("config", "flags", "expected"),
    [
        ({"WorkingDir": "/made/here"}, "", "/made/here 0:0"),
        ({"WorkingDir": "/made/here"}, "-w /own", "/own 1000:1000"),
        ({"WorkingDir": "/made/here", "User": "alice"}, "", "/made/here 0:0"),
        ({"User": "alice:staff"}, "", "/ 0:0"),
    ],
)
def test_directory_and_user_of_the_image(
    one_daemon: Daemon, registry: str, config: dict[str, Any], flags: str, expected: str
) -> None:
    image = push(registry, "docker/configured:1", furnished(**config))
    script = 'echo "$(pwd -P) $(stat -c %u:%g .)"; id -u; id -g'
    ids = {"alice": "1000\n1000", "alice:staff": "1000\n50"}.get(config.get("User", ""), "0\n0")
    assert run(one_daemon, image, f"--pull always {flags}", "sh", "-c", script) == (0, f"{expected}\n{ids}\n")
