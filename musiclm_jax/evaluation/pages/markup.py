"""HTML by functions: what is no Html is text, and is escaped."""

import base64
import html
from typing import Any

_VOID = frozenset({'br', 'img', 'meta', 'wbr'})


class Html(str):
  """Text that is HTML already."""

  __slots__ = ()


def tag(name: str, *children: Any, **attributes: Any) -> Html:
  """An element; None among children and attributes is left out.

  Args:
    name: of the element.
    *children: Html goes in as it is, all else as escaped text.
    **attributes: `class_` is class, an underscore within a name a hyphen.

  >>> tag('p', 'a < b', tag('br'), class_='note', data_id='"x"')
  '<p class="note" data-id="&quot;x&quot;">a &lt; b<br></p>'
  """
  told = ''.join(
      f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
      for key, value in attributes.items() if value is not None)
  if name in _VOID:
    return Html(f'<{name}{told}>')
  return Html(f'<{name}{told}>{joined(*children)}</{name}>')


def joined(*children: Any) -> Html:
  """Children one after the other, without an element around them."""
  return Html(''.join(
      child if isinstance(child, Html) else html.escape(str(child))
      for child in children if child is not None))


def data_url(kind: str, content: bytes) -> str:
  """Bytes of a MIME type as an address that needs no other file."""
  return f'data:{kind};base64,{base64.b64encode(content).decode()}'


def folded(title: Any, *children: Any, open_: bool = False) -> Html:
  """What a reader opens."""
  return tag('details', tag('summary', title), *children,
             open='' if open_ else None)


def scrolled(*children: Any) -> Html:
  """What may be wider than a phone."""
  return tag('div', *children, class_='wide', tabindex='0', role='region',
             aria_label='wider than the page: scrolls sideways')


def count(number: int, what: str) -> str:
  """
  >>> count(1, 'clip'), count(2, 'clip')
  ('1 clip', '2 clips')
  """
  return f'{number:,} {what}{"" if number == 1 else "s"}'
