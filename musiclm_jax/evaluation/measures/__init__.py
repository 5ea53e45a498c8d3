"""What can be said of a set of clips beside a reference: one file per kind.

A file of this folder is a measure if it has

  HELP = 'one line: what it tells'
  WANTS = ('reference', 'pairs', 'captions', 'facts', 'melody')   any of these

  def begin(context):    # a `Context`; raises `Unavailable` where it cannot be
    ...                  # taken here, with the reason and what would mend it
    return measure       # ClipSet -> [Figure], called once for each row

`begin` does what is done once for a table: it loads listeners, and measures the
reference. Heavy imports belong into it. Nothing else knows the measures' names:
a new one is a new file.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import importlib
import pkgutil
from typing import Any

from musiclm_jax import errors
from musiclm_jax.evaluation import clip_sets

NEEDS = ('reference', 'pairs', 'captions', 'facts', 'melody')


class Unavailable(errors.UserError):
  """A measure that cannot be taken here; the table says why and goes on."""


@dataclasses.dataclass(frozen=True)
class Figure:
  """One number of one row.

  Attributes:
    name: such as 'fad_musicnn'; a table's column.
    value: None where it could not be had; `note` says why.
    low, high: 95 % bootstrap interval over tracks, or None.
    count: clips, or pairs, that it is of.
    better: 'lower' or 'higher', '' where neither is.
    note: what a reader has to know.
  """

  name: str
  value: float | None
  low: float | None = None
  high: float | None = None
  count: int = 0
  better: str = ''
  note: str = ''


Measure = Callable[[clip_sets.ClipSet], Sequence[Figure]]


@dataclasses.dataclass
class Context:
  """What a measure has to hold the rows against.

  Attributes:
    reference: recordings, or None. They have the ids of the rows' clips where
      there are pairs, and their captions and facts.
    statistics: path of a reference's saved statistics in place of it, or None.
    bundle: a bundle.Bundle, or None.
    listeners: {kind: names} that were asked for in place of the defaults, such
      as {'embedder': ('musicnn', '/models/vggish.onnx')}.
    seed: of whatever is drawn.
    say: takes a line of progress.
    provenance: measures write here what their figures rest on: the hash, rate,
      window and hop of a listener, by its name.
    shared: what measures keep for one another, such as embeddings.
  """

  reference: clip_sets.ClipSet | None
  statistics: Any = None
  bundle: Any = None
  listeners: dict[str, tuple[str, ...]] = dataclasses.field(
      default_factory=dict)
  seed: int = 0
  say: Callable[[str], None] = lambda line: None
  provenance: dict[str, Any] = dataclasses.field(default_factory=dict)
  shared: dict[str, Any] = dataclasses.field(default_factory=dict)


def known() -> dict[str, Any]:
  """{name: module} of every measure, by name."""
  found = {}
  for module in sorted(pkgutil.iter_modules(__path__), key=lambda m: m.name):
    loaded = importlib.import_module(f'{__name__}.{module.name}')
    if hasattr(loaded, 'begin'):
      found[module.name] = loaded
  return found
