"""What Stripe takes and answers, read out of the SDK's own types: parameters it does not declare do not exist."""

import importlib
import inspect
import re

import stripe
from stripe import params

ENVELOPE = {"api_key", "stripe_version", "stripe_account", "stripe_context", "max_network_retries", "idempotency_key",
            "content_type", "headers"}  # fmt: skip

CALLS = {
    ("POST", "customers"): (params.CustomerCreateParams, stripe.Customer),
    ("POST", "checkout/sessions"): (params.checkout.SessionCreateParams, stripe.checkout.Session),
    ("GET", "checkout/sessions/*"): (params.checkout.SessionRetrieveParams, stripe.checkout.Session),
    ("POST", "payment_intents"): (params.PaymentIntentCreateParams, stripe.PaymentIntent),
    ("GET", "payment_intents/*"): (params.PaymentIntentRetrieveParams, stripe.PaymentIntent),
    ("GET", "payment_methods"): (params.PaymentMethodListParams, stripe.PaymentMethod),
    ("POST", "refunds"): (params.RefundCreateParams, stripe.Refund),
    ("GET", "refunds/*"): (params.RefundRetrieveParams, stripe.Refund),
    ("POST", "transfers"): (params.TransferCreateParams, stripe.Transfer),
    ("GET", "transfers/*"): (params.TransferRetrieveParams, stripe.Transfer),
    ("GET", "events"): (params.EventListParams, stripe.Event),
    ("GET", "balance_transactions"): (params.BalanceTransactionListParams, stripe.BalanceTransaction),
}


class Unknown(Exception):
    """A parameter that the SDK's types do not have, or a value that its literals do not allow."""

    def __init__(self, path, reason):
        super().__init__(reason)
        self.path = path


def annotation(typed, name):
    """An annotation as text, and the module in whose names it is written."""
    for base in typed.__mro__ if typed.__mro__[-1] is object and hasattr(typed, "__mro__") else [typed]:
        if name in getattr(base, "__annotations__", {}):
            return str(base.__annotations__[name]), importlib.import_module(base.__module__)
    return str(typed.__annotations__[name]), importlib.import_module(typed.__module__)


def check_params(typed, given, path=""):
    """Refuse, by its path, every parameter that is absent from the SDK's TypedDict, at any depth."""
    for name, value in given.items():
        here = f"{path}[{name}]" if path else name
        if name not in typed.__annotations__ or (not path and name in ENVELOPE):
            raise Unknown(here, f"Received unknown parameter: {here}")
        text, module = annotation(typed, name)
        nested = [getattr(module, word) for word in re.findall(r"\w+", text)
                  if hasattr(getattr(module, word, None), "__annotations__")
                  and isinstance(getattr(module, word), type) and word != "UntypedStripeObject"]  # fmt: skip
        if isinstance(value, list):
            values = value
        else:
            values = [value]
        for index, one in enumerate(values):
            if isinstance(one, dict):
                if nested:
                    check_params(nested[0], one, f"{here}[{index}]" if isinstance(value, list) else here)
                elif "Dict[" not in text:
                    raise Unknown(here, f"Invalid object: {here}")
            elif nested and "|" not in text and "Union" not in text and "str" not in text.split("Literal")[0]:
                raise Unknown(here, f"Invalid value: {here} is an object")
            else:
                literals = re.findall(r"['\"]([a-z_]+)['\"]", text) if "Literal" in text else []
                if literals and "|str" not in text and one not in literals:
                    raise Unknown(here, f"Invalid {here}: must be one of {', '.join(literals)}")


def required(typed):
    """The names that a call must have."""
    return [name for name in typed.__annotations__ if name not in ENVELOPE
            and "NotRequired" not in annotation(typed, name)[0]]  # fmt: skip


def check_answer(resource, answer):
    """An answer has only fields that the SDK's resource declares, so that nothing is tested which Stripe never says."""
    declared = set()
    for base in inspect.getmro(resource):
        declared |= set(getattr(base, "__annotations__", {}))
    extra = set(answer) - declared - {"id", "object"}
    assert not extra, f"{resource.__name__} declares no {sorted(extra)}"
    return answer
