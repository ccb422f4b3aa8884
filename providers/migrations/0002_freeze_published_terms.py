"""What contracts were priced by never changes: a card's numbers, a grade's terms, a list price that was in force."""

from django.db import migrations

from core.insert_only import insert_only

CARD = "slug, standard_version, active_params, active_weight_bytes, attention, total_params, weights_sha256"
TERMS = (
    "slug, model_card_id, precisions, service_class, region, data_terms, standard_version, max_context_tokens,"
    " max_output_tokens, take_or_pay_thousandths, cached_share_thousandths, grace_seconds, tick_nano, min_order_tokens"
)


def frozen(table: str, columns: str) -> migrations.RunSQL:
    old, new = ("(" + ", ".join(f"{row}.{name.strip()}" for name in columns.split(",")) + ")" for row in ("OLD", "NEW"))
    return migrations.RunSQL(
        f"""
        CREATE OR REPLACE FUNCTION refuse_frozen() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'the published terms of % % are frozen', TG_TABLE_NAME, OLD.slug
                USING ERRCODE = 'integrity_constraint_violation';
        END $$;
        CREATE TRIGGER {table}_is_frozen BEFORE UPDATE ON {table}
            FOR EACH ROW WHEN ({old} IS DISTINCT FROM {new}) EXECUTE FUNCTION refuse_frozen();
        """,
        f"DROP TRIGGER {table}_is_frozen ON {table}",
    )


class Migration(migrations.Migration):
    dependencies = [("providers", "0001_initial"), ("core", "0001_initial")]

    operations = [
        frozen("providers_modelcard", CARD),
        frozen("providers_grade", TERMS),
        insert_only("providers_listprice"),
    ]
