import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("exchange", "0003_operator_controls"),
        ("identity", "0001_initial"),
        ("providers", "0004_score_deliveries_by_version"),
    ]

    operations = [
        migrations.CreateModel(
            name="BuyerExclusion",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("since", models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name="Replacement",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("quantity_tokens", models.BigIntegerField()),
                ("cost_micro", models.BigIntegerField()),
            ],
        ),
        migrations.CreateModel(
            name="Unplaced",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("number", models.PositiveIntegerField()),
                ("quantity_tokens", models.BigIntegerField()),
                ("buyer_price_nano", models.BigIntegerField()),
                ("seller_price_nano", models.BigIntegerField()),
                ("refund_micro", models.BigIntegerField()),
            ],
            options={
                "verbose_name_plural": "unplaced",
            },
        ),
        migrations.AddField(
            model_name="market",
            name="finalized_at",
            field=models.DateTimeField(help_text="When its settlement became final.", null=True),
        ),
        migrations.AddField(
            model_name="offer",
            name="rolled_at",
            field=models.DateTimeField(help_text="When that was done, or found to be needless.", null=True),
        ),
        migrations.AddField(
            model_name="offer",
            name="rolled_to",
            field=models.OneToOneField(
                help_text="What its unsold rest became.",
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="rolled_from",
                to="providers.capacity",
            ),
        ),
        migrations.AddField(
            model_name="shortfall",
            name="begins_at",
            field=models.DateTimeField(help_text="From when on they are missing.", null=True),
        ),
        migrations.AddField(
            model_name="shortfall",
            name="note",
            field=models.CharField(blank=True, max_length=300),
        ),
        migrations.AddField(
            model_name="shortfall",
            name="penalty_thousandths",
            field=models.PositiveSmallIntegerField(default=200),
        ),
        migrations.AddField(
            model_name="shortfall",
            name="replaced_tokens",
            field=models.BigIntegerField(default=0),
        ),
        migrations.AlterField(
            model_name="market",
            name="settled_at",
            field=models.DateTimeField(help_text="Preliminary: claims may still be ruled on.", null=True),
        ),
        migrations.AddConstraint(
            model_name="market",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("finalized_at__isnull", True),
                    models.Q(("finalized_at__gte", models.F("settled_at")), ("settled_at__isnull", False)),
                    _connector="OR",
                ),
                name="market_final_after_settlement",
            ),
        ),
        migrations.AddConstraint(
            model_name="shortfall",
            constraint=models.CheckConstraint(
                condition=models.Q(("replaced_tokens__gte", 0), ("replaced_tokens__lte", models.F("quantity_tokens"))),
                name="shortfall_replaced_within",
            ),
        ),
        migrations.AddConstraint(
            model_name="shortfall",
            constraint=models.CheckConstraint(
                condition=models.Q(("penalty_thousandths__lte", 1000)), name="shortfall_penalty_is_a_share"
            ),
        ),
        migrations.AddField(
            model_name="buyerexclusion",
            name="buyer",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="exclusions", to="identity.organization"
            ),
        ),
        migrations.AddField(
            model_name="buyerexclusion",
            name="provider",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="excluded_by", to="identity.organization"
            ),
        ),
        migrations.AddField(
            model_name="replacement",
            name="capacity",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="replacements", to="providers.capacity"
            ),
        ),
        migrations.AddField(
            model_name="replacement",
            name="lot",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="replaced_by", to="exchange.contractlot"
            ),
        ),
        migrations.AddField(
            model_name="replacement",
            name="new_lot",
            field=models.OneToOneField(
                on_delete=django.db.models.deletion.PROTECT, related_name="replaces", to="exchange.contractlot"
            ),
        ),
        migrations.AddField(
            model_name="replacement",
            name="shortfall",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="replacements", to="exchange.shortfall"
            ),
        ),
        migrations.AddField(
            model_name="unplaced",
            name="buyer",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="+", to="identity.organization"
            ),
        ),
        migrations.AddField(
            model_name="unplaced",
            name="market",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="unplaced", to="exchange.market"
            ),
        ),
        migrations.AddField(
            model_name="unplaced",
            name="seller",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="+", to="identity.organization"
            ),
        ),
        migrations.AddConstraint(
            model_name="buyerexclusion",
            constraint=models.UniqueConstraint(fields=("buyer", "provider"), name="exclusion_once"),
        ),
        migrations.AddConstraint(
            model_name="buyerexclusion",
            constraint=models.CheckConstraint(
                condition=models.Q(("buyer", models.F("provider")), _negated=True), name="exclusion_of_another"
            ),
        ),
        migrations.AddConstraint(
            model_name="replacement",
            constraint=models.CheckConstraint(
                condition=models.Q(("quantity_tokens__gt", 0)), name="replacement_positive"
            ),
        ),
        migrations.AddIndex(
            model_name="unplaced",
            index=models.Index(fields=["buyer", "-id"], name="unplaced_of_buyer"),
        ),
        migrations.AddIndex(
            model_name="unplaced",
            index=models.Index(fields=["seller", "-id"], name="unplaced_of_seller"),
        ),
        migrations.AddConstraint(
            model_name="unplaced",
            constraint=models.UniqueConstraint(fields=("market", "number"), name="unplaced_once"),
        ),
        migrations.AddConstraint(
            model_name="unplaced",
            constraint=models.CheckConstraint(
                condition=models.Q(("quantity_tokens__gt", 0), ("refund_micro__gt", 0)), name="unplaced_positive"
            ),
        ),
    ]
