"""What docs/METERING.md tells a provider to type, for tests to run as it stands there."""

import json
import re
import shlex
from pathlib import Path
from textwrap import dedent
from typing import Any

TEXT = (Path(__file__).parents[2] / "docs" / "METERING.md").read_text()


def section(title: str) -> str:
    """Return what stands under a heading that begins so."""
    return re.split(r"^## ", TEXT.split(f"\n## {title}", 1)[1], flags=re.MULTILINE)[0]


def block(text: str, begins: str) -> str:
    """Return the indented block in which a line begins so."""
    blocks = re.findall(r"(?:^(?: {4}.*)?\n)+", text, flags=re.MULTILINE)
    return next(dedent(one).strip() for one in blocks if re.search(rf"^ *{re.escape(begins)}", one, re.MULTILINE))


def span(begins: str) -> str:
    """Return the code span that begins so."""
    return next(one for one in re.findall(r"`([^`]+)`", TEXT) if one.startswith(begins))


def json_after(text: str, line: str) -> Any:
    """Return the JSON that follows a line of a block."""
    return json.JSONDecoder().raw_decode(text[text.index("{", text.index(line)) :])[0]


def variables(lines: str, *, url: str, key: str) -> dict[str, str]:
    """Return what `NAME=value` words set, $URL and $KEY filled in."""
    filled = lines.replace("$URL", url).replace("$KEY", key)
    return dict(word.split("=", 1) for word in shlex.split(filled) if re.match(r"[A-Z_]+=", word))


def requests(lines: str) -> list[tuple[str, Any]]:
    """Return address and JSON body of each curl command."""
    found = []
    for command in re.split(r"^curl ", lines, flags=re.MULTILINE)[1:]:
        words = shlex.split(command)
        found.append((words[0].removeprefix("$URL"), json.loads(words[words.index("-d") + 1])))
    return found
