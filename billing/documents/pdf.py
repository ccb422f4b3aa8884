"""PDF/A of a document, by typst with fonts from a package: the same content gives the same bytes."""

import json
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import pylopdf_fonts_zh_cn
import typst

from billing.documents.present import Presenter
from billing.documents.terms import Language
from billing.models import Invoice

FONTS = Path(pylopdf_fonts_zh_cn.__file__).parent
LAYOUTS = Path(__file__).parent
_lock = Lock()


@lru_cache(maxsize=1)
def _fonts() -> typst.Fonts:
    """Return the 20 MB of fonts, parsed."""
    return typst.Fonts(include_system_fonts=False, include_embedded_fonts=False, font_paths=[FONTS])


@lru_cache
def _compiler(layout: str) -> typst.Compiler:
    return typst.Compiler(LAYOUTS / layout, root=LAYOUTS, font_paths=_fonts(), ignore_system_fonts=True)


def render(invoice: Invoice, language: Language, *, address: str = "") -> bytes:
    """Return the document as PDF/A-2u; `address` is where its online copy is, printed on it."""
    return compiled("invoice.typ", Presenter(invoice, language, address=address).document(), invoice.issued_at)


def compiled(layout: str, document: dict[str, Any], made_at: datetime) -> bytes:
    """Return what a layout makes of a document's texts, as PDF/A-2u: the same texts give the same bytes."""
    content = json.dumps(document, ensure_ascii=False)
    with _lock:
        pdf = _compiler(layout).compile(
            sys_inputs={"document": content}, format="pdf", pdf_standards="a-2u",
            timestamp=made_at.replace(microsecond=0))  # the compiler takes whole seconds only
    assert isinstance(pdf, bytes)
    return pdf
