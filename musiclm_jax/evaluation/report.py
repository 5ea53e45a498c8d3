"""An evaluation as one HTML file: figures, pictures and sounds inside it."""

import base64
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import html
import io
import pathlib
from typing import Any

from musiclm_jax import files

_STYLE = '''
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 70em;
       padding: 0 1em; color: #222; background: #fff; }
table { border-collapse: collapse; margin: .5em 0 1.5em; }
td, th { padding: .2em .8em; border-bottom: 1px solid #ddd; text-align: left; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; } audio { width: 14em; } .note { color: #555; }
'''


@dataclasses.dataclass(frozen=True)
class Line:
  """One figure: its value, what to hold it against, what it means."""

  name: str
  value: str
  against: str = ''
  note: str = ''


@dataclasses.dataclass(frozen=True)
class Section:
  """Figures that belong together, and what they come to."""

  title: str
  lines: tuple
  verdict: str = ''

  def text(self) -> str:
    """As the terminal shows it."""
    wide = max((len(l.name) for l in self.lines), default=0)
    rows = [f'{self.title}']
    for line in self.lines:
      against = f'  ({line.against})' if line.against else ''
      note = f'  {line.note}' if line.note else ''
      rows.append(f'  {line.name:<{wide}}  {line.value:>8}{against}{note}')
    if self.verdict:
      rows.append(f'  -> {self.verdict}')
    return '\n'.join(rows)

  def html(self) -> str:
    """As the page shows it."""
    rows = ''.join(
        f'<tr><td>{_text(l.name)}</td><td class="number">{_text(l.value)}</td>'
        f'<td>{_text(l.against)}</td><td class="note">{_text(l.note)}</td></tr>'
        for l in self.lines)
    verdict = f'<p><b>{_text(self.verdict)}</b></p>' if self.verdict else ''
    return f'<h2>{_text(self.title)}</h2><table>{rows}</table>{verdict}'


# Takes a line of progress; takes a finished section.
Say = Callable[[str], None]
Show = Callable[[Section], None]
# A section, and its figures by name.
Told = tuple[Section, Mapping[str, Any]]


@dataclasses.dataclass
class Evaluation:
  """What came out.

  Attributes:
    figures: {name: number}, flat.
    sections: Sections, in order.
  """

  figures: dict
  sections: list

  def add(
      self, show: Show, section: Section, figures: Mapping[str, Any]) -> None:
    """Takes in a Section with its figures, and calls `show` with it."""
    self.sections.append(section)
    self.figures.update({k: float(v) for k, v in figures.items()})
    show(section)


def write(
    path: str | pathlib.Path, title: str, sections: Sequence[Section],
    pictures: Sequence[tuple[str, Any]] = (), sounds: Sequence[Any] = (),
    notes: Sequence[str] = (), listen_first: bool = False) -> None:
  """Writes the page under a temporary name and moves it into place.

  Args:
    path: ends in .html; its folder exists.
    title: of the page.
    sections: Sections.
    pictures: (caption, path of a PNG or its bytes) pairs.
    sounds: (row title, [(column title, [N] float32, sample rate)]) pairs.
    notes: lines about how it was made.
    listen_first: put the sounds before the figures.
  """
  parts = [f'<!doctype html><meta charset="utf-8"><title>{_text(title)}</title>',
           f'<style>{_STYLE}</style><h1>{_text(title)}</h1>']
  parts += [f'<p class="note">{_text(note)}</p>' for note in notes]
  if sounds and listen_first:
    parts.append(_sounds(sounds))
  parts += [section.html() for section in sections]
  for caption, picture in pictures:
    if not isinstance(picture, bytes):
      picture = pathlib.Path(picture).read_bytes()
    data = base64.b64encode(picture).decode()
    parts.append(f'<h2>{_text(caption)}</h2>'
                 f'<img alt="{_text(caption)}" '
                 f'src="data:image/png;base64,{data}">')
  if sounds and not listen_first:
    parts.append(_sounds(sounds))
  files.write_text(path, '\n'.join(parts))


def _sounds(sounds):
  heads = ''.join(f'<th>{_text(title)}</th>' for title, _, _ in sounds[0][1])
  rows = []
  for title, players in sounds:
    cells = ''.join(
        f'<td><audio controls preload="none" src="{flac(audio, rate)}">'
        f'</audio></td>' for _, audio, rate in players)
    rows.append(f'<tr><td>{_text(title)}</td>{cells}</tr>')
  return (f'<h2>Listen</h2><table><tr><th></th>{heads}</tr>{"".join(rows)}'
          f'</table>')


def flac(audio: Any, rate: int) -> str:
  """[N] float32 -> a data URL of 16-bit FLAC."""
  import soundfile  # pylint: disable=g-import-not-at-top

  from musiclm_jax import audio as audio_lib  # pylint: disable=g-import-not-at-top
  from musiclm_jax import audio_stream  # pylint: disable=g-import-not-at-top
  buffer = io.BytesIO()
  samples = audio_stream.to_int16(audio_lib.limit_peak(audio))
  soundfile.write(buffer, samples, rate, format='FLAC', subtype='PCM_16')
  return ('data:audio/flac;base64,' +
          base64.b64encode(buffer.getvalue()).decode())


def _text(value):
  return html.escape(str(value))
