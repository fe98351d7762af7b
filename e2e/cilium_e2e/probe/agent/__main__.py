"""The command line: serve, ready, batch or once."""

from __future__ import annotations

import os
import signal
import sys

from . import CONCURRENT


def main() -> None:
    """Run one of the four commands.

    Each imports what it needs: a stream to an agent opens as fast as it starts.
    """
    # A container's first process has no default reaction to signals.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))
    if sys.argv[1:] == ["batch"]:  # reading no options, as most do, saves a sixth of the start
        from .batch import Batches  # noqa: PLC0415

        Batches(os.environ.get("AGENT_NAME", "")).serve()
        return
    read_and_run()


def read_and_run() -> None:
    """Read the command line, and run its command."""
    import argparse  # noqa: PLC0415

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
        from .door import ready  # noqa: PLC0415

        raise SystemExit(ready(options.name, timeout_s=options.timeout))
    if options.command in {"once", "batch"}:
        from .batch import Batches  # noqa: PLC0415

        if options.command == "once":
            Batches(options.name).once(options.line.encode())
        else:
            Batches(options.name, concurrent=options.concurrent).serve()
        return
    from .responder import serve  # noqa: PLC0415
    from .zone import Zone  # noqa: PLC0415

    serve(
        options.name,
        tcp=options.tcp,
        udp=options.udp,
        sctp=options.sctp,
        http_ports=options.http,
        dns=options.dns,
        zone=Zone.parse(options.record),
    )


if __name__ == "__main__":
    main()
