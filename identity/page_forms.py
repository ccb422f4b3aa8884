"""Forms of pages that change something: sent once however often, and a problem stands at its field."""

from collections.abc import Callable, Collection
from typing import Any
from uuid import uuid4

from django import forms

from core import clock
from core.api.once import Answer, once
from core.errors import Problem
from identity.access import Actor
from identity.problem_texts import in_readers_language


def new_key() -> str:
    """Return the key of one showing of a form."""
    return str(uuid4())


def told(problem: Problem) -> str:
    """Return what a page says of a problem: its sentence in the reader's language."""
    return in_readers_language(str(problem.detail))


class OnceForm(forms.Form):
    """A form with a key of its own, so that a double click or a reload does what it does once."""

    key = forms.CharField(max_length=64, widget=forms.HiddenInput, initial=new_key)

    def send(
        self,
        actor: Actor,
        perform: Callable[[dict[str, Any]], Any],
        *,
        fields: dict[str, str] | None = None,
        secret_fields: Collection[str] = (),
    ) -> Answer | None:
        """
        Run `perform` with what was typed, in the one transaction with the record of its answer.

        None when something is wrong; the errors are on the form.

        :param fields: what problems call a field → what the form calls it, where that differs.
        """
        if not self.is_valid():
            return None
        typed = {name: value for name, value in self.cleaned_data.items() if name != "key"}
        try:
            return once(
                organization_id=actor.organization_id,
                key=f"page:{self.cleaned_data['key']}",
                content={name: str(value) for name, value in typed.items()},
                perform=lambda: (201, perform(typed)),
                now=clock.now(),
                secret_fields=secret_fields,
            )
        except Problem as problem:
            name = (fields or {}).get(problem.field or "", problem.field)
            seen = name in self.fields and not self.fields[name].widget.is_hidden
            self.add_error(name if seen else None, told(problem))
            return None
