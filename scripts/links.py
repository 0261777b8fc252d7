"""Links with a round-trip time on this machine, and how long their round trips really take."""

import contextlib
import socket
import statistics
import subprocess
import threading
import time

SLOW_LINK = "target/release/examples/slow_link"
PINGS = 200
PING_BYTES = 100


class SlowLink:
    """The way to a port of this machine by which every byte takes `delay_us` longer, either way."""

    def __init__(self, port, delay_us):
        self.child = subprocess.Popen(
            [SLOW_LINK, "--to", f"127.0.0.1:{port}", "--delay-us", str(delay_us)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.port = int(self.child.stdout.readline().rsplit(":", 1)[1])

    def stop(self):
        self.child.terminate()
        self.child.wait()
        self.child.stdout.close()


def echo(server):
    """Answers one connection with whatever it says."""
    connection = server.accept()[0]
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while said := connection.recv(PING_BYTES):
            connection.sendall(said)


def ping(port):
    """The median of round trips to an echo, in µs."""
    took = []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(PINGS):
            begin = time.perf_counter()
            connection.sendall(bytes(PING_BYTES))
            left = PING_BYTES
            while left:
                left -= len(connection.recv(left))
            took.append((time.perf_counter() - begin) * 1e6)
    return statistics.median(took)


def round_trip_us(delay_us):
    """What a round trip takes over links of this delay, or over loopback if that is `None`."""
    with socket.create_server(("127.0.0.1", 0)) as server, contextlib.ExitStack() as links:
        port = server.getsockname()[1]
        if delay_us is not None:
            link = SlowLink(port, delay_us)
            links.callback(link.stop)
            port = link.port
        echoing = threading.Thread(target=echo, args=(server,), daemon=True)
        echoing.start()
        took = ping(port)
        echoing.join()
        return took


def delay_for(wanted_us):
    """The delay of links whose round trips take about so long: less than half of that, since the
    relay and the kernel take their time too."""
    beside = round_trip_us(wanted_us // 2) - wanted_us
    return max(0, round((wanted_us - beside) / 2))
