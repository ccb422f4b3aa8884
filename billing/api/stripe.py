"""Stripe's door: payments asked for, automatic top-ups, connected accounts, and the webhook by which Stripe calls."""

from functools import partial
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing.actions import stripe as actions
from billing.api.ledger import ORGANIZATION, BillingView, OperatorView
from billing.models import StripeCustomer, StripePayment
from billing.stripe_door import SignatureWrong, StripeRefused, StripeUnavailable, read_webhook
from billing.stripe_sweeps import customer_of, door, open_checkout
from core import clock
from core.api.paging import page
from core.api.problem import problem_body
from core.api.serializers import StrictSerializer, YuanField
from core.errors import Conflict, Problem
from core.money import format_yuan
from core.transactions import durable

MOST_WEBHOOK_BYTES = 1_000_000


class ServiceUnavailable(Problem):
    """Stripe does not answer; what was asked is kept."""

    code = "payment-service-unavailable"
    status = 503
    title = "Payment service unavailable"


class NoStripe(Conflict):
    """The operator has no account at Stripe."""

    code = "no-stripe"


class PaymentRefused(Conflict):
    """Stripe refused."""

    code = "payment-refused"


class PaymentIn(StrictSerializer):
    amount = YuanField(required=False)
    invoice = serializers.IntegerField(required=False, min_value=1, max_value=2**63 - 1)


class PaymentOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    kind = serializers.CharField(help_text="checkout or auto.")
    amount = YuanField()
    state = serializers.CharField(help_text="pending, succeeded, failed or mismatch.")
    url = serializers.CharField(help_text="The page where it is paid. Only `state` says whether it was.")
    reason = serializers.CharField()
    deposit = serializers.IntegerField(allow_null=True)
    created_at = serializers.DateTimeField()


class PaymentPage(serializers.Serializer[Any]):
    items = PaymentOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class TopUpIn(StrictSerializer):
    payment_method = serializers.CharField(max_length=60, required=False, default="", allow_blank=True)
    below = YuanField(required=False, allow_null=True, default=None, allow_zero=True)
    amount = YuanField(required=False, allow_null=True, default=None)


class TopUpOut(serializers.Serializer[Any]):
    payment_method = serializers.CharField()
    below = YuanField(allow_null=True)
    amount = YuanField(allow_null=True)
    paused_reason = serializers.CharField()
    cards = serializers.ListField(child=serializers.DictField(), help_text="Saved cards: id and what to call it.")


class ConnectIn(StrictSerializer):
    organization = serializers.IntegerField(min_value=1, max_value=2**63 - 1)
    account = serializers.RegexField(r"^acct_\w{1,50}$")


class ConnectOut(serializers.Serializer[Any]):
    organization = serializers.IntegerField()
    account = serializers.CharField()


def show_payment(row: StripePayment) -> dict[str, Any]:
    return {
        "id": row.pk,
        "kind": row.kind,
        "amount": format_yuan(row.amount_micro),
        "state": row.state,
        "url": row.url,
        "reason": row.reason,
        "deposit": row.deposit_id,
        "created_at": row.created_at,
    }


def show_top_up(row: StripeCustomer | None, cards: list[tuple[str, str]]) -> dict[str, Any]:
    amounts = (row.top_up_below_micro, row.top_up_micro) if row else (None, None)
    below, amount = (None if micro is None else format_yuan(micro) for micro in amounts)
    return {
        "payment_method": row.payment_method if row else "",
        "below": below,
        "amount": amount,
        "paused_reason": row.paused_reason if row else "",
        "cards": [{"id": id_, "name": name} for id_, name in cards],
    }


class StripePayments(BillingView):
    scopes = {"GET": "read", "POST": "billing"}

    @extend_schema(parameters=[ORGANIZATION], responses=PaymentPage)
    def get(self, request: Request) -> Response:
        """Payments by card, Alipay and WeChat Pay, newest first."""
        rows = StripePayment.objects.filter(organization=self.organization_asked())
        return Response(page(request, rows, show_payment))

    @extend_schema(request=PaymentIn, responses={201: PaymentOut})
    def post(self, request: Request) -> Response:
        """Pay an amount, or what is owed on an invoice, on a page of Stripe's: the answer's `url`."""
        given = self.parse(PaymentIn)
        stripe = door()
        if stripe is None:
            raise NoStripe("This exchange takes no cards; pay by bank transfer.")
        answer = self.once(
            lambda: {
                "id": actions.ask_payment(
                    organization_id=self.actor.organization_id, amount_micro=given.get("amount"),
                    invoice_id=given.get("invoice"), now=self.now,
                ).pk
            }
        )
        payment = StripePayment.objects.get(pk=answer.data["id"])
        try:  # the transaction is over: nobody waits for Stripe with a lock in hand
            open_checkout(stripe, payment, base_url=settings.BASE_URL)
        except StripeUnavailable:
            raise ServiceUnavailable("Stripe does not answer now. Ask again with the same Idempotency-Key.") from None
        except StripeRefused as error:
            raise PaymentRefused(f"Stripe refused: {error}") from None
        payment.refresh_from_db()
        answer.data = show_payment(payment)
        return answer


class StripePaymentDetail(BillingView):
    scopes = {"GET": "read"}

    @extend_schema(responses=PaymentOut)
    def get(self, request: Request, payment_id: int) -> Response:
        """One payment: whether it succeeded is in `state`, whatever a browser was redirected to."""
        row = StripePayment.objects.filter(pk=payment_id).first()
        if row is None or not self.actor.may_read(row.organization_id):
            raise actions.PaymentNotFound("There is no payment with that id.")
        return Response(show_payment(row))


class StripeTopUp(BillingView):
    scopes = {"GET": "billing", "PATCH": "billing"}

    def cards(self, *, make: bool) -> list[tuple[str, str]]:
        stripe = door()
        if stripe is None:
            raise NoStripe("This exchange takes no cards; pay by bank transfer.")
        row = StripeCustomer.objects.filter(organization=self.actor.organization).first()
        if not make and (row is None or not row.customer):
            return []
        try:
            return stripe.saved_cards(customer_of(stripe, self.actor.organization))
        except (StripeUnavailable, StripeRefused):
            raise ServiceUnavailable("Stripe does not answer now. Ask again later.") from None

    @extend_schema(responses=TopUpOut)
    def get(self, request: Request) -> Response:
        """Automatic top-up: from which card, below which balance, how much; and the cards that are saved."""
        row = StripeCustomer.objects.filter(organization=self.actor.organization).first()
        return Response(show_top_up(row, self.cards(make=False)))

    @extend_schema(request=TopUpIn, responses=TopUpOut)
    def patch(self, request: Request) -> Response:
        """Set automatic top-up, or end it with neither `below` nor `amount`. The card must be one that is saved."""
        given = self.parse(TopUpIn)
        cards = self.cards(make=False)
        method = given["payment_method"] or (cards[0][0] if cards else "")
        if given["amount"] is not None and method not in dict(cards):
            raise actions.BadPayment("Save a card first: pay once on Stripe's page and let it keep the card.",
                                     field="payment_method")  # fmt: skip

        def perform() -> dict[str, Any]:
            row = actions.set_top_up(
                organization_id=self.actor.organization_id, payment_method=method, below_micro=given["below"],
                amount_micro=given["amount"],
            )  # fmt: skip
            return show_top_up(row, cards)

        return self.once(perform, status=200)


class StripeConnect(OperatorView):
    scopes = {"POST": "read"}

    @extend_schema(request=ConnectIn, responses={201: ConnectOut})
    def post(self, request: Request) -> Response:
        """Note a provider's connected account, to which payouts with method stripe go (operator)."""
        given = self.parse(ConnectIn)
        organization = self.subject(given["organization"])

        def perform() -> dict[str, Any]:
            row = actions.set_connect_account(organization_id=organization.pk, account=given["account"])
            return {"organization": organization.pk, "account": row.connect_account}

        return self.once(perform)


@csrf_exempt
@require_POST
def stripe_webhook(request: HttpRequest) -> HttpResponse:
    """Store what Stripe announces, if it is Stripe and of this hour; a sweep handles it."""
    if not settings.STRIPE_WEBHOOK_SECRETS:
        return JsonResponse(problem_body(404, "This exchange takes no webhooks of Stripe."), status=404)
    if int(request.META.get("CONTENT_LENGTH") or 0) > MOST_WEBHOOK_BYTES:
        return JsonResponse(problem_body(413, "The body is larger than an event."), status=413)
    try:
        facts = read_webhook(
            request.body, request.headers.get("Stripe-Signature", ""), settings.STRIPE_WEBHOOK_SECRETS,
            now=clock.real_now().timestamp(),
        )  # fmt: skip
    except SignatureWrong as error:
        return JsonResponse(problem_body(400, f"Refused: {error}."), status=400)
    fresh = durable(partial(actions.store_event, facts=facts, now=clock.now()))
    return JsonResponse({"stored": fresh})
