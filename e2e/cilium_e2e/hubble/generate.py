"""Write the ``*_pb2.py`` files anew from the ``.proto`` files beside them.

``python -m cilium_e2e.hubble.generate`` (from ``e2e/``, with grpcio-tools of the ``dev`` extra) after a
change of a ``.proto``; a test fails where the two differ.
"""

from __future__ import annotations

import sys
from pathlib import Path

PROTOS = ("flow", "relay", "observer")


def generate(output: Path) -> None:
    """Write the modules below ``output``, in the folders of their package.

    Raises:
        SystemExit: the compiler refuses a file; it has said why on standard error.
    """
    import grpc_tools  # noqa: PLC0415 - a development tool, absent in installations
    from grpc_tools import protoc  # noqa: PLC0415

    root = Path(__file__).parents[2]
    arguments = [
        "protoc",
        f"--proto_path={root}",
        f"--proto_path={Path(grpc_tools.__file__).parent / '_proto'}",
        f"--python_out={output}",
        *(f"cilium_e2e/hubble/{name}.proto" for name in PROTOS),
    ]
    if protoc.main(arguments) != 0:
        sys.exit("the .proto files do not compile")


if __name__ == "__main__":
    generate(Path(__file__).parents[2])
