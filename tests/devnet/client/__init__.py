"""Clients of the swarm, as programs of the engine's environment, and the object with which a test drives one."""

from tests.devnet.client.process import ClientError, Generation, LanguageModelClient, Request

__all__ = ["ClientError", "Generation", "LanguageModelClient", "Request"]
