"""Sounds to hear and to see: a player, a spectrogram, the tokens."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import io
import pathlib
from typing import Any

import numpy as np
from PIL import Image

from musiclm_jax import audio_stream
from musiclm_jax import errors
from musiclm_jax.evaluation import clip_sets
from musiclm_jax.evaluation import generated
from musiclm_jax.evaluation import report
from musiclm_jax.evaluation.pages import folder as folder_lib
from musiclm_jax.evaluation.pages import markup
from musiclm_jax.evaluation.pages import measured

tag = markup.tag

SECONDS = 30  # of a sound that the page holds
_MOST_FORMS = 8  # of one clip
_MOST_HZ = 48_000
_SEEN_HZ = 24_000  # spectrograms and tokens are of
_WIDTH, _COLOURS = 640, 96  # of a spectrogram
_BLOCK_SECONDS = 10  # sounds are padded to: one program for most of them

Tokens = Callable[[np.ndarray], np.ndarray]  # [N] at 24 kHz -> [H, W, 3] uint8


def items(sets: Sequence[folder_lib.SoundSet]
          ) -> list[tuple[str, list[measured.Item]]]:
  """[(title, clips)]: folders whose files have the same names are one."""
  groups = []
  for one in sets:
    for group in groups:
      shared = len(group[0].files.keys() & one.files.keys())
      if 2 * shared >= max(len(group[0].files), len(one.files)):
        group.append(one)
        break
    else:
      groups.append([one])
  return [(', '.join(s.name for s in group), _paired(group))
          for group in groups]


def _paired(group):
  names = dict.fromkeys(name for one in group for name in one.files)
  return [measured.Item(
      name, next((s.captions[name] for s in group if s.captions.get(name)), ''),
      {s.name: s.files[name] for s in group if name in s.files})
          for name in names]


def html(clips: Sequence[measured.Item], most: int,
         tokens: Tokens | None = None) -> markup.Html:
  """Players of the first `most` clips, and how many there are."""
  shown = clips[:most]
  told = f'{markup.count(len(clips), "clip")} to hear'
  if len(shown) < len(clips):
    told = (f'The first {len(shown):,} of {len(clips):,} clips; --clips puts '
            f'more into the page')
  parts = [_clip(clip, tokens) for clip in shown]
  if all(len(clip.sounds) == 1 for clip in shown):  # beside each other
    parts = [tag('div', *parts, class_='forms')]
  return markup.joined(
      tag('p', told, '. The loudest of each picture is its brightest.',
          class_='note'), *parts)


def _clip(item, tokens):
  forms = [_form(name, path, tokens)
           for name, path in list(item.sounds.items())[:_MOST_FORMS]]
  if len(item.sounds) > _MOST_FORMS:
    forms.append(tag('p', f'{len(item.sounds) - _MOST_FORMS} more forms',
                     class_='note'))
  return tag('div', tag('p', tag('b', item.id), ' ', item.caption),
             tag('div', *forms, class_='forms'), class_='clip')


def _form(name, path, tokens):
  """One sound; where it is none, why."""
  title = tag('p', name, class_='note')
  try:
    heard, rate, whole = _head(path)
    seen = _head(path, _SEEN_HZ)[0]
  except errors.UserError as error:
    return tag('div', title, tag('p', f'Not shown: {error}', class_='worse'))
  parts = [title, _picture(f'{name}: log-mel spectrogram, low sounds below',
                           _small(generated.spectrogram(seen)))]
  if tokens is not None:
    parts.append(_picture(f'{name}: semantic tokens in the first row, codec '
                          f'tokens by level below', Image.fromarray(tokens(seen))))
  parts.append(tag('audio', controls='', preload='none',
                   src=report.flac(heard, rate), aria_label=name))
  if whole > SECONDS + 0.5:
    parts.append(tag('p', f'the first {SECONDS} s of {whole:.0f} s',
                     class_='note'))
  return tag('div', *parts)


def _head(path: pathlib.Path, rate_hz: int | None = None
          ) -> tuple[np.ndarray, int, float]:
  """([N] float32, its rate, seconds of the whole file); UserError if unusable."""
  rate = rate_hz or min(_MOST_HZ, _rate(path))
  blocks, have = [], 0
  with audio_stream.Source(path, rate) as source:
    for block in source.blocks(rate):
      blocks.append(block)
      have += len(block)
      if have >= SECONDS * rate:
        break
    whole = source.seconds
  sound = np.concatenate(blocks)[:SECONDS * rate] if blocks else np.zeros(0)
  if not len(sound) or np.abs(sound).max() < clip_sets.SILENCE:
    raise errors.UserError(f'{path} is silent.')
  return sound, rate, whole


def _rate(path):
  import soundfile  # pylint: disable=g-import-not-at-top
  try:
    return soundfile.info(str(path)).samplerate
  except (RuntimeError, OSError):
    return _MOST_HZ  # Source says what is wrong with it


def _picture(told, picture):
  content = io.BytesIO()
  picture.save(content, 'png', optimize=True)
  return tag('img', alt=told, title=told, width=picture.width,
             height=picture.height,
             src=markup.data_url('image/png', content.getvalue()))


def _small(pixels):
  """A spectrogram that pages can have many of: fewer columns and colours."""
  image = Image.fromarray(pixels)
  image = image.resize((min(_WIDTH, image.width), image.height // 2),
                       Image.Resampling.BOX)
  return image.quantize(_COLOURS)


def tokens_of(bundle: Any) -> Tokens:
  """How this bundle's tokenizers hear a sound, as a picture."""
  spec = bundle.tokens
  codec, semantic = bundle.get('codec'), bundle.get('w2vbert')

  def picture(audio: np.ndarray) -> np.ndarray:
    seconds = len(audio) / _SEEN_HZ
    padded = np.pad(audio, (0, -len(audio) % (_BLOCK_SECONDS * _SEEN_HZ)))
    codes = [np.asarray(part.encode(padded[None]))[0][:max(1, round(
        seconds * kind.frame_rate_hz))]
             for part, kind in ((semantic, spec.semantic), (codec, spec.codec))]
    return generated.token_map(*codes)

  return picture
