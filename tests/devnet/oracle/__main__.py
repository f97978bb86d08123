"""Run an Oracle: `python -m tests.devnet.oracle --listen 127.0.0.1:0 --port-file PATH --rpc-url URL`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import cast

from tests.devnet.oracle.report import DIALECTS, Dialect
from tests.devnet.oracle.server import OracleConfig, listening, run_program


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is not HOST:PORT")
    return host.strip("[]"), int(port)


def _dialects(text: str) -> frozenset[Dialect]:
    names = frozenset(text.split(","))
    if unknown := names - frozenset(DIALECTS):
        raise argparse.ArgumentTypeError(f"unknown dialect {', '.join(sorted(unknown))}; there are {DIALECTS}")
    return cast("frozenset[Dialect]", names)


def main(argv: list[str]) -> int:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser(prog="python -m tests.devnet.oracle", description=__doc__)
    parser.add_argument("--listen", type=_address, default=("127.0.0.1", 3100), metavar="HOST:PORT")
    parser.add_argument("--port-file", type=Path, help="written once one may connect; useful with port 0")
    parser.add_argument("--rpc-url", help="the chain; without it only agents that the Oracle itself registers count")
    parser.add_argument("--sponsor-url", help="the devnet chain's admin port, to register wallets through")
    parser.add_argument("--database", type=Path, help="SQLite file, made if missing; without it all is in memory")
    parser.add_argument("--dialects", type=_dialects, default=frozenset(DIALECTS), metavar="NAME[,NAME]")
    arguments = parser.parse_args(argv)
    config = OracleConfig(
        rpc_url=arguments.rpc_url,
        sponsor_url=arguments.sponsor_url,
        database=arguments.database,
        dialects=arguments.dialects,
    )
    run_program(config, listening(*arguments.listen), arguments.port_file)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
