"""The General MIDI instruments of the arrangements, and what they are called.

A name that begins with '*' is used in captions of the test split only.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Instrument:
  """One instrument.

  Attributes:
    key: name in the metadata.
    program: General MIDI program, 0-based; None for the synthesised hum.
    family: one of about ten.
    names: what captions call it, separated by '|'.
    low, high: comfortable range of a melody, MIDI pitches.
    weight: how often it leads, relative to the others.
    sustained: the tone lasts as long as the note (bowed, blown, free reed).
  """

  key: str
  program: int | None
  family: str
  names: str
  low: int = 55
  high: int = 88
  weight: float = 1.0
  sustained: bool = False

  @property
  def all_names(self):
    return [name.lstrip('*') for name in self.names.split('|')]


def _table(*rows):
  return {row.key: row for row in rows}


_I = Instrument

LEADS = _table(
    _I('fiddle', 40, 'bowed strings',
       'fiddle|violin|folk fiddle|*concert violin', 60, 91, 5, True),
    _I('country fiddle', 110, 'bowed strings',
       'country fiddle|scratchy fiddle|old fiddle|*rustic fiddle', 60, 91, 2,
       True),
    _I('viola', 41, 'bowed strings', 'viola|*low viola', 50, 81, 1, True),
    _I('cello', 42, 'bowed strings', 'cello|violoncello', 38, 69, 2, True),
    _I('flute', 73, 'flutes', 'flute|wooden flute|*transverse flute', 62, 93, 4,
       True),
    _I('recorder', 74, 'flutes', 'recorder|wooden recorder|*fipple flute', 64,
       93, 3, True),
    _I('piccolo', 72, 'flutes', 'piccolo|fife', 72, 98, 2.5, True),
    _I('pan flute', 75, 'flutes', 'pan flute|pan pipes|*breathy panpipes', 60,
       88, 1.5, True),
    _I('ocarina', 79, 'flutes', 'ocarina', 64, 90, 1, True),
    _I('clarinet', 71, 'reeds', 'clarinet|woody clarinet|*mellow clarinet', 52,
       86, 2, True),
    _I('oboe', 68, 'reeds', 'oboe|*reedy oboe', 60, 88, 1.5, True),
    _I('bassoon', 70, 'reeds', 'bassoon', 40, 68, 1, True),
    _I('alto sax', 65, 'reeds', 'alto saxophone|saxophone|sax', 52, 80, 1.5,
       True),
    _I('bagpipes', 109, 'reeds',
       'bagpipes|pipes|bagpipe|*skirling bagpipes', 60, 82, 2.5, True),
    _I('accordion', 21, 'free reeds',
       'accordion|button accordion|squeezebox|*melodeon', 58, 88, 4, True),
    _I('concertina', 23, 'free reeds', 'concertina|bandoneon', 58, 88, 2, True),
    _I('harmonica', 22, 'free reeds',
       'harmonica|mouth organ|*blues harp', 60, 88, 2, True),
    _I('nylon guitar', 24, 'plucked strings',
       'nylon-string guitar|classical guitar|acoustic guitar|'
       '*fingerpicked nylon guitar', 48, 79, 3),
    _I('steel guitar', 25, 'plucked strings',
       'steel-string guitar|acoustic guitar|flatpicked guitar|*folk guitar', 48,
       79, 2),
    _I('banjo', 105, 'plucked strings', 'banjo|picked banjo|*tenor banjo', 52,
       81, 3),
    _I('harp', 46, 'plucked strings', 'harp|celtic harp|*lever harp', 50, 88,
       3),
    _I('dulcimer', 15, 'plucked strings',
       'hammered dulcimer|dulcimer|*struck dulcimer', 52, 86, 2),
    _I('sitar', 104, 'plucked strings', 'sitar', 50, 79, 1),
    _I('koto', 107, 'plucked strings', 'koto', 52, 84, 1),
    _I('electric guitar', 27, 'plucked strings',
       'electric guitar|clean electric guitar', 48, 81, 1.5),
    _I('piano', 0, 'keyboards', 'piano|acoustic piano|*upright piano', 50, 93,
       4),
    _I('electric piano', 4, 'keyboards',
       'electric piano|*mellow electric piano', 50, 88, 1.5),
    _I('harpsichord', 6, 'keyboards', 'harpsichord|*baroque harpsichord', 50,
       86, 2),
    _I('church organ', 19, 'keyboards', 'pipe organ|church organ|organ', 50, 86,
       1.5, True),
    _I('reed organ', 20, 'keyboards', 'reed organ|harmonium|*pump organ', 50,
       86, 1, True),
    _I('music box', 10, 'mallets', 'music box|*tinkling music box', 67, 98, 2),
    _I('glockenspiel', 9, 'mallets', 'glockenspiel', 72, 100, 1),
    _I('vibraphone', 11, 'mallets', 'vibraphone|vibes', 55, 86, 1.5),
    _I('marimba', 12, 'mallets', 'marimba|*wooden marimba', 50, 86, 2),
    _I('xylophone', 13, 'mallets', 'xylophone', 65, 96, 1.5),
    _I('kalimba', 108, 'mallets', 'kalimba|thumb piano', 57, 84, 1),
    _I('trumpet', 56, 'brass', 'trumpet|*bright trumpet', 55, 82, 2, True),
    _I('muted trumpet', 59, 'brass', 'muted trumpet', 55, 82, 1, True),
    _I('french horn', 60, 'brass', 'french horn|horn', 45, 74, 1.5, True),
    _I('trombone', 57, 'brass', 'trombone', 40, 70, 1, True),
    _I('synth lead', 80, 'synthesisers',
       'synth lead|square-wave synth|synthesizer|*chiptune synth', 55, 88, 2,
       True),
    _I('saw lead', 81, 'synthesisers', 'sawtooth synth|buzzing synth lead', 52,
       84, 1, True),
    _I('choir', 52, 'voice', 'choir|choir voices|wordless choir', 58, 79, 1.5,
       True),
)

# Who hums: two sampled voices and the synthesised one of humming.py.
HUMMERS = _table(
    _I('hum', None, 'voice', 'humming voice|hummed voice', 45, 72, 4, True),
    _I('voice oohs', 53, 'voice', 'voice singing ooh|wordless voice', 48, 74, 2,
       True),
    _I('voice', 85, 'voice', 'solo voice|singing voice', 48, 74, 1, True),
)

CHORDS = _table(
    _I('acoustic guitar', 25, 'plucked strings',
       'acoustic guitar|strummed guitar|guitar|*strumming acoustic guitar', 45,
       69, 5),
    _I('nylon guitar', 24, 'plucked strings',
       'classical guitar|nylon-string guitar', 45, 69, 3),
    _I('piano', 0, 'keyboards', 'piano|acoustic piano|*vamping piano', 48, 72,
       4),
    _I('harp', 46, 'plucked strings', 'harp|celtic harp|*rippling harp', 48, 74,
       2),
    _I('accordion', 21, 'free reeds', 'accordion|squeezebox', 50, 72, 2, True),
    _I('strings', 48, 'bowed strings',
       'string section|strings|orchestral strings|*lush strings', 48, 74, 2,
       True),
    _I('organ', 19, 'keyboards', 'organ|church organ', 48, 72, 1, True),
    _I('harpsichord', 6, 'keyboards', 'harpsichord', 48, 72, 1),
    _I('banjo', 105, 'plucked strings', 'banjo', 50, 70, 1.5),
    _I('electric guitar', 27, 'plucked strings', 'electric guitar', 45, 69, 1),
    _I('pad', 89, 'synthesisers', 'warm synth pad|synth pad|*soft pad', 48, 74,
       1.5, True),
    _I('electric piano', 4, 'keyboards', 'electric piano', 48, 72, 1),
)

BASSES = _table(
    _I('double bass', 32, 'bass', 'upright bass|double bass|acoustic bass|'
       '*plucked double bass', 28, 48, 5),
    _I('electric bass', 33, 'bass', 'bass guitar|electric bass', 28, 48, 3),
    _I('cello bass', 42, 'bass', 'cello bass line|low cello', 36, 52, 1, True),
    _I('tuba', 58, 'bass', 'tuba', 28, 48, 1, True),
    _I('synth bass', 38, 'bass', 'synth bass', 28, 48, 1),
)

DRUMS = dict(
    hand='hand drums|hand drum|bodhran-like hand drums|hand percussion|'
         '*frame drum beats',
    kit='drum kit|drums|acoustic drums|a full drum kit',
    brushes='brushed drums|brushes on a snare drum|*softly brushed drums',
    march='marching snare|snare drum and bass drum|military drums|'
          '*parade drums',
    tambourine='tambourine|tambourine and claps',
    shaker='shaker|shakers|*maracas',
    spoons='clacking spoons|wooden percussion|*wood blocks',
)


def find(key):
  """The instrument of that key among leads and hummers."""
  return LEADS.get(key) or HUMMERS[key]
