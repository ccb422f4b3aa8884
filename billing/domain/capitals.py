"""
Amounts in Chinese capital numerals (人民币大写), as invoices and cheques carry them.

After the rules of the Payment and Settlement Measures (支付结算办法, annex 1): zeros between digits are read once, 整
closes an amount that ends at yuan or jiao, and an amount below zero says 负.
"""

from core.money import MICRO_PER_FEN

DIGITS = "零壹贰叁肆伍陆柒捌玖"
PLACES = ("", "拾", "佰", "仟")
GROUPS = ("", "万", "亿", "万亿", "亿亿")
LARGEST_FEN = 10**18


def capitals(amount_micro: int) -> str:
    """
    Return an amount in whole fen in capitals: 1234560000 → 壹仟贰佰叁拾肆元伍角陆分.

    :raises ValueError: for parts of a fen, or more than ten million million million fen.
    """
    if amount_micro % MICRO_PER_FEN or abs(amount_micro) // MICRO_PER_FEN >= LARGEST_FEN:
        raise ValueError(f"only whole fen are written in capitals, not {amount_micro} micro-yuan")
    sign = "负" if amount_micro < 0 else ""
    yuan, fen = divmod(abs(amount_micro) // MICRO_PER_FEN, 100)
    jiao, fen = divmod(fen, 10)
    text = f"{_integer(yuan)}元" if yuan else ""
    if not jiao and not fen:
        return f"{sign}{text or '零元'}整"
    if jiao:
        # A yuan that ends in zero is followed by 零 before the jiao only where the places would be read together.
        text += ("零" if yuan and yuan % 10 == 0 else "") + f"{DIGITS[jiao]}角"
    elif yuan:
        text += "零"
    return f"{sign}{text}{DIGITS[fen]}分" if fen else f"{sign}{text}整"


def _integer(number: int) -> str:
    """Return a positive integer, read in groups of four digits."""
    groups: list[int] = []
    while number:
        number, group = divmod(number, 10_000)
        groups.append(group)
    text, gap = "", False
    for index in reversed(range(len(groups))):
        group = groups[index]
        if not group:
            gap = bool(text)
            continue
        if text and (gap or group < 1_000):
            text += "零"
        text += _group(group) + _group_name(index, groups)
        gap = False
    return text


def _group_name(index: int, groups: list[int]) -> str:
    """万亿 above 亿 says its 亿 only where the group below does not."""
    if index == 3:
        return "万" if groups[2] else "万亿"
    return GROUPS[index]


def _group(number: int) -> str:
    """Return 1 to 9999 without leading zeros."""
    text, gap = "", False
    for place in reversed(range(4)):
        digit = number // 10**place % 10
        if not digit:
            gap = bool(text)
            continue
        text += ("零" if gap else "") + DIGITS[digit] + PLACES[place]
        gap = False
    return text
