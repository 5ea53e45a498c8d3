"""What papers report of MusicCaps: to look at, not to rank with.

Agostinelli et al., "MusicLM" (2023), tables 1 and 3. The embedders are Trill and
VGGish by TF-Hub, KLD by a LEAF classifier trained on AudioSet, MCC by their own
MuLan, which is not public; Huang et al. (Noise2Music, 2023) found 0.452 for the
recordings themselves by the same model family.
"""

from typing import Any

COLUMNS = ('FAD Trill', 'FAD VGGish', 'KLD', 'MCC', 'wins')
ROWS = {  # paper
    'Riffusion': (0.76, 13.4, 1.19, 0.34, 158),
    'Mubert': (0.45, 9.6, 1.58, 0.32, 97),
    'MusicLM': (0.44, 4.0, 1.01, 0.51, 312),
    'MusicCaps': (None, None, None, None, 472),
}
NOTE = (
    'As published, on MusicCaps. Not comparable with the rows above: another '
    'test set unless these are MusicCaps clips, other weights of the embedders '
    'and windows that the papers do not state, a LEAF classifier trained on '
    'AudioSet, and a MuLan that is not public. MCC of the recordings was 0.452 '
    'by that model, so 0.51 is above real music. Wins: of 600 comparisons.')


def table() -> dict[str, Any]:
  """The rows as JSON and the report have them."""
  return dict(note=NOTE, columns=list(COLUMNS), rows=[
      dict(name=name, figures={c: v for c, v in zip(COLUMNS, values)
                               if v is not None})
      for name, values in ROWS.items()])
