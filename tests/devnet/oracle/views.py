"""What tests and the demo see of the Oracle over its `/devnet/` paths."""

from typing import Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tests.devnet.oracle.report import Dialect

Endpoint: TypeAlias = Literal["report", "register", "history", "health", "any"]


Moment: TypeAlias = Literal["before", "booking", "after"]


class View(BaseModel):
    """One immutable answer; unknown fields are mistakes."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class AgentView(View):
    """What the Oracle holds of one agent.

    Attributes:
        booked_tokens: what the agent is credited with.
        last_tokens: the cumulative value that the last accepted report carried.
        last_timestamp: that report's timestamp, 0 before the first.
        restarts: how often the cumulative value went down.
    """

    agent: str
    booked_tokens: int = 0
    booked_requests: int = 0
    last_tokens: int = 0
    last_requests: int = 0
    last_timestamp: int = 0
    accepted: int = 0
    refused: int = 0
    proofs: int = 0
    restarts: int = 0


class ReportView(View):
    """One accepted report; `booked` is what it added, `received_at` the Oracle's Unix time."""

    agent: str
    dialect: Dialect
    tokens: int
    requests: int
    latency_ms: float
    uptime_s: int
    timestamp: int
    proofs: int
    booked: int
    received_at: float


class RefusalView(View):
    """One message that was answered with an error; `agent` as far as it could be read, lower case."""

    agent: str | None
    path: str
    status: int
    message: tuple[str, ...]
    body: str
    received_at: float


class ProofView(View):
    """One row of the proofs table; `report` is the timestamp of the report that carried it."""

    agent: str
    report: int
    model_hash: str
    input_hash: str
    output_hash: str
    token_count: int


class RegistrationView(View):
    """One accepted announcement; `sponsored` if the Oracle registered the wallet on chain for it."""

    agent: str
    endpoint: str
    capabilities: tuple[str, ...]
    timestamp: int
    sponsored: bool


class Fault(View):
    """Something that goes wrong on purpose.

    Attributes:
        kind: what goes wrong:
            `delay`: go on after `seconds`; `hang`: never answer; `drop`: reset the connection without an answer;
            `status`: answer `status` with `message`, as a proxy or a crash would; `garbage`: a success status with a
            body that is no JSON; `truncate`: reset in the middle of the true answer; `repeat`: handle it twice,
            as behind a proxy that tries again, and answer for the second time; `refuse`: answer like a refusal of the
            Oracle's own, `status` and `message`; `error-body`: answer 200 with `"status": "error"`;
            `skew`: the Oracle's clock is `seconds` off; `rpc-down`: it cannot reach the chain;
            `database-down`: it cannot write.
        when: `before` the message is looked at, `booking`: between the checks and the booking (delay and hang only), or
            `after` it was accepted and booked: the client does not learn of it. Not used by the last three kinds.
        on: which endpoint.
        count: how many messages it hits, None for all until it is cleared.
        retry_after: the Retry-After header of a `status` or `refuse`, or None.
    """

    kind: Literal[
        "delay",
        "hang",
        "drop",
        "status",
        "garbage",
        "truncate",
        "repeat",
        "refuse",
        "error-body",
        "skew",
        "rpc-down",
        "database-down",
    ]
    when: Moment = "before"
    on: Endpoint = "report"
    count: int | None = Field(default=None, ge=1)
    seconds: float = 0.0
    status: int = Field(default=500, ge=200, le=599)
    message: str = "Internal server error"
    retry_after: str | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.when == "booking" and self.kind not in {"delay", "hang"}:
            raise ValueError("between the checks and the booking a message is delayed or hangs")
        return self
