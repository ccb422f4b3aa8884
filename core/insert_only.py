"""Tables whose rows are facts: a trigger refuses to change or delete them."""

from django.db import migrations


def insert_only(table: str) -> migrations.RunSQL:
    """
    Return the migration operation that makes `table` insert-only.

    TRUNCATE stays possible to the table's owner: Django's test flush needs it and a trigger against it would break it.
    """
    return migrations.RunSQL(
        f"""
        CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'rows of % are facts: they are never changed or deleted', TG_TABLE_NAME
                USING ERRCODE = 'integrity_constraint_violation';
        END $$;
        CREATE TRIGGER {table}_is_insert_only BEFORE UPDATE OR DELETE ON {table}
            FOR EACH ROW EXECUTE FUNCTION refuse_change();
        """,
        f"DROP TRIGGER {table}_is_insert_only ON {table}",
    )
