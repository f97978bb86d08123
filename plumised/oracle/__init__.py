"""The Oracle: signed reports over HTTP. docs/wire-formats.md describes what is sent."""

from plumised.oracle.answers import Announced, Refusal, Refused, Unknown, Unsent
from plumised.oracle.client import OracleClient
from plumised.oracle.formats import Dialect
from plumised.oracle.planning import Policy
from plumised.oracle.problems import Trouble
from plumised.oracle.register import Announcer
from plumised.oracle.reporter import Reporter
from plumised.oracle.signing import Signer
from plumised.oracle.snapshot import ReporterProblem, ReporterSnapshot

__all__ = [
    "Announced",
    "Announcer",
    "Dialect",
    "OracleClient",
    "Policy",
    "Refusal",
    "Refused",
    "Reporter",
    "ReporterProblem",
    "ReporterSnapshot",
    "Signer",
    "Trouble",
    "Unknown",
    "Unsent",
]
