"""An Oracle for tests and the demo: it answers, books and above all refuses as the network's own does.

Facts are from docs/wire-formats.md. What that page leaves open is decided for the stricter side.

In a test::

    async with DevOracle(OracleConfig(rpc_url=chain.url, sponsor_url=chain.admin_url)) as oracle:   # its own thread
        oracle.url                                                     # both dialects, /health, /api/nodes/register
        (await oracle.control.agent(address)).booked_tokens            # agents, reports, refusals, proofs, …
        await oracle.control.switch_on(Fault(kind="drop", when="after", count=1))
        await oracle.stop(); await oracle.start()                      # same port; OracleConfig(database=…) remembers

Without `rpc_url` it has a list of registered agents: OracleConfig(listed=…), control.list_agent. OracleProcess is the
same as a child process that can be killed. As a program::

    python -m tests.devnet.oracle --listen 127.0.0.1:0 --port-file PATH [--rpc-url URL] [--sponsor-url URL]
        [--database PATH] [--dialects report-v1,metrics-v1]

PATH appears, with the port, once it listens. SIGTERM and SIGINT end it with status 0. OracleControl(url) asks it.
"""

from tests.devnet.oracle.client import OracleControl
from tests.devnet.oracle.process import OracleProcess
from tests.devnet.oracle.server import DevOracle, OracleConfig
from tests.devnet.oracle.views import AgentView, Fault, ProofView, RefusalView, RegistrationView, ReportView

__all__ = [
    "AgentView",
    "DevOracle",
    "Fault",
    "OracleConfig",
    "OracleControl",
    "OracleProcess",
    "ProofView",
    "RefusalView",
    "RegistrationView",
    "ReportView",
]
