"""An Oracle for tests and the demo: it answers, books and above all refuses as the network's own does.

Facts are from docs/wire-formats.md. What that page leaves open is decided for the stricter side.
"""

from tests.devnet.oracle.client import OracleControl
from tests.devnet.oracle.server import DevOracle, OracleConfig
from tests.devnet.oracle.views import AgentView, Fault, ProofView, RefusalView, RegistrationView, ReportView

__all__ = [
    "AgentView",
    "DevOracle",
    "Fault",
    "OracleConfig",
    "OracleControl",
    "ProofView",
    "RefusalView",
    "RegistrationView",
    "ReportView",
]
