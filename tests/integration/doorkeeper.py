"""A control server in a process of its own, which starts a program as a daemon starts its engine.

    python -m tests.integration.doorkeeper SOCKET PROGRAM [ARGUMENT…]

The program is run as `python -c PROGRAM SOCKET [ARGUMENT…]`.
"""

import asyncio
import os
import sys
from functools import partial
from pathlib import Path

from plumised.engine.kinship import is_of_engine
from plumised.engine.processes import become_subreaper
from plumised.observe.control import ControlServer
from tests.integration.test_control_socket import Node


async def main() -> None:
    """Serve until killed."""
    path, program, *arguments = sys.argv[1:]
    become_subreaper()
    async with ControlServer(Path(path), Node(), partial(is_of_engine, daemon=os.getpid())):
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", program, path, *arguments)
        await child.wait()
        await asyncio.Event().wait()


asyncio.run(main())
