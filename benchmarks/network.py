"""What a network between ranks does to training, simulated on one machine.

    python -m benchmarks.network            2 ranks: no limit, 10 Gb, 1 Gb, 1 Gb and 5 ms
    python -m benchmarks.network 4          4 ranks

Each rank, of one thread, lives in a network namespace of its own, joined to a switch by a link
whose rate is limited (``tc``'s tbf, in both directions).  Delays come from netem, or, where the
kernel has none, from a program that passes packets on after a while (:mod:`benchmarks.delay`) and
needs processor time for that.  Bytes are counted by the devices.

It needs Linux, root, ``ip``, ``tc``, MPICH and the extra ``[mpi]``; everything that it sets up is
removed at the end.  UCX, MPICH's way to the network, would notice that all ranks are on one machine
and is told to use TCP; ``MPIR_CVAR_CH4_NETMOD=ofi FI_PROVIDER=tcp`` measures MPICH's other way.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

import numpy as np

from benchmarks.ranks import (
    BATCH,
    IMAGES,
    NETWORKS,
    Measured,
    Program,
    exchange_seconds,
    gradient_bytes,
    told_of_others,
)
from dlmie.errors import DlmieError
from dlmie.text import format_table

ROUNDS = 5
QUEUE = 0.02  # seconds of its rate that a link holds before it drops packets
FRAME = 65_000  # bytes of a packet: many small ones would overrun the kernel's queues
WARM_UP = "exchange 5"  # TCP forgets how fast it may send while nobody does


@dataclass(frozen=True)
class Link:
    """What a network is like: "1 Gb", or None for no limit; seconds from one rank to another."""

    network: str | None
    delay: float = 0.0

    @property
    def name(self) -> str:
        delay = f", {1000 * self.delay:.0f} ms" if self.delay else ""
        return f"{self.network or 'no limit'}{delay}"

    @property
    def model(self) -> tuple[float, float] | None:
        """Seconds until a message arrives, and bytes per second, as the model assumes them."""
        if self.network is None:
            return None
        latency, rate = NETWORKS[self.network]
        return latency + self.delay, rate


LINKS = (Link(None), Link("10 Gb"), Link("1 Gb"), Link("1 Gb", 0.005))


class Network:
    """Namespaces of ranks, joined by a switch; a context manager.

    Parameters
    ----------
    count : int
        Ranks.
    delaying : bool
        Whether the switch is the program that delays, not a bridge of the kernel.
    """

    def __init__(self, count: int, *, delaying: bool = False) -> None:
        self.delaying = delaying
        kind = 1 if delaying else 0
        self.prefix = f"dlmie-{os.getpid()}-"
        self.addresses = [f"10.213.{kind}.{rank + 1}" for rank in range(count)]
        self.spaces = [self.prefix + address for address in self.addresses]
        self.switch = f"{self.prefix}switch-{kind}"
        self._held = contextlib.ExitStack()
        self._program: subprocess.Popen[str] | None = None

    def __enter__(self) -> Network:
        try:
            with self._held:
                self._set_up()
                self._held = self._held.pop_all()
        except subprocess.CalledProcessError as error:
            raise DlmieError(f"no network could be set up here: {_told(error)}") from error
        return self

    def __exit__(self, *error: object) -> None:
        self._held.close()

    def _set_up(self) -> None:
        for space in (self.switch, *self.spaces):
            _ip("netns", "add", space)
            self._held.callback(_remove, space)
        if self.delaying:
            self._program = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.delay", *_pairs(self.spaces, self.addresses)],
                cwd=Path(__file__).resolve().parents[1],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            self._held.callback(_end, self._program)
            self._pass_on_after(0.0)
        else:
            _ip("-n", self.switch, "link", "add", "bridge", "type", "bridge")
            _ip("-n", self.switch, "link", "set", "bridge", "up")
        for rank, (space, address) in enumerate(zip(self.spaces, self.addresses, strict=True)):
            if not self.delaying:
                port = ("peer", "name", f"port{rank}", "netns", self.switch)
                _ip("link", "add", "eth0", "netns", space, "type", "veth", *port)
                port = (f"port{rank}", "mtu", str(FRAME))
                _ip("-n", self.switch, "link", "set", *port, "master", "bridge", "up")
            _ip("-n", space, "link", "set", "lo", "up")
            _ip("-n", space, "addr", "add", f"{address}/24", "dev", "eth0")
            _ip("-n", space, "link", "set", "eth0", "mtu", str(FRAME), "up")

    def become(self, link: Link) -> None:
        """Have the rates and delays of a link from now on."""
        devices = [(space, "eth0") for space in self.spaces]
        if not self.delaying:
            devices += [(self.switch, f"port{rank}") for rank in range(len(self.spaces))]
        for space, device in devices:
            with contextlib.suppress(subprocess.CalledProcessError):  # it has none yet
                _tc(space, "del", "dev", device, "root")
            delay = link.delay if device == "eth0" and not self.delaying else 0.0
            _limit(space, device, link, delay)
        if self.delaying:
            self._pass_on_after(link.delay)

    def _pass_on_after(self, seconds: float) -> None:
        assert self._program is not None
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.write(f"{seconds}\n")
        self._program.stdin.flush()
        if not self._program.stdout.readline():
            raise DlmieError("the program that delays packets did not start: see above")

    def crossed(self) -> float:
        """Bytes that have left rank 0 until now, by its device's counter."""
        counter = "/sys/class/net/eth0/statistics/tx_bytes"
        return float(_run("ip", "netns", "exec", self.spaces[0], "cat", counter))

    def passing_on(self) -> float:
        """Processor time that passing packets on has taken, in seconds."""
        if self._program is None:
            return 0.0
        fields = Path(f"/proc/{self._program.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def start(self, folder: Path) -> Program:
        """Start the ranks, one in each namespace."""
        enter = folder / f"enter-{self.switch}"
        enter.write_text(
            "#!/bin/sh\n"
            'while [ "${1#-}" != "$1" ]; do shift; done\n'  # options of ssh
            "host=$1; shift\n"
            f'exec ip netns exec "{self.prefix}$host" sh -c "$*"\n'
        )
        enter.chmod(0o700)
        first, hosts = self.addresses[0], ",".join(self.addresses)
        inside = ["ip", "netns", "exec", self.spaces[0], "mpiexec", "-localhost", first]
        ranks = ["-hosts", hosts, "-ppn", "1", "-n", str(len(self.addresses))]
        launcher = ["-launcher", "ssh", "-launcher-exec", str(enter)]
        transport = {} if "UCX_TLS" in os.environ else {"UCX_TLS": "tcp,self"}
        command = [*inside, *launcher, *ranks]
        return Program(
            command,
            1,
            transport,
            warm_up=WARM_UP,
            helper=self.passing_on,
            sent=self.crossed,
        )


def _limit(space: str, device: str, link: Link, delay: float) -> None:
    """Limit what leaves a device."""
    parent: tuple[str, ...] = ("root", "handle", "1:")
    if link.model is not None:
        rate = link.model[1]
        # Not less than one packet of the largest size, before it is cut for the wire.
        burst, queue = max(rate / 1000, 2 * FRAME), max(rate * QUEUE, 4 * FRAME)
        size = ("rate", f"{8 * rate:.0f}bit", "burst", f"{burst:.0f}", "limit", f"{queue:.0f}")
        _tc(space, "add", "dev", device, *parent, "tbf", *size)
        parent = ("parent", "1:", "handle", "10:")
    if delay:
        _tc(space, "add", "dev", device, *parent, "netem", "delay", f"{delay}s", "limit", "100000")


def _pairs(spaces: Sequence[str], addresses: Sequence[str]) -> list[str]:
    return [f"{space}={address}" for space, address in zip(spaces, addresses, strict=True)]


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _ip(*words: str) -> str:
    return _run("ip", *words)


def _tc(space: str, action: str, *words: str) -> str:
    return _run("tc", "-n", space, "qdisc", action, *words)


def _told(error: subprocess.CalledProcessError) -> str:
    last = (error.stderr or "").strip().splitlines()[-1:] or [f"exit code {error.returncode}"]
    return f"{' '.join(error.cmd)}: {last[0]}"


def _remove(space: str) -> None:
    """End what still runs in a namespace of ours, and remove it."""
    with contextlib.suppress(subprocess.CalledProcessError):
        for process in _ip("netns", "pids", space).split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(process), signal.SIGKILL)
        _ip("netns", "del", space)


def _end(program: subprocess.Popen[str]) -> None:
    program.terminate()
    program.communicate()


def _has_netem() -> bool:
    """Whether the kernel can delay packets itself."""
    space = f"dlmie-{os.getpid()}-netem"
    _ip("netns", "add", space)
    try:
        _tc(space, "add", "dev", "lo", "root", "netem", "delay", "1ms")
    except subprocess.CalledProcessError:
        return False
    finally:
        _remove(space)
    return True


def need_namespaces() -> None:
    """Raise DlmieError where networks cannot be simulated."""
    if not sys.platform.startswith("linux"):
        raise DlmieError("networks are simulated by Linux only: run this on Linux")
    missing = [name for name in ("ip", "tc", "mpiexec") if shutil.which(name) is None]
    if missing:
        raise DlmieError(
            f"{', '.join(missing)} missing: ip and tc are in the package iproute2, mpiexec in "
            "mpich (pip install mpich)"
        )
    if os.geteuid() != 0:
        raise DlmieError("network namespaces are for root only: run this as root")
    if "HYDRA" not in _run("mpiexec", "--version"):
        raise DlmieError("mpiexec is not MPICH's, which can start ranks in namespaces")


@contextlib.contextmanager
def ending_in_order() -> Iterator[None]:
    """Let SIGTERM and SIGHUP run what cleans up."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


Found = dict[tuple[str, str], list[Measured]]


def main(count: int) -> None:
    """Measure, and print what was found beside the model."""
    need_namespaces()
    found: Found = {}
    netem = _has_netem()
    with ending_in_order(), contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dlmie-")))
        networks = {False: stack.enter_context(Network(count))}
        links = list(LINKS)
        if not netem:  # the same link through the program, without a delay, shows what that costs
            networks[True] = stack.enter_context(Network(count, delaying=True))
        alone = Program([], 1)
        stack.callback(alone.end)
        programs = {delaying: network.start(folder) for delaying, network in networks.items()}
        for program in programs.values():
            stack.callback(program.end)
        for number in range(ROUNDS + 1):
            told: dict[tuple[str, str], Measured] = {}
            for work in ("training", f"training {BATCH // count}", "features", "captions"):
                told["one rank", work] = alone.ask(work)
            for name, link, delaying in _ways(links, netem):
                network, program = networks[delaying], programs[delaying]
                network.become(link)
                for work in ("exchange", "training", "features", "captions"):
                    told[name, work] = program.ask(work)
            if number:  # the first round compiles and warms up
                for key, measured in told.items():
                    found.setdefault(key, []).append(measured)
    _report(found, links, netem, count)


def _ways(links: Sequence[Link], netem: bool) -> Iterator[tuple[str, Link, bool]]:
    """Name, link, and whether it goes through the program that delays."""
    for link in links:
        through = bool(link.delay) and not netem
        if through:
            plain = Link(link.network)
            yield f"{plain.name}, through the program", plain, True
        yield link.name, link, through


def _report(found: Found, links: Sequence[Link], netem: bool, count: int) -> None:
    size = gradient_bytes()

    def milliseconds(name: str, work: str, things: int = 1) -> float:
        return 1000 * things * float(np.median([m.seconds for m in found[name, work]]))

    def rate(name: str, work: str) -> float:
        return float(np.median([m.rate for m in found[name, work]]))

    whole = milliseconds("one rank", "training", BATCH)
    part = milliseconds("one rank", f"training {BATCH // count}", BATCH // count)
    rows = []
    for name, link, _ in _ways(links, netem):
        exchange, step = milliseconds(name, "exchange"), milliseconds(name, "training", BATCH)
        model = None if link.model is None else 1000 * exchange_seconds(count, size, *link.model)
        rows.append(
            (
                name,
                f"{exchange:.0f}",
                "" if model is None else f"{model:.0f}",
                f"{step:.0f}",
                "" if model is None else f"{part + model:.0f}",
                f"{whole / step:.2f}",
                f"{rate(name, 'features') / rate('one rank', 'features'):.2f}",
                f"{rate(name, 'captions') / rate('one rank', 'captions'):.2f}",
                f"{np.median([m.sent for m in found[name, 'exchange']]) / 1e6:.1f}",
            )
        )
    write = sys.stdout.write
    write(
        f"a simulation: {count} ranks of one thread share the {os.cpu_count()} processors of this "
        "machine, each in a network namespace; medians of "
        f"{ROUNDS} rounds, milliseconds\n"
        f"one rank: a step of {BATCH} captions {whole:.0f}, of {BATCH // count} captions "
        f"{part:.0f}; {rate('one rank', 'features'):.0f} images' features and captions of "
        f"{rate('one rank', 'captions'):.0f} images per second, {IMAGES} at a time\n"
        f"model: an exchange of {size / 1e6:.1f} MB as benchmarks.ranks has it; a step is that and "
        f"the step of {BATCH // count} captions\n"
    )
    head = ("link", "exchange", "model", f"step of {BATCH}", "model")
    beside = ("step beside one rank", "features", "captions", "MB of an exchange from rank 0")
    write(format_table((*head, *beside), rows) + "\n")
    delays = "netem" if netem else "a program, for the kernel has no netem"
    write(f"delays, of each packet on its way from one rank to another, are made by {delays}\n")
    for name, _, through in _ways(links, netem):
        if through:
            spent = [BATCH * m.helped for m in found[name, "training"]]
            write(
                f"{name}: passing a step's packets on takes {1000 * np.median(spent):.0f} ms of "
                "processor time\n"
            )
    write(told_of_others([m for all_ in found.values() for m in all_]) + "\n")
    write(f"load of the machine: {os.getloadavg()[0]:.1f}; {time.strftime('%Y-%m-%d %H:%M')}\n")


def _count(arguments: Sequence[str]) -> int:
    """How many ranks are asked for: a power of two, so that they share a batch out evenly."""
    word = arguments[0] if arguments else "2"
    if word not in ("2", "4", "8", "16"):
        raise DlmieError(f"{word!r} ranks cannot be simulated: give 2, 4, 8 or 16")
    return int(word)


if __name__ == "__main__":
    try:
        main(_count(sys.argv[1:]))
    except DlmieError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
