import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("identity", "0001_initial"),
        ("providers", "0003_meter_tolerance"),
    ]

    operations = [
        migrations.CreateModel(
            name="DeliveryRecord",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("scope", models.CharField(max_length=64)),
                ("revision", models.PositiveIntegerField()),
                ("contracts", models.PositiveIntegerField()),
                ("contracted_tokens", models.BigIntegerField()),
                ("undelivered_tokens", models.BigIntegerField()),
                ("recorded_at", models.DateTimeField()),
            ],
        ),
        migrations.AddField(
            model_name="grade",
            name="dispute_days",
            field=models.PositiveSmallIntegerField(
                default=7, help_text="From settlement until it is final: claims are ruled on meanwhile."
            ),
        ),
        migrations.AddField(
            model_name="providerscore",
            name="version",
            field=models.PositiveIntegerField(default=1),
        ),
        migrations.AlterField(
            model_name="providerscore",
            name="provider",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="delivery_scores", to="identity.organization"
            ),
        ),
        migrations.AddConstraint(
            model_name="providerscore",
            constraint=models.UniqueConstraint(fields=("provider", "version"), name="provider_score_version_once"),
        ),
        migrations.AddField(
            model_name="deliveryrecord",
            name="provider",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="delivery_records", to="identity.organization"
            ),
        ),
        migrations.AddConstraint(
            model_name="deliveryrecord",
            constraint=models.UniqueConstraint(fields=("provider", "scope", "revision"), name="delivery_record_once"),
        ),
        migrations.AddConstraint(
            model_name="deliveryrecord",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("contracted_tokens__gte", models.F("undelivered_tokens")), ("undelivered_tokens__gte", 0)
                ),
                name="delivery_record_within",
            ),
        ),
    ]
