"""`[oracle]`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from plumised.config import urls
from plumised.config.sections.section import Section, Url


class OracleSettings(Section, frozen=True):
    """The Oracle: the service that books the work."""

    enabled: bool = Field(True, description="Report work to the Oracle.")
    url: Url = Field("http://localhost:3100", description="Where the Oracle answers.")
    dialect: Literal["auto", "report-v1", "metrics-v1"] = Field(
        "auto",
        description="What the Oracle speaks: auto (find out), report-v1 or metrics-v1; see docs/wire-formats.md.",
    )
    interval_s: Annotated[float, Field(ge=1, le=3600, allow_inf_nan=False)] = Field(
        60.0, description="Time between reports, in seconds."
    )
    timeout_s: Annotated[float, Field(gt=0, le=55, allow_inf_nan=False)] = Field(
        15.0, description="How long one report may take, in seconds; at 60 s its timestamp is too old."
    )
    proofs: bool = Field(
        True,
        description="Prove each served request with digests of what passed; metrics-v1 carries proofs, report-v1 not.",
    )
    registration: Literal["auto", "always", "never"] = Field(
        "auto",
        description="Have the Oracle register the node: auto (when an endpoint is set or the wallet is empty), always "
        "or never.",
    )
    registration_timeout_s: Annotated[float, Field(ge=45, le=600, allow_inf_nan=False)] = Field(
        60.0, description="How long a registration through the Oracle may take, in seconds; up to 30 are usual."
    )
    endpoint: Annotated[str, AfterValidator(urls.endpoint)] | None = Field(
        None,
        description="URL that the Oracle announces for this node; its host is an IP address or has a dot.",
        examples=["http://203.0.113.7:31331"],
    )
