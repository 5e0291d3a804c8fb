"""Writes the pages."""

from docs.generate import pages
from docs.generate.text import DOCS

for name, text in pages().items():
    (DOCS / name).write_text(text)
