"""What ``certs.d`` says about a host, as containerd and Docker have it; and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from ross.errors import FailedPrecondition
from ross.registry.certs import read_endpoints
from ross.registry.endpoint import EVERYTHING, Capability, Endpoint, Transport
from ross.registry.hosts import Origin


def read(top: Path, host: str = "docker.io", text: str | None = None) -> tuple[Endpoint, ...]:
    if text is not None:
        (top / host).mkdir(parents=True)
        (top / host / "hosts.toml").write_text(text)
    return read_endpoints([top], host)


def test_a_host_that_nothing_is_said_about_is_itself(tmp_path: Path) -> None:
    hub = Endpoint(origin=Origin("https", "registry-1.docker.io", 443), name="docker.io")
    assert read_endpoints([tmp_path / "absent", tmp_path], "docker.io") == (hub,)


MIRRORS = """
server = "https://registry-1.docker.io"

[host."https://public.example"]
capabilities = ["pull"]
[host."http://inside.example:5000/cache"]
capabilities = ["pull", "resolve"]
ca = "inside.crt"
client = [["/etc/pki/me.cert", "me.key"]]
skip_verify = true
dial_timeout = "1m500ms"
proxy = "http://proxy.example:3128"
[host."http://inside.example:5000/cache".header]
x-one = "1"
x-two = ["2", "3"]
[host."third.example/v2/hub"]
override_path = true
"""


def test_mirrors_come_in_their_order_and_the_server_last(tmp_path: Path) -> None:
    public, inside, third, server = read(tmp_path, text=MIRRORS)

    directory = tmp_path / "docker.io"
    assert public == Endpoint(
        origin=Origin("https", "public.example", 443),
        name="public.example",
        capabilities=frozenset({Capability.PULL}),
        namespace="docker.io",
    )
    assert inside == Endpoint(
        origin=Origin("http", "inside.example", 5000),
        name="inside.example:5000",
        path="/cache/v2",
        capabilities=frozenset({Capability.PULL, Capability.RESOLVE}),
        namespace="docker.io",
        headers=(("x-one", "1"), ("x-two", "2"), ("x-two", "3")),
        transport=Transport(
            ca=(directory / "inside.crt",),
            client=(Path("/etc/pki/me.cert"), directory / "me.key"),
            skip_verify=True,
            dial_seconds=60.5,
            proxy="http://proxy.example:3128",
        ),
    )
    assert (third.origin.host, third.path, third.capabilities) == ("third.example", "/v2/hub", EVERYTHING)
    assert (
        third.url("library/x", "tags/list?n=1") == "https://third.example/v2/hub/library/x/tags/list?n=1&ns=docker.io"
    )
    assert third.scope_name("library/x") == "hub/library/x"
    assert server == Endpoint(origin=Origin("https", "registry-1.docker.io", 443), name="docker.io")


def test_without_a_server_the_file_is_about_the_host_itself(tmp_path: Path) -> None:
    (endpoint,) = read(tmp_path, "reg.example:5000", 'ca = ["a.crt", "/b.crt"]\nclient = "me.pem"\nheader = {x = "y"}')

    directory = tmp_path / "reg.example:5000"
    assert (endpoint.origin, endpoint.name) == (Origin("https", "reg.example", 5000), "reg.example:5000")
    assert endpoint.transport.ca == (directory / "a.crt", Path("/b.crt"))
    assert endpoint.transport.client == (directory / "me.pem", directory / "me.pem")
    assert endpoint.headers == (("x", "y"),)


@pytest.mark.parametrize(
    ("host", "server", "name", "namespace"),
    [
        ("docker.io", "https://docker.io", "docker.io", ""),
        ("reg.example", "https://reg.example:443", "reg.example", ""),
        ("reg.example:80", "http://reg.example", "reg.example:80", ""),
        ("reg.example", "https://reg.example:8443", "reg.example:8443", "reg.example"),
        ("reg.example", "https://registry-1.docker.io", "docker.io", "reg.example"),
        ("[::1]:5000", "https://[::1]:5000", "[::1]:5000", ""),
    ],
)
def test_credentials_are_those_of_whoever_really_serves(
    host: str, server: str, name: str, namespace: str, tmp_path: Path
) -> None:
    (endpoint,) = read(tmp_path, host, f'server = "{server}"')
    assert (endpoint.name, endpoint.namespace) == (name, namespace)


@pytest.mark.parametrize("directory", ["reg.example:5000", "reg.example_5000_", "_default"])
def test_a_port_may_be_written_in_two_ways_and_a_default_is_for_the_rest(directory: str, tmp_path: Path) -> None:
    (tmp_path / directory).mkdir()
    (tmp_path / directory / "hosts.toml").write_text('[host."https://mirror.example"]')

    mirror, server = read_endpoints([tmp_path], "reg.example:5000")
    assert (mirror.name, server.name) == ("mirror.example", "reg.example:5000")


def test_the_first_directory_that_knows_the_host_counts(tmp_path: Path) -> None:
    read(tmp_path / "one", "other.example", "")
    read(tmp_path / "two", "reg.example", 'server = "http://two.example"')
    read(tmp_path / "three", "reg.example", 'server = "http://three.example"')

    (endpoint,) = read_endpoints([tmp_path / one for one in ("one", "two", "three")], "reg.example")
    assert endpoint.name == "two.example"


def test_plain_certificates_are_read_as_docker_does(tmp_path: Path) -> None:
    directory = tmp_path / "127.0.0.1:5000"
    directory.mkdir()
    for name in ("a.crt", "b.crt", "me.cert", "me.key", "README"):
        (directory / name).touch()

    (endpoint,) = read_endpoints([tmp_path], "127.0.0.1:5000")
    assert endpoint.transport == Transport(
        ca=(directory / "a.crt", directory / "b.crt"), client=(directory / "me.cert", directory / "me.key")
    )
    assert endpoint.origin == Origin("https", "127.0.0.1", 5000), "who sets certificates up means TLS"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("server = ", "is not TOML"),
        ("server = 5", r"hosts.toml: server must be a URL, not 5"),
        ('server = "ftp://x"', "server must be the URL of a registry"),
        ('server = "https://"', "server must be the URL of a registry"),
        ('server = "https://x/?a=b"', "server must be the URL of a registry"),
        ('server = "https://user:pass-word@x"', "server must not carry a user name"),
        ('sever = "https://x"', "hosts.toml: sever is not known; there are server, capabilities"),
        ("host = 5", "host must be a table of tables"),
        ('host = {"https://m" = 5}', 'host."https://m" must be a table, not 5'),
        ('[host."https://m"]\ncapability = []', r'hosts.toml: host."https://m".capability is not known'),
        (
            '[host."https://m"]\ncapabilities = ["pul"]',
            r'host."https://m".capabilities must be of pull, resolve and push',
        ),
        ('[host."https://m"]\nskip_verify = "yes"', "skip_verify must be true or false, not 'yes'"),
        ('[host."https://m"]\nca = 5', "ca must be a path or a list of paths"),
        ('[host."https://m"]\nclient = ["a", "b"]', "client has 2 certificates; Ross can show one"),
        ('[host."https://m"]\nclient = [["a", "b", "c"]]', "client must be a path"),
        ('[host."https://m"]\ndial_timeout = "soon"', "dial_timeout must be a duration"),
        ('[host."https://m"]\nproxy = "file:///x"', "proxy must be the URL of a proxy"),
        ('header = {"X-A" = "a\\r\\nX-Evil: pass-word"}', "header.X-A must be printable"),
        ('header = {"a b" = "pass-word"}', "header.a b is no header"),
        ('header = {"Content-Length" = "5"}', "is no header that can be set"),
        ("a = " + "[" * 100_000, "is not TOML"),
        ("#" * (1 << 20) + "##", "is longer than"),
    ],
)
def test_what_makes_no_sense_is_told_with_file_and_key(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match=words) as caught:
        read(tmp_path, text=text)

    assert str(tmp_path / "docker.io" / "hosts.toml") in str(caught.value)
    assert "pass-word" not in str(caught.value) + str(caught.value.hint)


@pytest.mark.parametrize(
    ("names", "words"),
    [(("me.key",), "is a key without a certificate"), (("a.cert", "b.cert"), "several client certificates")],
)
def test_plain_certificates_that_make_no_sense_are_told(names: tuple[str, ...], words: str, tmp_path: Path) -> None:
    (tmp_path / "reg.example").mkdir()
    for name in names:
        (tmp_path / "reg.example" / name).touch()

    with pytest.raises(FailedPrecondition, match=words):
        read_endpoints([tmp_path], "reg.example")
