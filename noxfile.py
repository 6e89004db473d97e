"""Every check of the project as a session: ``nox -s lint types unit`` needs no root, ``nox -s integration`` does.

Arguments behind ``--`` reach the program: ``nox -s unit -- -k wire -x``.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import tomllib
from pathlib import Path

import nox
import nox.virtualenv

nox.options.default_venv_backend = "uv|venv"
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_external_run = True
nox.options.sessions = ["lint", "types", "schema", "unit"]

LOCK = "requirements/dev.txt"
VM_PYTHON = "3.11"
CODE = ("ross", "tests", "benchmarks", "noxfile.py")
ASYNC_OFF = ",".join((
    "ASYNC102",  # nursery.cleanup.bounded_cleanup is such a scope, which the rule does not see
    "ASYNC109",  # the CLI's --timeout is sent to the daemon; it is no deadline of ours
    "ASYNC114",  # services are started by the tree, under names of its own
    "ASYNC124",  # capability methods and callbacks are async because their callers await them
    "ASYNC127",  # httpx: docs/decisions/003-httpx.md
    "ASYNC128",  # task_status is handed on to the loop, which reports
    "ASYNC9",  # off by default: checkpoints on every path; generators are closed by hand (aclosing)
))


def _install(session: nox.Session) -> None:
    if isinstance(session.virtualenv, nox.virtualenv.PassthroughEnv):
        return  # scripts/test: everything is installed where nox itself is
    session.install("--require-hashes", "-r", LOCK)
    session.install("--no-deps", "-e", ".")


@nox.session(tags=["check"])
def lint(session: nox.Session) -> None:
    """Format, lint rules, spelling, and the direction of imports."""
    _install(session)
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    files = [str(path) for path in sorted(Path("ross").rglob("*.py"))]
    session.run("python", "-m", "flake8_async", f"--disable={ASYNC_OFF}", *files)
    session.run(
        "codespell",
        "ross",
        "tests",
        "benchmarks",
        "docs",
        "schema",
        "scripts",
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
    )
    session.run("lint-imports")


@nox.session(tags=["check"])
def types(session: nox.Session) -> None:
    """mypy, strict."""
    _install(session)
    session.run("mypy", *session.posargs)


@nox.session(tags=["check"])
def schema(session: nox.Session) -> None:
    """The schema loads, matches the records, and is in the wheel."""
    _install(session)
    session.run("pytest", "tests/schema", *session.posargs)


@nox.session(tags=["check"])
def unit(session: nox.Session) -> None:
    """What needs neither root nor other programs."""
    _install(session)
    session.run("pytest", "tests/unit", *session.posargs)


@nox.session
def integration(session: nox.Session) -> None:
    """Real containers, registries and filesystems; as root."""
    _install(session)
    session.run("pytest", "tests/integration", "tests/contract", *session.posargs)


@nox.session
def all(session: nox.Session) -> None:  # noqa: A001 -- what the session is
    """Everything, measured: as root."""
    _install(session)
    env = {"COVERAGE_PROCESS_START": str(Path("pyproject.toml").absolute())}
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", "tests", *session.posargs, env=env)
    session.run("coverage", "combine", success_codes=[0, 1], silent=True)
    session.run("coverage", "report", "--skip-covered", "--sort=cover", success_codes=[0, 1])


@nox.session
def chaos(session: nox.Session) -> None:
    """Daemon, clients, monitors, runtimes, containers killed at random moments; ``nox -s chaos -- --rounds 500 --seed 7``. As root."""
    _install(session)
    session.run("python", "-m", "tests.support.chaos", *session.posargs)
    session.run("python", "-m", "tests.support.image_chaos", *session.posargs)
    session.run("python", "-m", "tests.support.container_chaos", *session.posargs)


@nox.session
def endurance(session: nox.Session) -> None:
    """Ten thousand resizes and attachments, gigabytes through a container: what of it is left is nothing. As root."""
    _install(session)
    env = {"ROSS_ROUNDS": "10000", "ROSS_STREAM_BYTES": str(4 << 30)}
    options = ("-s", "-o", "faulthandler_timeout=0")
    session.run("pytest", *options, "tests/integration/test_endurance.py", *session.posargs, env=env)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Hostile connections by the ten thousand; ``nox -s fuzz -- --connections 100000 --seed 7``. As root."""
    _install(session)
    session.run("python", "-m", "tests.support.hostile", *session.posargs)


@nox.session
def faults(session: nox.Session) -> None:
    """Pulls from a registry that does everything wrong; ``nox -s faults -- --pulls 5000 --seed 7``. As root."""
    _install(session)
    session.run("python", "-m", "tests.support.faults", *session.posargs)


@nox.session
def bombs(session: nox.Session) -> None:
    """What is little and wants much, in full size: ``nox -s bombs -- --gib 10 --entries 10000000``. As root."""
    _install(session)
    session.run("python", "-m", "tests.support.bombs", *session.posargs)


@nox.session
def exact(session: nox.Session) -> None:
    """Random images against the reference model of layers; ``nox -s exact -- --examples 10000 --seed 7``. As root."""
    _install(session)
    session.run("python", "-m", "tests.support.exact", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """The benchmarks, as ratios; ``nox -s bench -- wire`` for one of them. ``run`` and ``pull`` as root."""
    _install(session)
    for name in session.posargs or ("wire", "run", "pull"):
        session.run("python", "-m", f"benchmarks.{name}")


@nox.session
def demo(session: nox.Session) -> None:
    """Pull and run a busybox image that is made on the spot. As root."""
    _install(session)
    session.run("python", "-m", "tests.support.demo")


@nox.session
def wheel(session: nox.Session) -> None:
    """Build the wheel, install it apart from the checkout, and run it."""
    session.install("build", "hatchling")
    out = Path(session.create_tmp()).absolute()
    session.run("python", "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out))
    (built,) = out.glob("*.whl")
    session.install("--force-reinstall", str(built))
    session.chdir(out)
    session.run("python", "-c", "from ross.wire.schema import schema; schema.Engine")
    session.run("ross", "--version")
    built.unlink()


@nox.session
def lock(session: nox.Session) -> None:
    """Lock the requirements anew."""
    session.install("uv")
    flags = (
        "--generate-hashes",
        "--no-emit-index-url",
        "--universal",
        "--python-version",
        "3.11",
        "--no-header",
        "--upgrade",
    )
    session.run("uv", "pip", "compile", "pyproject.toml", *flags, "-o", "requirements/runtime.txt")
    session.run("uv", "pip", "compile", "pyproject.toml", "--group", "dev", *flags, "-o", LOCK)


@nox.session
def vm(session: nox.Session) -> None:
    """The tests of control groups, unit, journal, AppArmor and checkpoints, on a machine that ``ROSS_VM_RUNNER`` boots; as root.

    The runner is called as ``RUNNER --package NAME --copy --project DIRECTORY -- COMMAND``, and gives the machine a copy of the directory.
    The machine needs no network; it has Python, runc, conmon and the named package of Debian 12.
    """
    runner = Path(os.environ.get("ROSS_VM_RUNNER", "../shared/vm/run-in-vm"))
    if not runner.exists():
        session.error(f"there is no {runner}: set ROSS_VM_RUNNER to a program that boots a machine")
    packages = Path(".nox/vm-packages")
    stamp = packages / "requirements.txt"
    if not stamp.exists() or stamp.read_bytes() != Path(LOCK).read_bytes():
        if not isinstance(session.virtualenv, nox.virtualenv.PassthroughEnv):
            session.install("pip")
        options = ("--quiet", "--upgrade", "--only-binary=:all:", "--python-version", VM_PYTHON, "--require-hashes")
        session.run("python", "-m", "pip", "install", *options, "--target", str(packages), "-r", LOCK)
        shutil.copyfile(LOCK, stamp)
    with tempfile.TemporaryDirectory(dir=".nox") as directory:
        for name in ("ross", "tests", "schema", "scripts", "contrib", "pyproject.toml"):
            copy = shutil.copytree if Path(name).is_dir() else shutil.copy2
            copy(name, Path(directory, name))
        unused = shutil.ignore_patterns("mypy*", "*mypyc*", "libcst*", "ruff*", "grimp*", "pip", "virtualenv*")
        shutil.copytree(packages, Path(directory, "packages"), ignore=unused)
        project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
        facts = Path(directory, "packages", f"ross_engine-{project['version']}.dist-info")
        facts.mkdir()
        (facts / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        )
        command = ("scripts/test-in-vm", *session.posargs)
        session.run(
            str(runner), "--package", "apparmor", "--copy", "--project", directory, "--", *command, external=True
        )
