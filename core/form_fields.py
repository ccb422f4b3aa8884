"""Form fields in the product's units: prices typed in ¥ per million tokens, quantities in standard tokens."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from core import typed

_PROBLEMS = {
    "number": _("Write a number, such as 1.90 or 1,500,000."),
    "decimals": _("That has more decimals than can be stored."),
    "size": _("That is beyond the largest number stored."),
}


class PriceField(forms.CharField):
    """¥ per million tokens as typed; cleaned to nano-yuan per token."""

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        if not text:
            return None
        try:
            price_nano = typed.price_nano_per_million(text)
        except typed.Unreadable as error:
            raise forms.ValidationError(_PROBLEMS[error.reason]) from None
        if price_nano <= 0:
            raise forms.ValidationError(_("A price is above zero."))
        return price_nano


class QuantityField(forms.CharField):
    """Standard tokens as typed; cleaned to a whole number."""

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        if not text:
            return None
        try:
            quantity = typed.tokens(text)
        except typed.Unreadable as error:
            raise forms.ValidationError(_PROBLEMS[error.reason]) from None
        if quantity <= 0:
            raise forms.ValidationError(_("A quantity is above zero."))
        return quantity


class YuanField(forms.CharField):
    """¥ as typed; cleaned to micro-yuan."""

    def __init__(self, *, allow_zero: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.allow_zero = allow_zero

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        if not text:
            return None
        try:
            amount_micro = typed.yuan_micro(text)
        except typed.Unreadable as error:
            raise forms.ValidationError(_PROBLEMS[error.reason]) from None
        if amount_micro < 0 or not (amount_micro or self.allow_zero):
            raise forms.ValidationError(_("An amount is above zero."))
        return amount_micro
