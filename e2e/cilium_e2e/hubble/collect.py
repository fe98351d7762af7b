"""Flows that are known to be complete, from any flow source."""

from __future__ import annotations

from collections import Counter

from cilium_e2e.model import Flow, FlowFilter, FlowsLost, FlowSource, TimeWindow

ALL = FlowFilter()


def complete_flows(
    source: FlowSource,
    window: TimeWindow,
    filter: FlowFilter = ALL,  # noqa: A002 - Hubble's word
    *,
    timeout_s: float = 15.0,
) -> list[Flow]:
    """All flows of a window: none is on its way any more, and none was lost.

    Args:
        source: a started flow source.
        window: when; it must have ended, by the nodes' clocks, or the wait lasts until it has.
        filter: which flows are asked for.
        timeout_s: how long to wait for late ones.

    Raises:
        FlowsLost: Hubble lost some inside the window, so that the absence of a flow means nothing.
        StreamLost: the source has a gap there.
        WaitTimeout: a node is late or silent.
    """
    source.wait_past(window.end_s, timeout_s=timeout_s)
    if losses := source.lost(window):
        counts: Counter[tuple[str, str]] = Counter()
        for loss in losses:  # Hubble may tell of each lost flow by itself
            counts[loss.node or "an unnamed node", loss.source] += loss.count
        words = "; ".join(f"{count} on {node} ({source})" for (node, source), count in counts.items())
        raise FlowsLost(
            f"Hubble lost flows inside the window: {words}",
            hint="Fewer probes at a time, or larger buffers (hubble.eventBufferCapacity, eventQueueSize).",
        )
    return source.flows(window, filter)
