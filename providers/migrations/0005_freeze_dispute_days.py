"""Dispute days are a term of the grade like its grace; how providers delivered is a fact."""

from django.db import migrations

from core.insert_only import insert_only

OLD_TERMS = (
    "slug, model_card_id, precisions, service_class, region, data_terms, standard_version, max_context_tokens,"
    " max_output_tokens, take_or_pay_thousandths, cached_share_thousandths, grace_seconds, tick_nano, min_order_tokens"
)
TERMS = f"{OLD_TERMS}, dispute_days"


def frozen_by(columns: str) -> str:
    old, new = ("(" + ", ".join(f"{row}.{name.strip()}" for name in columns.split(",")) + ")" for row in ("OLD", "NEW"))
    return f"""
        DROP TRIGGER providers_grade_is_frozen ON providers_grade;
        CREATE TRIGGER providers_grade_is_frozen BEFORE UPDATE ON providers_grade
            FOR EACH ROW WHEN ({old} IS DISTINCT FROM {new}) EXECUTE FUNCTION refuse_frozen();
    """


class Migration(migrations.Migration):
    dependencies = [("providers", "0004_score_deliveries_by_version"), ("core", "0001_initial")]

    operations = [
        migrations.RunSQL(frozen_by(TERMS), frozen_by(OLD_TERMS)),
        insert_only("providers_deliveryrecord"),
        insert_only("providers_providerscore"),
    ]
