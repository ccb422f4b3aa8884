"""Obviously right, slow implementations that keep the fast ones honest."""


def auction_price(buying, selling, reference, also=()):
    """
    Rules 1–7 of the auction, word by word, at every tick between the limits: price, volume, number of the rule.

    `buying` and `selling` are (lots, price or None) rows; `also` are further candidates.
    """
    limits = {p for _, p in buying + selling if p is not None} | set(also)

    def volume_and_surplus(tick):
        demand = sum(q for q, p in buying if p is None or p >= tick)
        supply = sum(q for q, p in selling if p is None or p <= tick)
        return min(demand, supply), demand - supply

    if not limits:
        executable = min(sum(q for q, _ in buying), sum(q for q, _ in selling))
        return (reference, executable, 6) if executable and reference is not None else (None, 0, 7)
    at = {tick: volume_and_surplus(tick) for tick in range(min(limits), max(limits) + 1) if tick in limits}
    most = max(volume for volume, _ in at.values())
    if most == 0:
        return None, 0, 7
    left = {tick: surplus for tick, (volume, surplus) in at.items() if volume == most}
    if len(left) == 1:
        return min(left), most, 2
    least = min(abs(surplus) for surplus in left.values())
    left = {tick: surplus for tick, surplus in left.items() if abs(surplus) == least}
    if len(left) == 1:
        return min(left), most, 3
    if all(surplus > 0 for surplus in left.values()):
        return max(left), most, 4
    if all(surplus < 0 for surplus in left.values()):
        return min(left), most, 4
    with_bids = [tick for tick, surplus in left.items() if surplus > 0] or [min(left)]
    with_asks = [tick for tick, surplus in left.items() if surplus < 0] or [max(left)]
    low, high = max(with_bids), min(with_asks)
    if reference is None:
        return (low + high + 1) // 2, most, 5
    return (low if reference - low < high - reference else high), most, 5
