"""A stand-in for the engine at the level of processes: real processes, sockets and signals; no model.

It speaks the real protocol through plumised.ipc. The job's `model` names what it does wrong, and files in the job's
runtime directory let a test direct it:

    serve        handlers count a token for every file `work-N` that they see first and reply in `served-PID`; while
                 `spin` exists and `calm` does not, main works without beating
    crash        a traceback, status 1
    refuse       a Failure that is permanent, status 78
    vanish       ends with status 0 once `vanish` exists
    slow         stays in loading until `loaded` exists
    sleepy       stops itself while loading
    deaf         does not end for SIGINT, and its children not for SIGTERM
    careless     ends for SIGINT but leaves its children, which ignore SIGTERM
    mute         never says hello; leaves the file `mute`, and `interrupted` if it is
    flood        throws garbage at the socket before and while it serves
    future       speaks another protocol
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from plumised.ipc.channel import Channel, Pace
from plumised.ipc.job import EngineJob
from plumised.ipc.messages import PROTOCOL, Beat, Counters, Failure, Hello, Phase, Refused, Role, State, Usage
from plumised.ipc.tally import TallyWriter, tally_path

STEP_S = 0.02
PR_SET_NAME = 15
GARBAGE = [b"", b"\xff" * 100, b"\x00\x00\x00\x02{}", b"GET / HTTP/1.1\r\n\r\n", b"\x00\x00"]


def refused(refusal: Refused) -> None:
    sys.stderr.write(f"{refusal.code}: {refusal.message}\n")
    sys.stderr.flush()
    os._exit(78)


def open_channel(job: EngineJob, role: Role, index: int) -> Channel:
    protocol = PROTOCOL + (job.model == "future")
    channel = Channel(
        Path(job.socket),
        Hello(protocol, job.incarnation, role, index, os.getpid()),
        on_refused=refused,
        pace=Pace(interval_s=STEP_S),
    )
    channel.start()
    return channel


def throw_garbage(job: EngineJob, number: int) -> None:
    with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(OSError):
        connection.connect(job.socket)
        connection.sendall(GARBAGE[number % len(GARBAGE)])


def handler(job: EngineJob, index: int) -> NoReturn:
    channel = open_channel(job, Role.HANDLER, index)
    tally = TallyWriter(tally_path(Path(job.tally_dir), job.incarnation, index, os.getpid()))
    directory = Path(job.runtime_dir)
    replies = (directory / f"served-{os.getpid()}").open("ab", buffering=0)
    tokens = loop = 0
    while True:
        loop += 1
        for work in directory.glob("work-*"):
            try:
                work.rename(directory / f"done-{work.name}")
            except FileNotFoundError:
                continue  # another handler was faster
            tokens += 1
            usage = Usage(
                Counters(tokens=tokens, steps=tokens, requests=tokens, service_us=tokens), Counters(), Counters()
            )
            tally.write(usage)
            replies.write(b".")
            channel.publish(usage)
        channel.publish(Beat(loop=loop))
        time.sleep(STEP_S)


@dataclass
class Echo:
    """A child that answers each byte with one, as the DHT's process and p2pd answer requests."""

    pid: int
    link: socket.socket
    answers: int = 0

    def ask(self) -> int:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            self.answers += len(self.link.recv(1000))
        with contextlib.suppress(BlockingIOError, ConnectionError):
            self.link.send(b"?")
        return self.answers


def echo(name: str) -> Echo:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    pid = os.fork()
    if pid == 0:
        ours.close()
        ctypes.CDLL(None).prctl(PR_SET_NAME, name.encode(), 0, 0, 0)
        ignore_interrupts()
        while data := theirs.recv(1000):
            theirs.send(data)
        while True:  # as a p2pd that outlives the process which started it
            signal.pause()
    theirs.close()
    return Echo(pid, ours)


def ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def be_mute(directory: Path) -> NoReturn:
    signal.signal(signal.SIGINT, lambda _number, _frame: (directory / "interrupted").touch())
    (directory / "mute").touch()
    while True:
        signal.pause()


class Main:
    def __init__(self, job: EngineJob) -> None:
        self.job = job
        self.directory = Path(job.runtime_dir)
        self.channel = open_channel(job, Role.MAIN, 0)
        self.parts: dict[str, Echo] = {}
        self.handlers: list[int] = []
        self.ended: list[str] = []
        self.loop = 0
        self.stopping = False
        signal.signal(signal.SIGINT, self.on_interrupt)

    def on_interrupt(self, _number: int, _frame: object) -> None:
        self.stopping = self.job.model != "deaf"

    def run(self) -> int:
        if self.job.model == "crash":
            raise RuntimeError("something broke: [Errno 28] No space left on device")
        if self.job.model == "refuse":
            self.channel.publish(
                Failure("span", "blocks 7:9 are outside of the model's 6", "Set engine.blocks.", permanent=True)
            )
            self.channel.close(5)
            return 78
        self.load()
        self.fork()
        self.serve()
        return self.end()

    def load(self) -> None:
        self.channel.publish(State(Phase.JOINING))
        self.channel.publish(State(Phase.LOADING, block=0, blocks=2))
        if self.job.model == "sleepy":
            time.sleep(5 * STEP_S)
            os.kill(os.getpid(), signal.SIGSTOP)
        while self.job.model == "slow" and not self.stopping and not (self.directory / "loaded").exists():
            self.beat()

    def fork(self) -> None:
        self.parts = {"dht": echo("python"), "p2pd": echo("p2pd")}
        for index in range(self.job.handlers):
            pid = os.fork()
            if pid == 0:
                ignore_interrupts()
                handler(self.job, index)
            self.handlers.append(pid)

    def serve(self) -> None:
        if self.stopping:
            return
        self.channel.publish(
            State(Phase.ONLINE, start=0, end=2, total_blocks=6, peer_id="12D3KooW", dtype="float32", device="cpu")
        )
        while not self.stopping:
            if (self.directory / "spin").exists() and not (self.directory / "calm").exists():
                continue
            if self.job.model == "vanish" and (self.directory / "vanish").exists():
                sys.exit(0)
            if self.job.model == "flood":
                throw_garbage(self.job, self.loop)
            self.beat()

    def beat(self) -> None:
        self.loop += 1
        answers = {name: part.ask() for name, part in self.parts.items()}
        self.channel.publish(
            Beat(
                loop=self.loop,
                runtime=self.loop,
                dht=answers.get("dht", 0),
                p2pd=answers.get("p2pd", 0),
                dead=tuple(self.dead()),
            )
        )
        time.sleep(STEP_S)

    def dead(self) -> list[str]:
        children = {f"handler-{index}": pid for index, pid in enumerate(self.handlers)}
        children |= {name: part.pid for name, part in self.parts.items()}
        for name, pid in children.items():
            if name not in self.ended and os.waitpid(pid, os.WNOHANG) != (0, 0):
                self.ended.append(name)
        return self.ended

    def end(self) -> int:
        self.channel.publish(State(Phase.DRAINING))
        if self.job.model != "careless":
            for pid in [*self.handlers, *(part.pid for part in self.parts.values())]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.channel.publish(State(Phase.STOPPED))
        self.channel.close(5)
        return 0


if __name__ == "__main__":
    given = EngineJob.from_json(sys.stdin.read())
    if given.model == "mute":
        be_mute(Path(given.runtime_dir))
    sys.exit(Main(given).run())
