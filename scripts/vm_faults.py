"""What goes wrong around a guest: processes die and stop, and somebody in between lies."""

import contextlib
import random
import signal
import socket
import subprocess
import threading
import time

import cluster

PLAYED_SERVER = "target/release/examples/played_server"
# A guest knows the address of each, by its name in capitals.
PARTS = ["silent", "mute", "late", "same-generation", "old-number", "old-hello", "overtaking",
         "slow", "trickling", "forgetful"]


class Kills(threading.Thread):
    """Kills the processes of a cluster in turn and starts them again, until it is stopped."""

    def __init__(self, of):
        super().__init__()
        self.of = of
        self.count = 0
        self.over = threading.Event()
        self.start()

    def run(self):
        while not self.over.wait(5):
            rank = self.count % cluster.PROCESSES + 1
            self.of.kill(rank)
            time.sleep(2)
            self.of.start(rank)
            self.of.wait_for_status(0)
            self.count += 1

    def stop(self):
        self.over.set()
        self.join()
        return self.count


class Control(threading.Thread):
    """Does to a cluster what a guest asks for, one line each: pause all or RANK, continue, kill or
    start RANK, take-over, open-gates."""

    def __init__(self, of, gates):
        super().__init__(daemon=True)
        self.of = of
        self.gates = gates
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.start()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                with connection, connection.makefile("rw") as stream:
                    stream.write(self.obey(stream.readline().split()) + "\n")

    def obey(self, words):
        match words:
            case ["pause", *ranks]:
                for rank in map(int, ranks or self.of.children):
                    self.of.signal(rank, signal.SIGSTOP)
            case ["continue"]:
                for rank in self.of.children:
                    self.of.signal(rank, signal.SIGCONT)
                self.of.wait_for_status(0)
            case ["kill", rank]:
                self.of.kill(int(rank))
            case ["start", rank]:
                self.of.start(int(rank))
                self.of.wait_for_status(0)
            case ["take-over"]:
                subprocess.run([cluster.ATDD, "write", "--config", self.of.config, "--sector", "9",
                                "--take-over"], input=bytes(4096), check=True)
            case ["open-gates"]:
                for each in self.gates:
                    each.open()
            case _:
                return f"unknown: {words}"
        return "done"

    def stop(self):
        self.listener.close()
        for rank in self.of.children:
            self.of.signal(rank, signal.SIGCONT)


class Relay:
    """Stands before a process: what passes between it and its clients is `begin`'s."""

    def __init__(self, port):
        self.of = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                self.begin(client, socket.create_connection(("127.0.0.1", self.of)))

    def stop(self):
        self.listener.close()


class Gate(Relay):
    """Makes a process seem to know the classic protocol only, by keeping hellos from it, until it
    is opened; then connections end, as if the process had been replaced by a newer one."""

    # What follows the 24 bytes of a request's head, by its type.
    REST_BYTES = {0x01: 32, 0x02: 4096 + 32, 0x86: 32}

    def __init__(self, port):
        self.is_open = False
        self.sockets = []
        super().__init__(port)

    def begin(self, client, server):
        self.sockets += [client, server]
        start(pump if self.is_open else self.keep_hellos, client, server)
        start(pump, server, client)

    def keep_hellos(self, client, server):
        with contextlib.suppress(OSError), client.makefile("rb") as requests:
            while head := requests.read(24):
                rest = requests.read(self.REST_BYTES[head[7]])
                if head[7] != 0x86:
                    server.sendall(head + rest)
        shut_down(client, server)

    def open(self):
        self.is_open = True
        shut_down(*self.sockets)


class Played:
    """A process that plays one of the parts of examples/played_server.rs."""

    def __init__(self, key, part):
        self.child = subprocess.Popen([PLAYED_SERVER, "--key", key, "--part", part], text=True,
                                      stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                      stderr=subprocess.DEVNULL)
        self.port = int(self.child.stdout.readline().rsplit(":", 1)[1])

    def stop(self):
        self.child.kill()
        self.child.wait()
        self.child.stdout.close()


class Liar(Relay):
    """Now and then changes what a process says: a bit, some bytes too many, or the end of the
    connection. Some connections begin slowly."""

    # Of what a process says, in bytes, from one lie to the next; on average.
    HONEST_BYTES = 1 << 20
    # Longer than a driver waits for the answer to its first hello.
    SLOW_SECONDS = 0.8

    def __init__(self, port):
        self.lies = 0
        super().__init__(port)

    def begin(self, client, server):
        start(pump, client, server)
        start(pump, server, client, self.lie, random.choice([0, 0, self.SLOW_SECONDS]))

    def lie(self, data):
        if random.random() > len(data) / self.HONEST_BYTES:
            return data
        self.lies += 1
        place = random.randrange(len(data))
        match random.randrange(3):
            case 0:
                bit = bytes([data[place] ^ 1 << random.randrange(8)])
                return data[:place] + bit + data[place + 1:]
            case 1:
                return data[:place] + data[:48] + data[place:]
            case _:
                raise ConnectionError("a lie")


def start(target, *arguments):
    threading.Thread(target=target, args=arguments, daemon=True).start()


def pump(source, sink, change=bytes, delay=0):
    """Passes bytes on from one socket to another until either ends."""
    time.sleep(delay)
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(change(data))
    shut_down(source, sink)


def shut_down(*sockets):
    for each in sockets:
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
