"""The control socket's client, as the command line uses it: blocking, standard library only."""

from __future__ import annotations

import http.client
import json
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from plumised.errors import OperatorError, PlumisedError

if TYPE_CHECKING:
    from pathlib import Path

ANSWER_TIMEOUT_S = 10.0
"""How long the daemon may take to answer; what takes longer names its own time."""
CHAIN_TIMEOUT_S = 60.0
"""How long it may take when the daemon has to ask the chain."""
END_POLL_S = 0.1
MAX_ANSWER_BYTES = 4 << 20


class ControlError(PlumisedError):
    """The daemon refused what was asked, or its answer makes no sense.

    Attributes:
        reason: the code that the daemon gave; that of this class where it gave none.
    """

    code = "control-refused"

    def __init__(self, message: str, remedy: str, reason: str | None = None) -> None:
        super().__init__(message, remedy)
        self.reason = reason or self.code

    def __str__(self) -> str:
        return f"{self.message} ({self.reason}). {self.remedy}"


class NoDaemonError(PlumisedError):
    """No daemon answers at the control socket."""

    code = "no-daemon"


class SocketForbiddenError(NoDaemonError):
    """The control socket is not open to this user."""

    code = "control-forbidden"


class ControlTimeoutError(PlumisedError):
    """What was waited for did not come in time."""

    code = "timeout"


class ReloadRefusedError(OperatorError):
    """The daemon does not take the configuration that it was told to read again, and goes on as before.

    Attributes:
        reasons: one complete line each.
    """

    code = "reload-refused"

    def __init__(self, message: str, remedy: str, reasons: tuple[str, ...]) -> None:
        super().__init__(message, remedy)
        self.reasons = reasons


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("plumised", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


@dataclass(frozen=True, slots=True)
class ControlClient:
    """Asks the daemon that listens at a control socket.

    Every method raises `NoDaemonError` if there is none, `ControlTimeoutError` when an answer does not come in time,
    and `ControlError` when the daemon refuses.
    """

    socket_path: Path

    def status(self, form: str = "json") -> str:
        """The status as the daemon renders it: `json` or `text`."""
        return self._ask("GET", f"/v1/status?{urlencode({'format': form})}", ANSWER_TIMEOUT_S)

    def wait(self, condition: str, timeout_s: float) -> str:
        """Wait until the condition holds (`serving`, `registered` or `stopped`); the status at that time as JSON."""
        query = urlencode({"for": condition, "timeout_s": timeout_s})
        return self._ask("GET", f"/v1/wait?{query}", timeout_s + ANSWER_TIMEOUT_S)

    def wait_for_end(self, timeout_s: float) -> None:
        """Wait until no daemon listens at the socket; returns at once if none does.

        Raises:
            ControlTimeoutError: one still does after this time.
        """
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0:
            try:
                self.wait("stopped", left)
            except SocketForbiddenError:
                raise
            except NoDaemonError:
                if not self._listens():
                    return
            time.sleep(min(END_POLL_S, left))
        raise ControlTimeoutError(
            f"The daemon at {self.socket_path} has not ended after {timeout_s:g} s",
            "Look at plumised status, or wait longer with --timeout.",
        )

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(ANSWER_TIMEOUT_S)
            try:
                probe.connect(str(self.socket_path))
            except OSError:
                return False
            return True

    def stop(self) -> None:
        """Have the daemon stop; returns as soon as it has begun."""
        self._ask("POST", "/v1/stop", ANSWER_TIMEOUT_S)

    def restart_engine(self) -> None:
        """Have the engine stopped and started again; returns as soon as that has begun."""
        self._ask("POST", "/v1/restart-engine", ANSWER_TIMEOUT_S)

    def reload(self, timeout_s: float) -> str:
        """Have the configuration read again; what came of it as JSON (`plumised.observe.reloaded.Reloaded`).

        Raises:
            ReloadRefusedError: the daemon goes on as before, for the reasons that the error has.
        """
        return self._ask("POST", f"/v1/reload?{urlencode({'timeout_s': timeout_s})}", timeout_s + ANSWER_TIMEOUT_S)

    def rewards(self) -> str:
        """What the chain says of the agent's rewards, as JSON."""
        return self._ask("GET", "/v1/rewards", CHAIN_TIMEOUT_S)

    def claim(self, *, dry_run: bool, timeout_s: float) -> str:
        """Claim rewards; what came of it as JSON (`plumised.observe.deeds.Deed`)."""
        query = urlencode({"dry_run": int(dry_run), "timeout_s": timeout_s})
        return self._ask("POST", f"/v1/claim?{query}", timeout_s + ANSWER_TIMEOUT_S)

    def register(self, *, registry: bool, dry_run: bool, timeout_s: float) -> str:
        """Have the agent registered; what came of it as JSON (`plumised.observe.deeds.Deed`)."""
        query = urlencode({"registry": int(registry), "dry_run": int(dry_run), "timeout_s": timeout_s})
        return self._ask("POST", f"/v1/register?{query}", timeout_s + ANSWER_TIMEOUT_S)

    def _ask(self, method: str, target: str, timeout_s: float) -> str:
        connection = _UnixConnection(self.socket_path, timeout_s)
        try:
            connection.request(method, target)
            response = connection.getresponse()
            announced = response.length
            raw = response.read(MAX_ANSWER_BYTES)
            if announced is not None and len(raw) < announced:
                raise http.client.IncompleteRead(raw)
        except TimeoutError:
            raise ControlTimeoutError(
                f"The daemon at {self.socket_path} did not answer within {timeout_s:g} s",
                "See its log: journalctl -u plumised.",
            ) from None
        except PermissionError:
            raise SocketForbiddenError(
                f"The control socket {self.socket_path} is not open to this user",
                "Run the command as root or as a member of the group plumise.",
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise NoDaemonError(
                f"No daemon answers at {self.socket_path}: {_why(error)}",
                "Start it with `systemctl start plumised`, or name its socket with --socket.",
            ) from None
        finally:
            connection.close()
        body = raw.decode("utf-8", "replace")
        if response.status == http.HTTPStatus.OK:
            return body
        raise _refusal(response.status, body)


def _why(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such socket"
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there"
    return "it closed the connection"


def _refusal(status: int, body: str) -> PlumisedError:
    """The error that the daemon's answer describes."""
    try:
        answer = json.loads(body)
        message, remedy = str(answer["message"]), str(answer["remedy"])
        code = str(answer["code"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return ControlError(
            f"The daemon answered {status} in a form that this program does not know",
            "Use the command line of the same version as the daemon.",
        )
    if status == http.HTTPStatus.UNPROCESSABLE_ENTITY:
        return ReloadRefusedError(message, remedy, tuple(str(reason) for reason in answer.get("reasons", ())))
    if status == http.HTTPStatus.REQUEST_TIMEOUT:
        return ControlTimeoutError(message, remedy)
    return ControlError(message, remedy, code)
