"""Files of sound as they are, not as their headers say.

A header tells how long the sound is, and the decoder believes it: where it is
an estimate, was never filled in or counts the first of several joined files,
the rest would be left out. `parts` looks at the file itself and hands the
decoder either the file or views of it whose headers are right. What it has no
decoder for is decoded before (coded.py).
"""

import io
import os
import pathlib

from musiclm_jax.audio_files import coded
from musiclm_jax.audio_files import flac
from musiclm_jax.audio_files import mp3
from musiclm_jax.audio_files import ogg
from musiclm_jax.audio_files import view
from musiclm_jax.audio_files import wav

NoDecoder, CODED_SUFFIXES = coded.NoDecoder, coded.SUFFIXES
_KINDS = (wav, flac, ogg, mp3)  # mp3 last: it has no sure beginning


def parts(path: str | os.PathLike) -> list[str | view.View]:
  """What to decode, one after the other, to hear all of a file.

  Args:
    path: of a file that exists.

  Returns:
    List of what soundfile.SoundFile opens: usually the path alone.

  Raises:
    coded.NoDecoder, ValueError, OSError: as of `coded.decoded`.
  """
  with open(path, 'rb') as file:
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    start = file.read(view.SNIFFED_BYTES)
    if kind := coded.format_of(start):
      return [coded.decoded(path, kind)]
    for kind in _KINDS:
      if kind.known(start):
        found = kind.pieces(file, size)
        break
    else:
      found = None
  if found is None:
    return [str(path)]
  return [view.View(pathlib.Path(path), pieces) for pieces in found]
