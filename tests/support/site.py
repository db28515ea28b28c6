"""What MkDocs is told of the pages in docs/: they are also read where the code is, with links to it.

A link to a file of the project becomes its name, since the site has no code; one to a file that is not there
is an error. The long tables are made from schema.py and settings.py while the site is built.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError

from tests.support import readme

ROOT = Path(__file__).parents[2]
_OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./([^)#]+)(#[^)]*)?\)")
_DETAILS = re.compile(r"^</?details>.*\n", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """A page as the site has it."""
    markdown = markdown.replace("<!-- made: tables -->", _DETAILS.sub("", readme.tables()))
    markdown = markdown.replace("<!-- made: settings -->", readme.settings())
    return _OUTSIDE.sub(_named, markdown)


def _named(link: re.Match[str]) -> str:
    text, path, _ = link.groups()
    if not (ROOT / path).exists():
        msg = f"a page links to {path}, which is not there"
        raise PluginError(msg)
    return text if path in text else f"{text} (`{path}`)"
