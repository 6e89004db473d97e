"""Settings: where a value comes from, which one wins, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from ross.errors import FailedPrecondition, InvalidArgument
from ross.settings import load_settings


def test_defaults_need_nothing(tmp_path: Path) -> None:
    settings = load_settings(flags={}, environment={})
    assert settings.root == Path("/var/lib/ross")
    assert settings.socket == Path("/run/ross/ross.sock")
    assert set(settings.sources.values()) == {"default"}


def test_flag_wins_over_environment_over_file_over_default(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('root = "/file"\nrun = "/file-run"\nlog_level = "error"\n')
    settings = load_settings(
        flags={"root": "/flag", "run": None},
        environment={"ROSS_ROOT": "/env", "ROSS_LOG_LEVEL": "debug"},
        config=config,
    )
    assert (settings.root, settings.run, settings.log_level) == (Path("/flag"), Path("/file-run"), "debug")
    assert settings.socket == Path("/file-run/ross.sock")
    assert settings.sources["root"] == "flag --root"
    assert settings.sources["run"] == str(config)
    assert settings.sources["log_level"] == "environment variable ROSS_LOG_LEVEL"
    assert settings.sources["runtime"] == "default"


def test_several_directories_are_a_list_or_have_colons_between_them(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('certs_dir = ["/a", "/b"]')
    assert load_settings(flags={}, environment={}, config=config).certs_dir == (Path("/a"), Path("/b"))
    settings = load_settings(flags={}, environment={"ROSS_CERTS_DIR": "/c:/d"}, config=config)
    assert settings.certs_dir == (Path("/c"), Path("/d"))
    assert load_settings(flags={}, environment={}).certs_dir[0] == Path("/etc/ross/certs.d")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"certs_dir": "/a:b"}, r"certs_dir must be an absolute path, not 'b' \(flag --certs-dir\)"),
        (
            {"disk_floor": "-1"},
            r"disk_floor must be a size such as 512m, 2g or a number of bytes, not '-1' \(flag --disk-floor\)",
        ),
        ({"disk_floor": "much"}, r"disk_floor must be a size"),
        ({"max_downloads": "0"}, r"max_downloads must be at least 1 \(flag --max-downloads\)"),
        ({"max_downloads": "many"}, r"max_downloads must be a whole number, not 'many'"),
        ({"max_bandwidth": "fast"}, r"max_bandwidth must be a size"),
        ({"root": "relative"}, r"root must be an absolute path, not 'relative' \(flag --root\)"),
        (
            {"log_level": "loud"},
            r"log_level must be one of debug, info, warning, error, not 'loud' \(flag --log-level\)",
        ),
    ],
)
def test_bad_value_names_its_source(flags: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        load_settings(flags=flags, environment={})


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("certs_dir = 5", InvalidArgument, "certs_dir must be a list of paths, not 5"),
        ("certs_dir = ['/a', 5]", InvalidArgument, "certs_dir must be a list of paths"),
        ("root = ['/a']", InvalidArgument, "root must be text, not list"),
        ("root = 5", InvalidArgument, "root must be text, not int"),
        ("disk_floor = -1", InvalidArgument, "disk_floor must be a size"),
        ("disk_floor = true", InvalidArgument, "disk_floor must be a size"),
        ("disk_floor = 1.5", InvalidArgument, "disk_floor must be a size"),
        ("log_level = ['info']", InvalidArgument, "log_level must be text, not list"),
        ("rooot = '/x'", InvalidArgument, "unknown setting 'rooot'"),
        ("root = ", FailedPrecondition, "is not TOML"),
    ],
)
def test_bad_file_is_refused(tmp_path: Path, text: str, error: type[Exception], message: str) -> None:
    config = tmp_path / "config.toml"
    config.write_text(text)
    with pytest.raises(error, match=message):
        load_settings(flags={}, environment={}, config=config)


@pytest.mark.parametrize(
    ("text", "environment", "wanted"),
    [
        ("", None, None),
        ("disk_floor = 4096", None, 4096),
        ('disk_floor = "512m"', None, 512 << 20),
        ('disk_floor = "512m"', "0", 0),
        ("disk_floor = 0", "1g", 1 << 30),
    ],
)
def test_numbers_are_numbers_or_text(tmp_path: Path, text: str, environment: str | None, wanted: int | None) -> None:
    config = tmp_path / "config.toml"
    config.write_text(text)
    variables = {} if environment is None else {"ROSS_DISK_FLOOR": environment}
    assert load_settings(flags={}, environment=variables, config=config).disk_floor == wanted


def test_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="does not exist"):
        load_settings(flags={}, environment={"ROSS_CONFIG": str(tmp_path / "absent")})
