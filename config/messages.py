"""
`python -m config.messages`: take the texts out of code and templates into the Chinese catalogue; translations stay.

Babel reads the code; Django turns its templates into what Babel's JavaScript reader understands. GNU gettext is
not needed. The catalogue is compiled at set-up.
"""

import io
import sys
from collections.abc import Iterator
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract
from babel.messages.pofile import read_po, write_po
from django.utils.translation import template as django_template

ROOT = Path(__file__).resolve().parent.parent
CATALOGUE = ROOT / "locale" / "zh_Hans" / "LC_MESSAGES" / "django.po"
APPS = ("core", "identity", "providers", "billing", "exchange", "metering_ingest", "config")
KEYWORDS = {
    "_": None,
    "gettext": None,
    "gettext_lazy": None,
    "gettext_noop": None,
    "ngettext": (1, 2),
    "pgettext": ((1, "c"), 2),
    "pgettext_lazy": ((1, "c"), 2),
}


Message = tuple[Path, int, str | tuple[str, ...], str | None]


def found() -> Iterator[Message]:
    """Return file, line, text (singular and plural where there are two) and context, if any, of every message."""
    for app in APPS:
        for path in sorted((ROOT / app).rglob("*.py")):
            if "migrations" not in path.parts:
                yield from _messages(path, "python", path.read_bytes())
    for path in sorted((ROOT / "templates").rglob("*.html")):
        source = django_template.templatize(path.read_text(), origin=str(path))
        yield from _messages(path, "javascript", source.encode())


def _messages(path: Path, method: str, source: bytes) -> Iterator[Message]:
    for line, message, _comments, context in extract(method, io.BytesIO(source), KEYWORDS):
        yield path, line, message, context


def update() -> Catalog:
    """Return the catalogue with every message of the sources, and the translations that it had."""
    template = Catalog(domain="django")
    for path, _line, message, context in found():
        flags = ["python-format"] if "%(" in str(message) else []
        place = (str(path.relative_to(ROOT)), None)  # the file alone: line numbers would change with every edit
        template.add(message, locations=[place], flags=flags, context=context)  # type: ignore[list-item]
    catalogue = read_po(CATALOGUE.open("rb"), locale="zh_Hans") if CATALOGUE.exists() else Catalog(locale="zh_Hans")
    catalogue.update(template, no_fuzzy_matching=True, update_creation_date=False)
    catalogue.header_comment = (
        "# Ciyuan's texts in Simplified Chinese; `python -m config.messages` keeps the list true."
    )
    catalogue.project, catalogue.version = "Ciyuan", "1"
    catalogue.last_translator = catalogue.language_team = "Ciyuan developers"
    catalogue.fuzzy = False
    return catalogue


def untranslated(catalogue: Catalog) -> list[str]:
    """Return the messages that have no translation."""
    return [str(message.id) for message in catalogue if message.id and not message.string]


def main() -> int:
    """Write the catalogue; say what is not translated."""
    catalogue = update()
    CATALOGUE.parent.mkdir(parents=True, exist_ok=True)
    with CATALOGUE.open("wb") as file:
        write_po(file, catalogue, width=120, sort_output=True, omit_header=False, ignore_obsolete=True)
    for text in untranslated(catalogue):
        print(f"not translated: {text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
