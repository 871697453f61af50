"""Escaping: text of any origin in one line of a terminal.

Names, paths and messages may come from files and stores that others made. What a terminal would obey or
cannot show (escape sequences, newlines, bidi marks, halves of surrogate pairs) is written as Python would.
"""

LONGEST_LINE, LONGEST_CELL = 2_000, 1_000  # characters


def escape(text: str, longest: int = LONGEST_LINE) -> str:
    """Return a text in one line, printable; the middle of a very long one is left out."""
    if len(text) > longest:
        kept = longest // 2 - 1
        text = f"{text[:kept]} … {text[-kept:]}"
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def is_text(value: str) -> bool:
    """Return whether a value can be written as UTF-8: what the system could not decode cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
