"""`[metrics]`."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from plumised.config import urls
from plumised.config.sections.section import Section
from plumised.config.urls import Listen


class MetricsSettings(Section, frozen=True):
    """Metrics for Prometheus, and /health."""

    listen: Annotated[Listen | None, BeforeValidator(urls.listen)] = Field(
        Listen("127.0.0.1", 9464), description='IP address and port to serve /metrics and /health on, or "off".'
    )
