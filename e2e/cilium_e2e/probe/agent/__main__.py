"""The command line: serve, ready, batch or once."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal

from . import CONCURRENT
from .batch import once, serve_batches
from .responder import ready, serve
from .zone import Zone


def main() -> None:
    """Run one of the four commands."""

    def ports(text: str) -> list[int]:
        return [int(port) for port in text.split(",") if port]

    parser = argparse.ArgumentParser(prog="agent", description="Answer probes with a name, or make them.")
    parser.add_argument("--name", default=os.environ.get("AGENT_NAME", ""), help="default: $AGENT_NAME")
    commands = parser.add_subparsers(dest="command", required=True)
    serving = commands.add_parser("serve", help="answer on these ports until the end")
    for protocol in ("tcp", "udp", "sctp", "http"):
        serving.add_argument(f"--{protocol}", type=ports, default=[], metavar="PORT,PORT...")
    serving.add_argument("--dns", type=ports, default=[], metavar="PORT,PORT...")
    serving.add_argument(
        "--record", action="append", default=[], metavar="NAME=ADDRESS", help="a name the DNS ports know"
    )
    waiting = commands.add_parser("ready", help="exit 0 once serve listens")
    waiting.add_argument("--timeout", type=float, default=5.0, help="how long to wait, in seconds")
    batches = commands.add_parser("batch", help="make the probes that standard input asks for")
    batches.add_argument("--concurrent", type=int, default=CONCURRENT, help="probes under way at once")
    single = commands.add_parser("once", help="make the probes of one batch and end")
    single.add_argument("line", help="a line as batch reads them; its answer is printed")
    options = parser.parse_args()
    if options.command == "ready":
        raise SystemExit(ready(options.name, timeout_s=options.timeout))
    # A container's first process has no default reaction to signals.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))
    if options.command == "once":
        print(json.dumps(asyncio.run(once(options.line, options.name))))  # noqa: T201 - its answer
        return
    if options.command == "batch":
        asyncio.run(serve_batches(options.name, concurrent=options.concurrent))
        return
    asyncio.run(
        serve(
            options.name,
            tcp=options.tcp,
            udp=options.udp,
            sctp=options.sctp,
            http_ports=options.http,
            dns=options.dns,
            zone=Zone.parse(options.record),
        )
    )


if __name__ == "__main__":
    main()
