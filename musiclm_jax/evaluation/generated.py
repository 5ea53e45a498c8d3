"""What `musiclm generate` made, as a page: to hear, to see, in numbers.

Drawn with Pillow, since the base install has no matplotlib.
"""

from collections.abc import Sequence
import io
import pathlib
from typing import Any

import numpy as np
from PIL import Image

from musiclm_jax.evaluation import adherence
from musiclm_jax.evaluation import ladder
from musiclm_jax.evaluation import report
from musiclm_jax.metrics import seams
from musiclm_jax.systems.musiclm import story
from musiclm_jax.training import previews

_WIDTH, _MOST_PIXELS = 1000, 2400  # of a picture
_SHOWN_TAKES = 4  # that pictures are made of
_SPAN_DB = 70.0
_BLOCK_SECONDS = 30  # of a spectrogram at once


def write(
    path: str | pathlib.Path, result: Any, files: Sequence[pathlib.Path],
    steering: Any, bundle: Any,
    facts: Sequence[str] = ()) -> list[report.Section]:
  """Writes the page.

  Args:
    path: ends in .html; its folder exists.
    result: a systems.musiclm.model.Result with similarities.
    files: the takes' files, in order.
    steering: the Steering that it was made from.
    bundle: the bundle.Bundle that made it.
    facts: lines about how it was made.

  Returns:
    The report.Sections, for the terminal.
  """
  sounds = [take.sound.read() for take in result.takes]
  new = [s[result.known * result.sample_rate_hz:] for s in sounds]
  sections = [_takes(result, files, sounds)]
  if steering.melody is not None:
    sections.append(_melody(new, files, steering.melody,
                            result.sample_rate_hz))
  if len(steering.parts) > 1:
    sections.append(_story(steering.parts, result))
  pictures = []
  for take, sound, file in zip(result.takes[:_SHOWN_TAKES], sounds, files):
    length = story.clock(round(len(sound) / result.sample_rate_hz))
    pictures += [
        (f'{file.name}: log-mel spectrogram, 0:00 to {length}, low sounds '
         f'below.', png(spectrogram(sound))),
        (f'{file.name}: semantic tokens, one row, above codec tokens by level, '
         f'time to the right; a colour a token.',
         png(token_map(take.semantic, take.acoustic)))]
  rows = [(file.name, [('', sound, result.sample_rate_hz)])
          for file, sound in zip(files, sounds)]
  if steering.melody is not None:
    rows.append(('the melody', [('', steering.melody, result.sample_rate_hz)]))
  if steering.like is not None:
    rows.append(('the song', [('', steering.like, result.sample_rate_hz)]))
  report.write(path, result.title, sections, pictures, rows,
               [f'bundle {bundle.identity}', *facts], listen_first=True)
  return sections


def _takes(result, files, sounds):
  """Similarity and seams of every take."""
  lines = []
  joins = sorted({j for times in result.joins.values() for j in times})
  for take, file, sound in zip(result.takes, files, sounds):
    found = seams.measure(sound, result.sample_rate_hz, joins)
    note = 'in one window'
    if len(found.seconds):
      note = (f'{len(found.seconds)} joins of windows '
              f'{"like" if found.clean else "unlike"} other moments: p '
              f'{found.click_p:.2f} for a click, {found.spectral_p:.2f} for '
              f'another sound')
    lines.append(report.Line(
        file.name, f'{take.similarity:.3f}', f'sample {take.sample + 1}', note))
  return report.Section(
      'Similarity to what was asked for (MuLan, -1 to 1), and joins',
      tuple(lines))


def _melody(sounds, files, melody, rate):
  """How far every take follows the melody."""
  lines, tracker = [], ''
  for sound, file in zip(sounds, files):
    found = adherence.measure(sound, melody, rate)
    tracker = found.tracker
    shown = lambda x: '-' if x is None else f'{x:.2f}'
    lines += [
        report.Line(f'{file.name}: contour', shown(found.contour),
                    f'chance {shown(found.contour_chance)}',
                    f'{found.frames} frames with a pitch in both'),
        report.Line(f'{file.name}: chroma', shown(found.chroma),
                    f'chance {shown(found.chroma_chance)}')]
  return report.Section(
      f'Melody adherence, pitch by {tracker}, at the best transposition',
      tuple(lines))


def _story(parts, result):
  return report.Section('Story', tuple(
      report.Line(story.clock(change), '', part.prompt)
      for change, part in zip(result.changes, parts)))


def spectrogram(audio: np.ndarray) -> np.ndarray:
  """[N] at 24 kHz -> [H, W, 3] uint8."""
  audio = np.asarray(audio, np.float32)
  size = _BLOCK_SECONDS * ladder.MEL.sample_rate_hz
  # Whole blocks of silence at the end are cut off: one program for any length.
  padded = np.pad(audio, (0, -len(audio) % size))
  image = np.concatenate(  # [bands, T] dB
      [ladder.mel_image(block) for block in padded.reshape(-1, size)], axis=1)
  image = image[:, :ladder.MEL.num_frames(len(audio))]
  pixels = previews.panels([_narrowed(image).T], span=_SPAN_DB).pixels
  return _scaled(pixels, 3)


def token_map(semantic: np.ndarray, acoustic: np.ndarray) -> np.ndarray:
  """[T] and [T', levels] codes -> [H, W, 3] uint8, a colour a code."""
  above = [_stretched(semantic, len(acoustic))] if len(semantic) else []
  rows = above + list(acoustic.T)
  codes = np.stack(rows)
  codes = codes[:, _columns(codes.shape[1])]
  # Codes have no order: neighbours get distant hues.
  hue = (codes * 0.61803398875) % 1.0
  place = np.abs((hue[..., None] * 6.0 + np.array([0.0, 4.0, 2.0])) % 6.0 - 3.0)
  colours = 60 + 180 * np.clip(place - 1.0, 0.0, 1.0)
  colours = np.where(codes[..., None] < 0, 255, colours).astype(np.uint8)
  return _scaled(colours, 10)


def _stretched(values, length):
  return np.asarray(values)[np.arange(length) * len(values) // length]


def _columns(length):
  """Indices of the columns that a picture shows."""
  count = min(length, _MOST_PIXELS)
  return np.arange(count) * length // count


def _narrowed(image):
  """[H, T] -> [H, at most _MOST_PIXELS], the mean of what falls together."""
  edges = np.append(_columns(image.shape[1]), image.shape[1])
  sums = np.add.reduceat(image, edges[:-1], axis=1)
  return sums / np.diff(edges)


def _scaled(pixels, height):
  """Rows `height` times; columns so often that the picture fills the page."""
  wide = max(1, _WIDTH // pixels.shape[1])
  return pixels.repeat(height, axis=0).repeat(wide, axis=1)


def png(pixels: np.ndarray) -> bytes:
  """[H, W, 3] uint8 -> the bytes of a PNG file."""
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, 'png')
  return file.getvalue()
