"""The auction as most write it first: sort both sides, add up, and look at every limit. Price and volume only."""

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]


def clear_by_sorting(bid_ticks: Int64, bid_lots: Int64, ask_ticks: Int64, ask_lots: Int64) -> tuple[int, int]:
    """Return a price of highest volume, and that volume."""
    bid_order, ask_order = np.argsort(bid_ticks, kind="stable"), np.argsort(ask_ticks, kind="stable")
    sorted_bids, sorted_asks = bid_ticks[bid_order], ask_ticks[ask_order]
    supply = np.concatenate(([0], np.cumsum(ask_lots[ask_order])))
    demand = np.concatenate((np.cumsum(bid_lots[bid_order][::-1])[::-1], [0]))
    limits = np.unique(np.concatenate((bid_ticks, ask_ticks)))
    selling = supply[np.searchsorted(sorted_asks, limits, side="right")]
    buying = demand[np.searchsorted(sorted_bids, limits, side="left")]
    volume = np.minimum(buying, selling)
    best = int(np.argmax(volume))
    return int(limits[best]), int(volume[best])
