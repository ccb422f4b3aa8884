"""PDF/A of a document, by typst with fonts from a package: the same content gives the same bytes."""

import json
from functools import lru_cache
from pathlib import Path
from threading import Lock

import pylopdf_fonts_zh_cn
import typst

from billing.documents.present import Presenter
from billing.documents.terms import Language
from billing.models import Invoice

FONTS = Path(pylopdf_fonts_zh_cn.__file__).parent
LAYOUT = Path(__file__).with_name("invoice.typ")
_lock = Lock()


@lru_cache(maxsize=1)
def _compiler() -> typst.Compiler:
    """Return the compiler with the layout; it keeps the 20 MB of fonts parsed."""
    fonts = typst.Fonts(include_system_fonts=False, include_embedded_fonts=False, font_paths=[FONTS])
    return typst.Compiler(LAYOUT, root=LAYOUT.parent, font_paths=fonts, ignore_system_fonts=True)


def render(invoice: Invoice, language: Language, *, address: str = "") -> bytes:
    """Return the document as PDF/A-2u; `address` is where its online copy is, printed on it."""
    content = json.dumps(Presenter(invoice, language, address=address).document(), ensure_ascii=False)
    with _lock:
        pdf = _compiler().compile(
            sys_inputs={"document": content}, format="pdf", pdf_standards="a-2u",
            timestamp=invoice.issued_at.replace(microsecond=0))  # the compiler takes whole seconds only
    assert isinstance(pdf, bytes)
    return pdf
