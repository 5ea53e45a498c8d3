"""What drums, chords and bass play in one bar, by metre.

A bar has STEPS[metre] steps. Drum lines are strings, one sign a step: '.' rest,
'-' soft, 'x' normal, 'X' accent. Chord and bass patterns are tuples of
(step, steps long, what): 'c' the chord, 'l' its root low, 'f' its fifth low,
'0'..'4' single notes of the chord, upwards.
"""

STEPS = dict(duple=8, jig=6, slip=9, triple=6)
STEPS['double jig'] = 12

VELOCITY = {'-': 52, 'x': 76, 'X': 104}

# General MIDI percussion keys.
_BONGO_HI, _BONGO_LO, _CONGA_MUTE, _CONGA, _CONGA_LO = 60, 61, 62, 63, 64
_KICK, _STICK, _SNARE, _CLAP, _HAT, _RIDE, _OPEN = 36, 37, 38, 39, 42, 51, 46
_TAMBOURINE, _CABASA, _MARACAS, _CLAVES, _BLOCK_HI, _BLOCK_LO = (
    54, 69, 70, 75, 76, 77)
_FLOOR_TOM, _BASS_DRUM, _E_SNARE = 41, 35, 40

DRUM_KITS = dict(hand=0, kit=0, brushes=40, march=48, tambourine=0, shaker=0,
                 spoons=0)

# kind -> metre -> variants, each {key: line}.
DRUMS = dict(
    hand=dict(
        duple=[{_CONGA_LO: 'X...x...', _BONGO_LO: '..x-..x-',
                _BONGO_HI: '.-...-.x'},
               {_CONGA_LO: 'X..-X...', _CONGA: '..x...xx',
                _CONGA_MUTE: '.-.-.-.-'}],
        jig=[{_CONGA_LO: 'X..X..', _BONGO_LO: '..x..x', _BONGO_HI: '.-..-.'},
             {_CONGA_LO: 'X..-..', _CONGA: '..xx.x', _CONGA_MUTE: '.-..-.'}],
        slip=[{_CONGA_LO: 'X..x..x..', _BONGO_LO: '..x..x..x',
               _BONGO_HI: '.-..-..-.'}],
        triple=[{_CONGA_LO: 'X.....', _BONGO_LO: '..x.x.',
                 _BONGO_HI: '...-.-'}]),
    kit=dict(
        duple=[{_KICK: 'X...x...', _SNARE: '..X...X.', _HAT: 'x-x-x-x-'},
               {_KICK: 'X..-X.x.', _SNARE: '..X...X-', _HAT: 'xxxxxxxx'}],
        jig=[{_KICK: 'X.....', _SNARE: '...X..', _HAT: 'x-xx-x'},
             {_KICK: 'X....x', _SNARE: '...X..', _HAT: 'xxxxxx'}],
        slip=[{_KICK: 'X.....x..', _SNARE: '...X.....', _HAT: 'x-xx-xx-x'}],
        triple=[{_KICK: 'X.....', _SNARE: '..x.x.', _HAT: 'x.x-x-'}]),
    brushes=dict(
        duple=[{_KICK: 'x...-...', _SNARE: '--X---X-', _HAT: '..x...x.'}],
        jig=[{_KICK: 'x.....', _SNARE: '--xX-x', _HAT: '...x..'}],
        slip=[{_KICK: 'x........', _SNARE: '--xX-xX-x'}],
        triple=[{_KICK: 'x.....', _SNARE: '-.X-X-', _RIDE: 'x.x.x.'}]),
    march=dict(
        duple=[{_BASS_DRUM: 'X...X...', _SNARE: 'x-X-xxX-'},
               {_BASS_DRUM: 'X...X...', _SNARE: 'X.xxX.xx'}],
        jig=[{_BASS_DRUM: 'X..X..', _SNARE: 'X-xX-x'},
             {_BASS_DRUM: 'X..x..', _SNARE: 'X.xXxx'}],
        slip=[{_BASS_DRUM: 'X..x..x..', _SNARE: 'X-xX-xX-x'}],
        triple=[{_BASS_DRUM: 'X.....', _SNARE: '..x-x-'}]),
    tambourine=dict(
        duple=[{_TAMBOURINE: '-.X.-.X.', _CLAP: '..x...x.'}],
        jig=[{_TAMBOURINE: 'X-xX-x', _CLAP: '...x..'}],
        slip=[{_TAMBOURINE: 'X-xx-xx-x', _CLAP: '......x..'}],
        triple=[{_TAMBOURINE: '-.X.X.', _CLAP: '..x.x.'}]),
    shaker=dict(
        duple=[{_MARACAS: 'XxxxXxxx', _CABASA: '..x...x.'}],
        jig=[{_MARACAS: 'XxxXxx', _CABASA: '...x..'}],
        slip=[{_MARACAS: 'XxxXxxXxx'}],
        triple=[{_MARACAS: 'X-x-x-', _CABASA: '..x.x.'}]),
    spoons=dict(
        duple=[{_CLAVES: 'x.X.x.X.', _BLOCK_HI: '..-x..xx',
                _BLOCK_LO: 'x...x...'}],
        jig=[{_BLOCK_HI: '..x..x', _BLOCK_LO: 'X..X..', _CLAVES: '...x..'}],
        slip=[{_BLOCK_HI: '..x..x..x', _BLOCK_LO: 'X..X..X..'}],
        triple=[{_BLOCK_LO: 'X.....', _BLOCK_HI: '..x.x.'}]),
)

CHORDS = dict(
    vamp=dict(duple=((0, 1, 'l'), (2, 1, 'c'), (4, 1, 'l'), (6, 1, 'c')),
              jig=((0, 1, 'l'), (2, 1, 'c'), (3, 1, 'l'), (5, 1, 'c')),
              slip=((0, 1, 'l'), (2, 1, 'c'), (3, 1, 'l'), (5, 1, 'c'),
                    (6, 1, 'l'), (8, 1, 'c')),
              triple=((0, 2, 'l'), (2, 1, 'c'), (4, 1, 'c'))),
    strum=dict(duple=((0, 2, 'c'), (2, 1, 'c'), (3, 1, 'c'), (4, 2, 'c'),
                      (6, 1, 'c'), (7, 1, 'c')),
               jig=((0, 2, 'c'), (2, 1, 'c'), (3, 2, 'c'), (5, 1, 'c')),
               slip=((0, 2, 'c'), (2, 1, 'c'), (3, 2, 'c'), (5, 1, 'c'),
                     (6, 2, 'c'), (8, 1, 'c')),
               triple=((0, 2, 'c'), (2, 2, 'c'), (4, 1, 'c'), (5, 1, 'c'))),
    arpeggio=dict(duple=tuple((i, 2, p) for i, p in enumerate('l1232121')),
                  jig=tuple((i, 2, p) for i, p in enumerate('l12l21')),
                  slip=tuple((i, 2, p) for i, p in enumerate('l12l12l21')),
                  triple=tuple((i, 2, p) for i, p in enumerate('l12321'))),
    sustain=dict(duple=((0, 4, 'c'), (4, 4, 'c')),
                 jig=((0, 3, 'c'), (3, 3, 'c')),
                 slip=((0, 3, 'c'), (3, 3, 'c'), (6, 3, 'c')),
                 triple=((0, 6, 'c'),)),
)

BASS = dict(
    roots=dict(duple=((0, 3, 'l'), (4, 3, 'l')), jig=((0, 2, 'l'), (3, 2, 'l')),
               slip=((0, 2, 'l'), (3, 2, 'l'), (6, 2, 'l')),
               triple=((0, 5, 'l'),)),
    fifths=dict(duple=((0, 2, 'l'), (4, 2, 'f')),
                jig=((0, 2, 'l'), (3, 2, 'f')),
                slip=((0, 2, 'l'), (3, 2, 'l'), (6, 2, 'f')),
                triple=((0, 2, 'l'), (4, 2, 'f'))),
    walking=dict(duple=((0, 2, 'l'), (2, 2, 'f'), (4, 2, 'l'), (6, 2, 'f')),
                 jig=((0, 2, 'l'), (2, 1, 'l'), (3, 2, 'f'), (5, 1, 'l')),
                 slip=((0, 2, 'l'), (3, 2, 'f'), (6, 2, 'l'), (8, 1, 'f')),
                 triple=((0, 2, 'l'), (2, 2, 'f'), (4, 2, 'f'))),
)


def of(table, metre):
  """The pattern of `metre`: a bar of 12/8 is two of 6/8."""
  if metre != 'double jig':
    return table[metre]
  once = table['jig']
  if isinstance(once, tuple):
    return once + tuple((s + 6, n, what) for s, n, what in once)
  return [{key: line + line for key, line in variant.items()}
          for variant in once]
