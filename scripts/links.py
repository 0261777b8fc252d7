"""Links with a round-trip time on this machine, and how long their round trips really take."""

import socket
import statistics
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

SLOW_LINK = "target/release/examples/slow_link"
PINGS = 200
PING_BYTES = 100
PING_EVERY_S = 0.02


class SlowLink:
    """The way to a port of this machine on which every byte is held for `delay_us`, either way."""

    def __init__(self, port, delay_us, listen=0):
        self.child = subprocess.Popen(
            [SLOW_LINK, "--to", f"127.0.0.1:{port}", "--delay-us", str(delay_us),
             "--listen", f"127.0.0.1:{listen}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.port = int(self.child.stdout.readline().rsplit(":", 1)[1])

    def stop(self):
        self.child.terminate()
        self.child.wait()
        self.child.stdout.close()


class Echo:
    """A server that answers whatever it hears, at the other end of a slow link with this delay, or
    of loopback as it is if that is `None`."""

    def __init__(self, delay_us):
        self.server = socket.create_server(("127.0.0.1", 0))
        port = self.server.getsockname()[1]
        self.link = None if delay_us is None else SlowLink(port, delay_us)
        self.thread = threading.Thread(target=self.answer, daemon=True)
        self.thread.start()
        self.connection = socket.create_connection(
            ("127.0.0.1", self.link.port if self.link else port))
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def answer(self):
        with self.server.accept()[0] as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while heard := connection.recv(PING_BYTES):
                connection.sendall(heard)

    def ping(self):
        """One round trip, in µs."""
        begin = time.perf_counter()
        self.connection.sendall(bytes(PING_BYTES))
        left = PING_BYTES
        while left:
            left -= len(self.connection.recv(left))
        return (time.perf_counter() - begin) * 1e6

    def alone_us(self):
        """The median of round trips one after another, while nothing else of ours goes on."""
        return statistics.median(self.ping() for _ in range(PINGS))

    def beside(self, work):
        """Does the work; gives its result, and the median of some round trips meanwhile. They are
        longer, since they wait for processors that are busy, or sleep."""
        took = []
        with ThreadPoolExecutor(max_workers=1) as pool:
            working = pool.submit(work)
            while not working.done():
                took.append(self.ping())
                time.sleep(PING_EVERY_S)
            return working.result(), statistics.median(took)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()
        self.thread.join()
        self.server.close()
        if self.link:
            self.link.stop()


def delay_for(round_trip_us):
    """That of links whose round trips alone take about so long. It is less than half of it, since
    whoever waits on the way has to be woken up too."""
    delay_us = round_trip_us * 2 // 5
    with Echo(delay_us) as echo:
        waking_us = echo.alone_us() - 2 * delay_us
    return max(0, round((round_trip_us - waking_us) / 2))
