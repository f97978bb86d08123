"""Clients of the swarm, as programs of the engine's environment, and the object with which a test drives one."""

from tests.devnet.client.process import ClientError, Generation, Generations, LanguageModelClient, Request

__all__ = ["ClientError", "Generation", "Generations", "LanguageModelClient", "Request"]
