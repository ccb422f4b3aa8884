import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("exchange", "0004_record_replacements_and_exclusions"),
        ("identity", "0001_initial"),
        ("metering_ingest", "0002_three_meters"),
    ]

    operations = [
        migrations.CreateModel(
            name="Claim",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("quantity_tokens", models.BigIntegerField()),
                ("metered", models.PositiveIntegerField(default=0)),
                ("note", models.CharField(blank=True, max_length=500)),
                ("made_at", models.DateTimeField()),
                (
                    "contract",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="claims",
                        to="exchange.deliverycontract",
                    ),
                ),
            ],
            options={
                "ordering": ["-pk"],
            },
        ),
        migrations.AddField(
            model_name="contractsettlement",
            name="from_bond_micro",
            field=models.BigIntegerField(default=0, help_text="What of its losses the provider's bond has borne."),
        ),
        migrations.AddField(
            model_name="contractsettlement",
            name="from_default_micro",
            field=models.BigIntegerField(default=0, help_text="What the operator's default account has borne."),
        ),
        migrations.AddField(
            model_name="contractsettlement",
            name="overage_limit_micro",
            field=models.BigIntegerField(default=0, help_text="What usage beyond the lots might cost then."),
        ),
        migrations.CreateModel(
            name="ClaimedRequest",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("request_id", models.CharField(max_length=200)),
                (
                    "claim",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="requests", to="metering_ingest.claim"
                    ),
                ),
                (
                    "contract",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="exchange.deliverycontract"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="ClaimRuling",
            fields=[
                (
                    "claim",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        primary_key=True,
                        related_name="ruling",
                        serialize=False,
                        to="metering_ingest.claim",
                    ),
                ),
                (
                    "verdict",
                    models.CharField(
                        choices=[
                            ("accepted", "Accepted by the provider"),
                            ("upheld", "Upheld by the operator"),
                            ("rejected", "Rejected by the operator"),
                        ],
                        max_length=10,
                    ),
                ),
                ("quantity_tokens", models.BigIntegerField(help_text="What of the claim was found undelivered.")),
                ("note", models.CharField(blank=True, max_length=500)),
                ("ruled_at", models.DateTimeField()),
                (
                    "by",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="identity.organization"
                    ),
                ),
            ],
        ),
        migrations.AddConstraint(
            model_name="claim",
            constraint=models.CheckConstraint(condition=models.Q(("quantity_tokens__gt", 0)), name="claim_positive"),
        ),
        migrations.AddConstraint(
            model_name="claimedrequest",
            constraint=models.UniqueConstraint(fields=("contract", "request_id"), name="request_claimed_once"),
        ),
        migrations.AddConstraint(
            model_name="claimruling",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("quantity_tokens", 0), ("verdict", "rejected")),
                    models.Q(models.Q(("verdict", "rejected"), _negated=True), ("quantity_tokens__gt", 0)),
                    _connector="OR",
                ),
                name="ruling_quantity_of_its_verdict",
            ),
        ),
    ]
