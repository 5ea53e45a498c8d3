"""The soundfont inside pretty_midi, with its accordions put in tune.

Several zones of TimGM6mb loop one period of a whole number of samples, and the
fine tuning beside them does not make up for the rounding: accordion and
bandoneon sound up to 70 cents flat, more with every octave. The zones are
retuned in memory, from the length of their loops. (Its 'Whistle' is beyond
repair: half of its keys are silent. Nothing here plays it.)
"""

import functools
import importlib.util
import math
import pathlib
import struct

from musiclm_jax import errors

_RETUNED = (21, 23)  # General MIDI programs
_FINE_TUNE, _ROOT_KEY, _SAMPLE, _INSTRUMENT = 52, 58, 53, 41
_LONGEST_PERIOD = 100  # samples; longer loops hold many periods
_RECORDS = dict(phdr='<20sHHHIII', pbag='<HH', pgen='<Hh', inst='<20sH',
                ibag='<HH', igen='<Hh', shdr='<20sIIIIIBbHH')


def path():
  """Path of the soundfont; UserError where it is missing."""
  spec = importlib.util.find_spec('pretty_midi')
  file = spec and pathlib.Path(spec.origin).parent / 'TimGM6mb.sf2'
  if not file or not file.is_file():
    raise errors.UserError(
        'folk_gm plays the soundfont inside the pretty_midi package, which is '
        'not installed; `pip install pretty_midi`.')
  return file


@functools.lru_cache(maxsize=1)
def load():
  """The soundfont's bytes, retuned."""
  data = bytearray(path().read_bytes())
  chunks = _chunks(data, 0, len(data))
  table = {name: _records(data, chunks[name], layout)
           for name, layout in _RECORDS.items()}
  generators = chunks['igen'][0]
  for zone in _zones(table):
    values = {oper: value for _, oper, value in zone}
    where = [index for index, oper, _ in zone if oper == _FINE_TUNE]
    sample = table['shdr'][values[_SAMPLE]]
    period = sample[4] - sample[3]
    if not where or _ROOT_KEY not in values or period > _LONGEST_PERIOD:
      continue
    root_hz = 440.0 * 2**((values[_ROOT_KEY] - 69) / 12)
    cents = 1200 * math.log2(sample[5] / period / root_hz)
    cents -= 1200 * round(cents / 1200)  # zones may sound in octaves
    struct.pack_into('<h', data, generators + 4 * where[0] + 2, -round(cents))
  return bytes(data)


def _chunks(data, start, stop):
  """{RIFF chunk name: (offset of its content, size)}."""
  found = {}
  while start < stop:
    name = bytes(data[start:start + 4])
    size, = struct.unpack_from('<I', data, start + 4)
    if name in (b'RIFF', b'LIST'):
      found.update(_chunks(data, start + 12, start + 8 + size))
    else:
      found[name.decode('ascii', 'replace')] = (start + 8, size)
    start += 8 + size + size % 2
  return found


def _records(data, chunk, layout):
  offset, size = chunk
  return list(struct.iter_unpack(layout, bytes(data[offset:offset + size])))


def _zones(table):
  """Yields [(index in igen, generator, value)] of each zone to retune."""
  presets = table['phdr']
  for i, preset in enumerate(presets[:-1]):
    if preset[2] or preset[1] not in _RETUNED:
      continue
    first = table['pbag'][preset[3]][0]
    last = table['pbag'][presets[i + 1][3]][0]
    for oper, instrument in table['pgen'][first:last]:
      if oper != _INSTRUMENT:
        continue
      bags = range(table['inst'][instrument][1],
                   table['inst'][instrument + 1][1])
      for bag in bags:
        span = range(table['ibag'][bag][0], table['ibag'][bag + 1][0])
        zone = [(k, *table['igen'][k]) for k in span]
        if any(oper == _SAMPLE for _, oper, _ in zone):
          yield zone
