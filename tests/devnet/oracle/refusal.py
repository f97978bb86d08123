"""What the Oracle answers when it does not take a message."""

from __future__ import annotations

from http import HTTPStatus


class Refused(Exception):  # noqa: N818 - named as what it is in the protocol
    """A message that is answered with an error.

    Attributes:
        status: HTTP status of the answer.
        message: one sentence, or one per wrong field: a client tells the two apart by the JSON type.
    """

    def __init__(self, status: int, message: str | tuple[str, ...]) -> None:
        super().__init__(message)
        self.status = status
        self.message = message

    def body(self) -> dict[str, object]:
        """The answer's JSON."""
        message = self.message if isinstance(self.message, str) else list(self.message)
        return {"message": message, "error": HTTPStatus(self.status).phrase, "statusCode": self.status}


def invalid_signature() -> Refused:
    """The signer is not who the message says, or the message's time is not ours: the answer does not tell which."""
    return Refused(401, "Invalid signature")


def replay() -> Refused:
    """The timestamp is not above that of the last accepted report."""
    return Refused(400, "Replay detected: timestamp must be strictly increasing")


def not_registered() -> Refused:
    """The chain does not know the agent, or the Oracle could not ask it: the answer does not tell which."""
    return Refused(400, "Agent not registered on-chain")


def too_many_tokens() -> Refused:
    """The cumulative count is above the cap."""
    return Refused(400, "Token count exceeds maximum allowed")


def internal() -> Refused:
    """The database did not take it."""
    return Refused(400, "Internal server error")


def too_large() -> Refused:
    """The body has too many bytes."""
    return Refused(413, "request entity too large")


def no_such_path(method: str, path: str) -> Refused:
    """This Oracle does not speak that dialect."""
    return Refused(404, f"Cannot {method} {path}")
