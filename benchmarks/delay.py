"""A switch that passes packets on after a delay, for kernels without netem.

    python -m benchmarks.delay NAMESPACE=ADDRESS …

makes a device ``eth0`` in each namespace (TUN: packets without Ethernet's header), and passes what
is sent through it on to the device of the address that it is for.  Each line of standard input is a
delay in seconds from then on, and is answered; it ends with the input.  For
:mod:`benchmarks.network`.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Mapping

LARGEST = 1 << 16
CLONE_NEWNET = 0x40000000  # linux/sched.h
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000  # linux/if_tun.h


def open_device(namespace: str) -> int:
    """A file of the packets of a new device in a namespace; this process enters it."""
    with open(f"/run/netns/{namespace}", "rb") as space:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(space.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter the namespace {namespace}")
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH14x", b"eth0", IFF_TUN | IFF_NO_PI))
    return device


def pass_on(devices: Mapping[bytes, int], delays: int, answers: int) -> None:
    """Pass packets on until there are no more delays.

    Parameters
    ----------
    devices : dict of int
        Files by the IPv4 address that they lead to.
    delays, answers : int
        Files: a delay is read from the one, and written to the other once it counts.
    """
    delay, waiting = 0.0, deque[tuple[float, int, bytes]]()
    while True:
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, device, packet = waiting.popleft()
            with contextlib.suppress(BlockingIOError):  # lost, as on a network
                os.write(device, packet)
        rest = waiting[0][0] - now if waiting else None
        ready, _, _ = select.select([delays, *devices.values()], [], [], rest)
        for file in ready:
            if file == delays:
                line = os.read(file, 100)
                if not line:
                    return
                delay = float(line)
                os.write(answers, line)
                continue
            due = time.monotonic() + delay
            try:
                packet = os.read(file, LARGEST)
            except BlockingIOError:
                continue
            target = devices.get(packet[16:20]) if packet[0] >> 4 == 4 else None
            if target is not None:
                waiting.append((due, target, packet))


if __name__ == "__main__":
    pairs = [argument.split("=") for argument in sys.argv[1:]]
    devices = {socket.inet_aton(address): open_device(space) for space, address in pairs}
    pass_on(devices, sys.stdin.fileno(), sys.stdout.fileno())
