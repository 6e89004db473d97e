"""Sizes, times, tables, values of flags, and errors as they are printed."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import pytest

from ross.cli import errors, output
from ross.cli.app import execute
from ross.cli.keys import DetachKeys
from ross.cli.parse import parse_env, parse_labels, parse_mount, parse_time
from ross.errors import FailedPrecondition, InvalidArgument, NotFound, Reason
from ross.model.containers import Outcome
from ross.model.mounts import Mount
from ross.sizes import parse_size

SECOND = 10**9


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0B"), (999, "999B"), (1000, "1kB"), (1_234_567, "1.23MB"), (999_600, "1MB"), (5 * 10**12, "5TB")],
)
def test_sizes(count: int, words: str) -> None:
    assert output.size(count) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "1 minute"),
        (7200, "2 hours"),
        (3 * 86400, "3 days"),
        (21 * 86400, "3 weeks"),
        (90 * 86400, "3 months"),
        (3 * 365 * 86400, "3 years"),
    ],
)
def test_ages(seconds: int, words: str) -> None:
    now = 2_000_000_000 * SECOND
    assert output.ago(now - seconds * SECOND, now=now) == words


def test_table_is_aligned_and_cannot_steer_the_terminal() -> None:
    assert (
        output.table(("A", "B"), [("1", "x"), ("long", "\x1b[31m")])
        == "A      B\n1      x\nlong   \N{REPLACEMENT CHARACTER}[31m\n"
    )


def test_records_are_json_with_stable_keys() -> None:
    value = Outcome(exit_code=7, finished_at=5)
    plain = {"exit_code": 7, "signal": 0, "oom": False, "error": "", "finished_at": 5, "checkpointed": False}
    assert json.loads(output.records([value], "json")) == [plain]
    assert [json.loads(line) for line in output.records([value, value], "jsonl").splitlines()] == [plain, plain]


@pytest.mark.parametrize(
    ("text", "size"), [("512m", 512 << 20), ("1.5G", 3 << 29), ("10", 10), ("2gb", 2 << 30), ("1KiB", 1024)]
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "m", "-1", "1x", "1 2"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="is not a size"):
        parse_size(text)


def test_environment_and_labels() -> None:
    assert parse_env(["A=1", "B", "C", "D="], {"B": "ours"}) == ["A=1", "B=ours", "C", "D="]
    assert parse_labels(["a=b=c", "d"]) == {"a": "b=c", "d": ""}
    for parse in (lambda: parse_env(["=x"], {}), lambda: parse_labels(["=x"])):
        with pytest.raises(InvalidArgument):
            parse()


def test_mounts() -> None:
    here = Path("/here")
    assert parse_mount("/a:/b", here=here) == Mount(source="/a", target="/b")
    assert parse_mount("./a:/b:ro", here=here) == Mount(source="/here/a", target="/b", read_only=True)
    assert parse_mount("../a:/b:ro,rslave", here=here).propagation == "rslave"
    for text, message in (
        ("a:/b", "name of a volume"),
        ("/a", "is not a mount"),
        ("/a:/b:zz", "no option"),
        ("/a:/b:ro:x", "is not a mount"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            parse_mount(text, here=here)


def test_times() -> None:
    assert parse_time("10m", now=1000.0) == 400 * SECOND
    assert parse_time("1.5") == 1_500_000_000
    assert parse_time("1970-01-01T00:00:10Z") == 10 * SECOND
    with pytest.raises(InvalidArgument, match="is not a time"):
        parse_time("yesterday")


def test_detach_keys_are_found_however_they_are_typed() -> None:
    keys = DetachKeys()
    assert keys.filter(b"ls\n") == (b"ls\n", False)
    assert keys.filter(b"a\x10") == (b"a", False)
    assert keys.filter(b"b") == (b"\x10b", False)
    assert keys.filter(b"\x10") == (b"", False)
    assert keys.filter(b"\x11") == (b"", True)
    assert keys.filter(b"x\x10\x11y") == (b"x", True)


def test_exit_codes() -> None:
    missing = FailedPrecondition("x", reason=Reason.COMMAND_NOT_FOUND)
    assert errors.exit_code(missing, running=True) == 127
    assert errors.exit_code(FailedPrecondition("x", reason=Reason.COMMAND_NOT_EXECUTABLE), running=True) == 126
    assert errors.exit_code(NotFound("x"), running=True) == 125
    assert errors.exit_code(NotFound("x"), running=False) == 1


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nosuch"], 2, "there is no command 'nosuch'"),
        (["ps", "--nosuch"], 2, "nosuch"),
        (["run", "--nosuch", "x"], 125, "nosuch"),
        (["image", "nosuch"], 2, "there is no command 'image nosuch'"),
        (["ps"], 1, "no daemon answers"),
        (["run", "x"], 125, "no daemon answers"),
        (["rm"], 1, "no container was named"),
        (["daemon", "--root", "relative"], 1, "root must be an absolute path"),
    ],
)
def test_whatever_goes_wrong_is_one_error_and_what_to_do(
    words: list[str],
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("ROSS_SOCKET", str(tmp_path / "none.sock"))
    assert execute(words) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert message in printed.err
    assert "Traceback" not in printed.err


def test_version_is_the_distributions(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["--version"]) == 0
    assert capsys.readouterr().out.strip() == version("ross-engine")
