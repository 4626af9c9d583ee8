"""A simulated network: what it is made of, and that nothing of it stays."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from benchmarks import network
from benchmarks.delay import pass_on
from benchmarks.network import Link, Network
from dlmie.errors import DlmieError


def test_a_link_has_the_model_s_numbers() -> None:
    assert Link(None).name == "no limit"
    assert Link(None).model is None
    delayed = Link("1 Gb", 0.005)
    assert delayed.name == "1 Gb, 5 ms"
    latency, rate = network.NETWORKS["1 Gb"]
    assert delayed.model == (latency + 0.005, rate)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda m: m.setattr(sys, "platform", "darwin"), "Linux only"),
        (lambda m: m.setattr(shutil, "which", lambda name: None), "ip, tc, mpiexec missing"),
        (lambda m: m.setattr(os, "geteuid", lambda: 1000), "run this as root"),
        (lambda m: m.setattr(network, "_run", lambda *words: "Open MPI"), "not MPICH's"),
    ],
)
def test_where_it_cannot_run_one_line_says_so(
    change: object, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    change(monkeypatch)  # type: ignore[operator]
    with pytest.raises(DlmieError, match=told) as error:
        network.need_namespaces()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("word", ["1", "3", "two"])
def test_ranks_that_cannot_share_a_batch_out(word: str) -> None:
    assert network._count([]) == 2
    with pytest.raises(DlmieError, match=f"'{word}' ranks .*: give 2, 4, 8 or 16"):
        network._count([word])


def packet(version: int, to: str, content: bytes) -> bytes:
    """As much of an IP packet as is looked at."""
    return bytes([version << 4]) + bytes(15) + socket.inet_aton(to) + content


@pytest.fixture
def ends() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2)]
    yield pairs
    for end in (end for pair in pairs for end in pair):
        end.close()


@pytest.mark.timeout(60)
def test_packets_are_passed_on_by_their_address(
    ends: list[tuple[socket.socket, socket.socket]],
) -> None:
    outside, inside = zip(*ends, strict=True)
    for end in inside:
        end.setblocking(False)
    (delays, say), (hear, answers) = os.pipe(), os.pipe()
    addresses = map(socket.inet_aton, ("10.0.0.1", "10.0.0.2"))
    devices = dict(zip(addresses, (end.fileno() for end in inside), strict=True))
    thread = threading.Thread(target=pass_on, args=(devices, delays, answers), daemon=True)
    thread.start()
    os.write(say, b"0.001\n")
    assert os.read(hear, 100) == b"0.001\n"
    sent = [packet(4, "10.0.0.2", bytes([number])) for number in range(5)]
    for other in (packet(6, "10.0.0.2", b"version 6"), packet(4, "10.0.0.9", b"nobody")):
        outside[0].send(other)
    for one in sent:
        outside[0].send(one)
    assert [outside[1].recv(100) for _ in sent] == sent
    outside[1].send(packet(4, "10.0.0.1", b"back"))
    assert outside[0].recv(100).endswith(b"back")
    os.close(say)
    thread.join(timeout=30)
    assert not thread.is_alive()
    for file in (delays, hear, answers):
        os.close(file)


RECEIVE = """
import socket, sys
with socket.create_server((sys.argv[1], 5000)) as server:
    print("listening", flush=True)
    connection, _ = server.accept()
    print(sum(iter(lambda: len(connection.recv(1 << 16)), 0)))
"""
SEND = """
import socket, sys
with socket.create_connection((sys.argv[1], 5000), timeout=30) as connection:
    connection.sendall(bytes(1_000_000))
"""


@pytest.fixture(params=[False, True], ids=["bridge", "program"])
def pair(request: pytest.FixtureRequest) -> Iterator[Network]:
    try:
        network.need_namespaces()
        with Network(2, delaying=request.param) as made:
            yield made
    except (DlmieError, OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no namespaces here: {error}")


@pytest.mark.timeout(120)
@pytest.mark.parametrize("link", [Link(None), Link("1 Gb")], ids=lambda link: link.name)
def test_bytes_cross_the_link_and_nothing_stays(pair: Network, link: Link) -> None:
    pair.become(link)
    first, second = pair.spaces

    def inside(space: str, code: str) -> subprocess.Popen[str]:
        python = [sys.executable, "-c", code, pair.addresses[1]]
        return subprocess.Popen(
            ["ip", "netns", "exec", space, *python], stdout=subprocess.PIPE, text=True
        )

    with inside(second, RECEIVE) as receiver:
        assert receiver.stdout is not None
        assert receiver.stdout.readline() == "listening\n"
        before = pair.crossed()
        with inside(first, SEND):
            pass
        assert int(receiver.stdout.read()) == 1_000_000
    assert pair.crossed() - before >= 1_000_000
    pair.__exit__()
    assert pair.prefix not in network._ip("netns", "list")
