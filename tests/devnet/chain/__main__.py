"""The devnet's chain as a program; its usage is in the package's docstring."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path

from eth_utils.address import is_address

from tests.devnet.chain.model import Mining, MiningMode
from tests.devnet.chain.server import Options, Ports, serve


def _endpoint(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def _fund(text: str) -> tuple[bytes, int]:
    address, _, wei = text.partition("=")
    if not is_address(address) or not wei.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not ADDRESS=WEI")
    return bytes.fromhex(address.removeprefix("0x")), int(wei)


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.devnet.chain", description="A Plumise chain for tests.")
    parser.add_argument("--listen", type=_endpoint, default=("127.0.0.1", 8545), metavar="HOST:PORT")
    parser.add_argument("--admin-port", type=int, default=0, metavar="PORT", help="default: a free one")
    parser.add_argument("--port-file", type=Path, metavar="PATH", help="written once both ports listen")
    timing = parser.add_mutually_exclusive_group()
    timing.add_argument("--block-time", type=float, metavar="S", help="a block every S seconds, not one as needed")
    timing.add_argument("--manual", action="store_true", help="blocks only when asked for")
    parser.add_argument("--fund", type=_fund, action="append", default=[], metavar="ADDRESS=WEI")
    parser.add_argument("--base-fee", type=int, default=0, metavar="WEI")
    parser.add_argument("--min-tip", type=int, default=0, metavar="WEI")
    parser.add_argument("--epoch-blocks", type=int, default=1200, metavar="N")
    return parser.parse_args(argv)


def _mining(arguments: argparse.Namespace) -> Mining:
    if arguments.manual:
        return Mining(mode=MiningMode.MANUAL)
    if arguments.block_time is not None:
        return Mining(mode=MiningMode.INTERVAL, interval_s=arguments.block_time)
    return Mining(mode=MiningMode.INSTANT)


async def _run(arguments: argparse.Namespace) -> None:
    host, port = arguments.listen
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    def started(ports: Ports) -> None:
        if arguments.port_file is not None:
            _publish(arguments.port_file, ports)
        print(f"chain at {ports.url}, admin at {ports.admin_url}", flush=True)

    options = Options(
        funds=dict(arguments.fund),
        mining=_mining(arguments),
        base_fee=arguments.base_fee,
        min_tip=arguments.min_tip,
        epoch_blocks=arguments.epoch_blocks,
        host=host,
        port=port,
        admin_port=arguments.admin_port,
    )
    await serve(options, started, stop)


def _publish(path: Path, ports: Ports) -> None:
    """Write the ports so that a reader never sees half of them."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(f"{ports.rpc}\n{ports.admin}\n")
    draft.replace(path)


def main(argv: list[str]) -> int:
    try:
        asyncio.run(_run(_arguments(argv)))
    except OSError as error:
        print(f"cannot listen: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
