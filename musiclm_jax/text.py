"""Text that people give."""

import unicodedata

# Blanks, line breaks, controls, and what has no width.
_UNSEEN = ('Zs', 'Zl', 'Zp', 'Cc', 'Cf')


def is_blank(text: str) -> bool:
  """Whether there is nothing to read in a text.

  >>> is_blank(' \\t\\n'), is_blank('\\u200b\\ufeff'), is_blank('\\u200bair')
  (True, True, False)
  """
  return all(unicodedata.category(c) in _UNSEEN for c in text)
