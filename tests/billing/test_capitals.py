import pytest

from billing.domain.capitals import capitals
from core.money import parse_yuan_micro


@pytest.mark.parametrize(("amount", "text"), [
    ("0", "零元整"), ("0.01", "壹分"), ("0.10", "壹角整"), ("0.56", "伍角陆分"), ("1", "壹元整"),
    ("1.05", "壹元零伍分"), ("10", "壹拾元整"), ("10.50", "壹拾元零伍角整"), ("12.34", "壹拾贰元叁角肆分"),
    ("100.05", "壹佰元零伍分"), ("105", "壹佰零伍元整"), ("1005", "壹仟零伍元整"), ("1050", "壹仟零伍拾元整"),
    ("1409.50", "壹仟肆佰零玖元伍角整"), ("6007.14", "陆仟零柒元壹角肆分"), ("1680.32", "壹仟陆佰捌拾元零叁角贰分"),
    ("10000", "壹万元整"), ("10001", "壹万零壹元整"), ("100100", "壹拾万零壹佰元整"), ("110000", "壹拾壹万元整"),
    ("107000.53", "壹拾万柒仟元零伍角叁分"), ("16409.02", "壹万陆仟肆佰零玖元零贰分"), ("325.04", "叁佰贰拾伍元零肆分"),
    ("100000000", "壹亿元整"), ("100000001", "壹亿零壹元整"), ("100010000", "壹亿零壹万元整"),
    ("1000000000000", "壹万亿元整"), ("1200500000000", "壹万贰仟零伍亿元整"), ("-88.80", "负捌拾捌元捌角整"),
])
def test_amounts_read_as_the_bank_rules_write_them(amount, text):
    assert capitals(parse_yuan_micro(amount)) == text


def test_parts_of_a_fen_have_no_capitals():
    with pytest.raises(ValueError, match="whole fen"):
        capitals(1)
