"""Instructions that change a config: as a builder reads them."""

from __future__ import annotations

import pytest

from ross.errors import InvalidArgument
from ross.oci.changes import Config, apply_changes


@pytest.mark.parametrize(
    ("changes", "config"),
    [
        (['CMD ["/bin/sh", "-l"]'], {"Cmd": ["/bin/sh", "-l"]}),
        (["cmd echo $HOME"], {"Cmd": ["/bin/sh", "-c", "echo $HOME"]}),
        (["CMD a", "CMD"], {"Cmd": []}),
        (['ENTRYPOINT ["/x"]', 'ENTRYPOINT ["/y"]'], {"Entrypoint": ["/y"]}),
        (['CMD ["a", 5]'], {"Cmd": ["/bin/sh", "-c", '["a", 5]']}),
        (["ENV A=1 B='x y' C=\"z $A\"", "ENV A=2"], {"Env": ["A=2", "B=x y", "C=z "]}),
        (["ENV A=1", "ENV B=${A}2 C='$A' D=\\$A"], {"Env": ["A=1", "B=12", "C=$A", "D=$A"]}),
        (["ENV A all  the rest"], {"Env": ["A=all  the rest"]}),
        (['LABEL a="b c" d=e', "LABEL a=f"], {"Labels": {"a": "f", "d": "e"}}),
        (
            ["EXPOSE 80 53/udp 90-92"],
            {"ExposedPorts": {p: {} for p in ("53/udp", "80/tcp", "90/tcp", "91/tcp", "92/tcp")}},
        ),
        (["VOLUME /a /b", 'VOLUME ["/c d"]'], {"Volumes": {"/a": {}, "/b": {}, "/c d": {}}}),
        (["WORKDIR /a/b", "WORKDIR ../c"], {"WorkingDir": "/a/c"}),
        (["WORKDIR ../../x"], {"WorkingDir": "/x"}),
        (["USER app:app", "STOPSIGNAL SIGQUIT"], {"User": "app:app", "StopSignal": "SIGQUIT"}),
        ([], {}),
    ],
)
def test_changes(changes: list[str], config: Config) -> None:
    assert apply_changes(changes) == config


@pytest.mark.parametrize(
    "change",
    [
        "", "RUN rm -rf /", "FROM x", "ENV", "ENV =1", "ENV A=1 B", 'LABEL a="b', "EXPOSE x", "EXPOSE 70000", "EXPOSE 9-8",
        "USER a b", "WORKDIR", "STOPSIGNAL ;", 'VOLUME [""]', "ENV A=" + "x" * (1 << 17),
    ],
)  # fmt: skip
def test_what_is_no_change_is_refused_with_what_to_write(change: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        apply_changes([change])
    assert caught.value.hint


def test_what_was_there_before_stays() -> None:
    before: Config = {"Env": ["PATH=/bin"], "Cmd": ["x"]}
    assert apply_changes(["ENV PATH=/new:$PATH"], before) == {"Env": ["PATH=/new:/bin"], "Cmd": ["x"]}
    assert before == {"Env": ["PATH=/bin"], "Cmd": ["x"]}
