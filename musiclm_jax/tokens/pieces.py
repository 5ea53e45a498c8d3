"""The pieces of a precomputation: a shard each, done by whoever has a hand free.

  pieces = plan(corpus, streams_dir, shard_seconds)
  done = workers.run(functools.partial(write, load), pieces, folder)

A piece says all that a worker has to know, so that none of them reads the index
of a corpus again. What it leaves behind is its TFRecord file, and a value of
some numbers, of which `precompute` makes the split's index at the end.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import pathlib
from typing import Any

from musiclm_jax import files
from musiclm_jax import records
from musiclm_jax import tfrecords
from musiclm_jax.tokens import cache as cache_lib
from musiclm_jax.tokens import shards as shards_lib


@dataclasses.dataclass(frozen=True)
class Piece:
  """One shard of a split.

  Attributes:
    split: of the corpus.
    number: of the shard within the split.
    path: of the TFRecord file to be.
    directory: of the split, which with the rate is what `records.Split` takes.
    sample_rate_hz: of the corpus.
    shard: its tracks.
  """

  split: str
  number: int
  path: str
  directory: str
  sample_rate_hz: int
  shard: shards_lib.Shard

  @property
  def seconds(self) -> int:
    return sum(seconds for _, seconds in self.shard)


@dataclasses.dataclass(frozen=True)
class Written:
  """What became of a piece.

  Attributes:
    index: of the records that were written.
    left_out: tracks that were not, as `shards.LeftOut`.
  """

  index: cache_lib.Index
  left_out: tuple[shards_lib.LeftOut, ...]


def plan(corpus: records.Corpus, streams_dir: pathlib.Path,
         shard_seconds: int) -> dict[str, Piece]:
  """{name: piece} of a whole corpus, split after split."""
  pieces = {}
  for name in corpus.splits:
    split = corpus.split(name)
    shards = shards_lib.plan(split, shard_seconds)
    for number, shard in enumerate(shards):
      path = streams_dir / cache_lib.shard_name(name, number, len(shards))
      pieces[f'{name}-{number:05d}'] = Piece(
          name, number, str(path.absolute()), str(split.directory.absolute()),
          split.sample_rate_hz, shard)
  return pieces


def write(load: Callable[[], Any], piece: Piece,
          done: Callable[[float], None] = lambda seconds: None
          ) -> dict[str, Any]:
  """Tokenises a shard and writes it, whole or not at all.

  Args:
    load: gives the `tokenizers.loading.Tokenizers`.
    piece: of `plan`.
    done: is told the seconds of audio of each batch or stretch.

  Returns:
    What `written` reads, of JSON's types.
  """
  tracks = [track for track, _ in piece.shard]
  split = records.Split(
      pathlib.Path(piece.directory), piece.sample_rate_hz, tracks)
  made = shards_lib.serialise(load(), split, piece.shard, done)
  kept, left_out = [], []
  with files.whole(piece.path) as temporary, open(temporary, 'wb') as file:
    for number, found in enumerate(made):
      if isinstance(found, shards_lib.LeftOut):
        left_out.append([found.id, found.reason])
      else:
        tfrecords.append(file, found)
        kept.append([number, len(found)])
  return dict(kept=kept, left_out=left_out)


def written(piece: Piece, value: Mapping[str, Any]) -> Written:
  """What `write` returned of a piece, read again."""
  seconds = [piece.shard[number][1] for number, _ in value['kept']]
  return Written(
      shards_lib.index(piece.number, seconds, [n for _, n in value['kept']]),
      tuple(shards_lib.LeftOut(*left) for left in value['left_out']))


def is_there(piece: Piece, value: Mapping[str, Any]) -> bool:
  """Whether the file of a piece that was done is still what was written."""
  path = pathlib.Path(piece.path)
  size = max(written(piece, value).index.ends(), default=0)
  return path.is_file() and path.stat().st_size == size
