"""A worker's flow stream: open while a test may ask for flows, closed while the next ones do not.

Reading all flows of a busy cluster takes as much of a small machine as making the probes does.
"""

from __future__ import annotations

import threading
from contextlib import suppress

import pytest

from cilium_e2e.cluster.live import LiveCluster
from cilium_e2e.model import Backend, ClusterInfo, ClusterStateError

_AHEAD_S = 10.0
"""How long the end of a run waits for a flow stream that is still being opened, in seconds."""

FLOWLESS = "flowless"
"""The marker of a test that asks for no flows; a scenario says so by itself."""


def asks_for_flows(item: pytest.Item) -> bool:
    """Whether a test may ask for flows: one with a lab, unless it says that it does not."""
    return "lab" in getattr(item, "fixturenames", ()) and not declines_flows(item)


def declines_flows(item: pytest.Item) -> bool:
    """Whether a test says that it asks for no flows."""
    return item.get_closest_marker(FLOWLESS) is not None or not getattr(item, "asks_for_flows", True)


class FlowStream:
    """Opens and closes a cluster's flow stream as tests need it.

    Args:
        cluster: the worker's cluster.
        info: what the cluster is.
    """

    def __init__(self, cluster: LiveCluster, info: ClusterInfo) -> None:
        self._cluster = cluster
        self._there = "hubble-relay" in info.features
        self._costly = info.backend is not Backend.SIMULATED
        self._ahead: threading.Thread | None = None
        self._failure = ""
        self._wanted = False

    def expect(self, item: pytest.Item) -> None:
        """Get ready for a test, before its fixtures are set up.

        A test that says nothing, and has no lab, may still use a stream that is open.
        """
        if declines_flows(item):
            self.rest()
        elif asks_for_flows(item) and not self._wanted:
            self._wanted = True
            self._open_ahead()

    def _open_ahead(self) -> None:
        """Open it while the test makes its pods: both wait most of the time.

        Whoever needs the stream and finds none opens it then, and fails by what is missing.
        """
        if not (self._there and self._costly):
            return

        def open_stream() -> None:
            with suppress(Exception):
                self._cluster.relay()

        self._ahead = threading.Thread(target=open_stream, name="relay ahead", daemon=True)
        self._ahead.start()

    def open(self) -> str:
        """Open it, if it is not, before the first probe of a test; why it could not be, or nothing.

        A test that asks for no flow does not fail by a relay that is away. One that does tries again, and
        fails by what is missing then.
        """
        self._wanted = True
        if self._there and not self._failure:
            try:
                self._cluster.relay()
            except ClusterStateError as error:
                self._failure = f"no flow stream was open from the start: {error}"
        return self._failure

    def rest(self) -> None:
        """Close it until a test asks for flows."""
        self.settle()
        self._wanted = False
        self._cluster.unfollow()
        self._failure = ""  # the next test that asks for flows finds out anew

    def settle(self) -> None:
        """Wait for what was begun ahead; the cluster closes the stream itself."""
        if self._ahead is not None:
            self._ahead.join(_AHEAD_S)
            self._ahead = None
