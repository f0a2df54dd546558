"""How this node and the one where all meet reach each other; called by launch/torchrun when there are several nodes.

    python launch/meeting.py HEAD PORT [SECONDS]    prints three words: ADDRESS HOSTS INTERFACE

ADDRESS is where the other nodes reach this one: the address from which it would send to the head. HOSTS is 1 when
HEAD is an address of this node, 0 otherwise. INTERFACE is the network interface of ADDRESS, - when it is not known.

Why not leave it to torch: it tells other nodes this one's full name, which many of them cannot resolve, compares the
head's name with one address of this node only (an InfiniBand address is another one), and gloo listens on whatever
address the name means, which on Debian is the loopback.
"""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct
import sys
import time

SIOCGIFADDR = 0x8915
"""Linux: the IPv4 address of an interface."""


def resolve(head: str, port: int, seconds: float) -> tuple[socket.AddressFamily, tuple]:
    """The first address of the head, for which a new pod's name may take a while."""
    deadline = time.monotonic() + seconds
    waiting = False
    while True:
        try:
            family, _, _, _, address = socket.getaddrinfo(head, port, type=socket.SOCK_DGRAM)[0]
        except socket.gaierror as error:
            if time.monotonic() > deadline:
                sys.stderr.write(
                    f"error: --head {head} has no address ({error.strerror}); name a node that all others can reach\n"
                )
                sys.exit(2)
        else:
            return family, address
        if not waiting:
            sys.stderr.write(f"waiting up to {seconds:.0f} s for {head} to get an address\n")
            waiting = True
        time.sleep(1)


def source_of(family: socket.AddressFamily, address: tuple) -> str:
    """The own address from which this node sends there; a datagram socket finds it without sending anything."""
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(address)
        except OSError as error:
            sys.stderr.write(f"error: this node has no way to {address[0]} ({error.strerror})\n")
            sys.exit(2)
        return probe.getsockname()[0]


def interface_of(address: str) -> str | None:
    """The interface with this IPv4 address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(probe, SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:
                continue  # an interface without an address
            if socket.inet_ntoa(answer[20:24]) == address:
                return name
    return None


def meeting(head: str, port: int, seconds: float) -> tuple[str, bool, str]:
    """See the head of this file."""
    family, address = resolve(head, port, seconds)
    mine = source_of(family, address)
    if ipaddress.ip_address(mine).is_loopback:
        # Of the head's own name, as Debian writes it into /etc/hosts, or a test on one machine: others know the name.
        return head, False, "-"
    return mine, mine == address[0], interface_of(mine) or "-"


if __name__ == "__main__":
    where, hosts, interface = meeting(
        sys.argv[1], int(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else 300.0
    )
    sys.stdout.write(f"{where} {int(hosts)} {interface}\n")
