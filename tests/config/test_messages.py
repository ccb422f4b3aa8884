"""The Chinese catalogue has every text of the pages."""

from babel.messages.pofile import read_po

from config.messages import CATALOGUE, found, untranslated, update


def test_every_text_is_translated():
    assert untranslated(update()) == [], "run `python -m config.messages`, then translate what it names"


def test_the_catalogue_names_the_same_figures_as_the_text():
    import re

    for message in read_po(CATALOGUE.open("rb"), locale="zh_Hans"):
        if message.id:
            names = re.findall(r"%\(\w+\)s|\{\w+\}", str(message.id))
            assert sorted(names) == sorted(re.findall(r"%\(\w+\)s|\{\w+\}", str(message.string))), message.id


def test_messages_are_found_in_code_and_templates():
    files = {path.suffix for path, *_rest in found()}
    assert files == {".py", ".html"}
