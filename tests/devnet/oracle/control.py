"""The paths under `/devnet/`: what was booked, refused and registered, and the switches of the faults."""

from fastapi import FastAPI, HTTPException, Response

from tests.devnet.oracle.registry import ListedRegistry
from tests.devnet.oracle.service import Service
from tests.devnet.oracle.store import Store
from tests.devnet.oracle.views import AgentView, Fault, ProofView, RefusalView, RegistrationView, ReportView


def add_paths(app: FastAPI, service: Service) -> None:
    """Add them. No fault touches them."""
    _add_queries(app, service.store)
    _add_switches(app, service)


def _add_queries(app: FastAPI, store: Store) -> None:

    @app.get("/devnet/agents")
    async def agents() -> list[AgentView]:
        return store.agents()

    @app.get("/devnet/agents/{agent}")
    async def agent(agent: str) -> AgentView:
        return store.agent(agent.lower())

    @app.get("/devnet/reports")
    async def reports(agent: str | None = None) -> list[ReportView]:
        return store.reports(_lower(agent))[::-1]

    @app.get("/devnet/refusals")
    async def refusals(agent: str | None = None) -> list[RefusalView]:
        return store.refusals(_lower(agent))

    @app.get("/devnet/proofs")
    async def proofs(agent: str | None = None) -> list[ProofView]:
        return store.proofs(_lower(agent))

    @app.get("/devnet/registrations")
    async def registrations(agent: str | None = None) -> list[RegistrationView]:
        return store.registrations(_lower(agent))


def _add_switches(app: FastAPI, service: Service) -> None:
    faults = service.faults

    @app.put("/devnet/listed/{agent}")
    async def list_agent(agent: str) -> Response:
        if not isinstance(service.registry, ListedRegistry):
            raise HTTPException(409, "this Oracle asks a chain who is registered")
        service.registry.agents.add(agent.lower())
        return Response(status_code=204)

    @app.get("/devnet/faults")
    async def active() -> list[Fault]:
        return list(faults.active)

    @app.post("/devnet/faults")
    async def switch_on(fault: Fault) -> Response:
        faults.add(fault)
        return Response(status_code=204)

    @app.delete("/devnet/faults")
    async def clear() -> Response:
        faults.clear()
        return Response(status_code=204)


def _lower(agent: str | None) -> str | None:
    return None if agent is None else agent.lower()
