"""
Makes, on an instance, the meters of `test_keeps_its_word` and prints their keys as JSON:

    python -m tests.metering.word_parties NAME …
"""

import json
import sys

import django


def main(names: list[str]) -> None:
    django.setup()
    from django.db import transaction

    from core import clock
    from identity.actions.keys import create_key
    from metering_ingest.actions.meters import open_meter, register_alias
    from tests.given import given_deployment, given_organization

    deployment, buyer, made = given_deployment(), given_organization(), {}
    with transaction.atomic():
        register_alias(provider=deployment.provider, subject="cust-1", buyer=buyer, now=clock.now())
        owner = create_key(
            organization=deployment.provider, name="owner", scopes=["read", "trade"], now=clock.now()
        ).secret
        for name in names:
            meter = open_meter(
                organization=deployment.provider, name=name, role="provider", deployment=deployment, public_key=None,
                now=clock.now(),
            )  # fmt: skip
            key = create_key(
                organization=deployment.provider, name=name, scopes=["meter"], meter_id=meter.pk, now=clock.now()
            )
            made[name] = {"id": meter.pk, "secret": key.secret}
    print(json.dumps({"owner": owner, "meters": made}))


if __name__ == "__main__":
    main(sys.argv[1:])
