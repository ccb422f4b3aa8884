"""
The operator's console in the reader's language: names of models and fields, hints beside them, names of its parts.

The models keep their plain English names, so that wording is no migration; here they become translatable once all
applications are loaded. A field's name that ends in a unit shows the unit as such: `price nano` is price (nano-yuan).
"""

from collections.abc import Iterable
from typing import Any

from django.apps import apps
from django.contrib import admin
from django.db.models import Field, Model
from django.utils.functional import Promise, lazy
from django.utils.text import capfirst
from django.utils.translation import gettext, override

OURS = {
    "identity": "Identity", "providers": "Providers", "billing": "Billing", "exchange": "Exchange",
    "metering_ingest": "Metering",
}  # fmt: skip
UNITS = (
    (" micro st", "micro standard tokens"), (" micro", "micro-yuan"), (" nano", "nano-yuan"), (" thousandths", "‰"),
    (" seconds", "s"), (" ms", "ms"), (" us", "µs"),
)  # fmt: skip


def _translated(text: str) -> str:
    """Return a name in the reader's language; as it is where that is English."""
    name = capfirst(text)
    found = gettext(name)
    return text if found == name else found


def _english(text: object) -> str:
    with override(None):
        return str(text)


named = lazy(_translated, str)
hint = lazy(gettext, str)


def with_unit(name: str) -> str:
    """Return a field's name with its unit in brackets: `price nano` → `price (nano-yuan)`."""
    for ending, unit in UNITS:
        if name.endswith(ending):
            return f"{name.removesuffix(ending)} ({unit})"
    return name


def shown_models() -> list[type[Model]]:
    """Return our models that the console shows, those inside others' pages included."""
    found: dict[type[Model], None] = {}
    for model, shown in admin.site._registry.items():
        for one in (model, *(inline.model for inline in shown.inlines)):
            if one._meta.app_label in OURS:
                found[one] = None
    return list(found)


def fields_of(model: type[Model]) -> "Iterable[Field[Any, Any]]":
    """Return a model's own fields."""
    return (field for field in model._meta.get_fields() if isinstance(field, Field))


def install() -> None:
    """Let names and hints be said in the reader's language; a second call changes nothing."""
    for label, name in OURS.items():
        apps.get_app_config(label).verbose_name = named(name)
    for model in {*admin.site._registry, *shown_models()}:
        meta = model._meta
        one, many = _english(meta.verbose_name), _english(meta.verbose_name_plural)
        if isinstance(meta.verbose_name, str):  # another's model may have its own translations
            meta.verbose_name, meta.verbose_name_plural = named(one), named(many)
        if meta.app_label not in OURS:
            continue
        for field in fields_of(model):
            if not isinstance(field.verbose_name, Promise):
                field.verbose_name = named(with_unit(str(field.verbose_name)))
            if field.help_text and not isinstance(field.help_text, Promise):
                field.help_text = hint(str(field.help_text))
