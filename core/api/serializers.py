"""Strict parsing: an unknown field is an error, decimals are strings, counts are integers in range."""

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from core.money import BadAmount, format_price, format_yuan, parse_price_nano, parse_yuan_micro

MAX_TOKENS = 10**15


class StrictSerializer(serializers.Serializer[Any]):
    """A serializer that refuses fields it does not know, by name."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict):
            unknown = sorted(str(name) for name in set(data) - set(self.fields))
            if unknown:
                known = ", ".join(sorted(name for name, field in self.fields.items() if not field.read_only))
                raise serializers.ValidationError(
                    {name: [f"Unknown field. The fields here are: {known}."] for name in unknown}
                )
        return super().to_internal_value(data)


class _DecimalText(serializers.Field[int, str, str, int]):
    def _text(self, data: Any) -> str:
        if not isinstance(data, str):
            raise serializers.ValidationError('Write decimals as a string, such as "0.0035", so that no digit is lost.')
        return data.strip()


@extend_schema_field({"type": "string", "example": "0.00000182", "pattern": r"^\d{1,10}(\.\d{1,9})?$"})
class PriceField(_DecimalText):
    """¥ per standard token as text outside, nano-yuan inside. Zero is refused unless `allow_zero`."""

    def __init__(self, *, allow_zero: bool = False, **kwargs: Any) -> None:
        self.allow_zero = allow_zero
        super().__init__(**kwargs)

    def to_internal_value(self, data: Any) -> int:
        try:
            price_nano = parse_price_nano(self._text(data))
        except BadAmount as error:
            raise serializers.ValidationError(str(error)) from None
        if price_nano < 0 or (price_nano == 0 and not self.allow_zero):
            raise serializers.ValidationError("A price is above zero.")
        return price_nano

    def to_representation(self, value: int) -> str:
        return format_price(value)


@extend_schema_field({"type": "string", "example": "1234.56", "pattern": r"^\d{1,12}(\.\d{1,6})?$"})
class YuanField(_DecimalText):
    """¥ as text outside, micro-yuan inside; above zero unless `allow_zero`."""

    def __init__(self, *, allow_zero: bool = False, **kwargs: Any) -> None:
        self.allow_zero = allow_zero
        super().__init__(**kwargs)

    def to_internal_value(self, data: Any) -> int:
        try:
            amount_micro = parse_yuan_micro(self._text(data))
        except BadAmount as error:
            raise serializers.ValidationError(str(error)) from None
        if amount_micro < 0 or (amount_micro == 0 and not self.allow_zero):
            raise serializers.ValidationError("An amount is above zero.")
        return amount_micro

    def to_representation(self, value: int) -> str:
        return format_yuan(value)


@extend_schema_field(OpenApiTypes.INT64)
class TokensField(serializers.IntegerField):
    """Standard tokens: a whole number from 1 (or `min_value`) to 10¹⁵. Text, fractions and booleans are refused."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("min_value", 1)
        kwargs.setdefault("max_value", MAX_TOKENS)
        super().__init__(**kwargs)

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, bool) or not isinstance(data, int):
            raise serializers.ValidationError("Write a whole number of tokens, without quotes or separators.")
        return super().to_internal_value(data)
