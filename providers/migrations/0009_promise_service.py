"""What a grade promises of its service is a term like the others."""

from django.db import migrations, models

OLD_TERMS = (
    "slug, model_card_id, precisions, service_class, region, data_terms, standard_version, max_context_tokens,"
    " max_output_tokens, take_or_pay_thousandths, cached_share_thousandths, grace_seconds, tick_nano, min_order_tokens,"
    " dispute_days"
)
TERMS = f"{OLD_TERMS}, first_token_p95_ms, per_token_p95_ms, error_share_thousandths, late_reduction_thousandths"


def frozen_by(columns: str) -> str:
    old, new = ("(" + ", ".join(f"{row}.{name.strip()}" for name in columns.split(",")) + ")" for row in ("OLD", "NEW"))
    return f"""
        DROP TRIGGER providers_grade_is_frozen ON providers_grade;
        CREATE TRIGGER providers_grade_is_frozen BEFORE UPDATE ON providers_grade
            FOR EACH ROW WHEN ({old} IS DISTINCT FROM {new}) EXECUTE FUNCTION refuse_frozen();
    """


class Migration(migrations.Migration):
    dependencies = [("providers", "0008_certify_deployments")]

    operations = [
        migrations.AddField(
            "grade", "first_token_p95_ms",
            models.PositiveIntegerField(
                null=True,
                help_text="Promised time to the first token, kept by 95 of 100 requests of an hour. None: no promise.",
            ),
        ),
        migrations.AddField(
            "grade", "per_token_p95_ms",
            models.PositiveIntegerField(null=True, help_text="Likewise per further token."),
        ),
        migrations.AddField(
            "grade", "error_share_thousandths",
            models.PositiveSmallIntegerField(
                null=True,
                help_text="Share of a minute's requests that may fail; beyond it the minute counts as failed.",
            ),
        ),
        migrations.AddField(
            "grade", "late_reduction_thousandths",
            models.PositiveSmallIntegerField(
                default=100,
                help_text="By how much an hour's used tokens are cheaper in which a promised time was missed.",
            ),
        ),
        migrations.RunSQL(frozen_by(TERMS), frozen_by(OLD_TERMS)),
    ]  # fmt: skip
