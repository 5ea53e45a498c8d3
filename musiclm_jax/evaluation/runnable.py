"""What makes a file of this folder an evaluation.

`musiclm evaluate NAME` runs NAME.py, where that file has

  EVALUATION = {                      literals alone: it is read, not executed
      'help': 'is text where audio is?',     one line
      'components': ['mulan'],               that the bundle must have
      'packages': ['sklearn'],               modules besides the base install's
      'corpus': True,                        whether it takes --corpus
      'clips': 64,                           what --clips is by default
      'arguments': {                         more options: the words of
          '--train-clips': {                 `add_argument`; types by name
              'type': 'int', 'default': 700, 'metavar': 'N',
              'help': 'clips that the classifier learns from'}},
  }

  def run(asked):  # an `Asked`; returns an `Outcome`
    ...

Options that several have stand in GROUPS, and a file names the group.

Its docstring is shown by `musiclm evaluate NAME --help`. A file without
EVALUATION is machinery that evaluations share. Nothing else knows their names:
a new one is a new file.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
import importlib
import importlib.util
import pathlib
import pkgutil
from typing import Any

from musiclm_jax import evaluation

_VARIABLE = 'EVALUATION'
# Options of several evaluations, by the name that `groups` has.
GROUPS = {
    'measures': {  # of a table, evaluation/measures
        '--measures': {'metavar': 'NAMES',
                       'help': 'such as fad,kld (default: all)'},
        '--embedder': {'metavar': 'NAMES',
                       'help': 'for FAD, KAD and MAUVE (default: musicnn)'},
        '--classifier': {'metavar': 'NAMES',
                         'help': 'for KLD (default: musicnn)'},
        '--joint': {'metavar': 'NAME',
                    'help': "for MCC, such as clap=DIR (default: a bundle's "
                            'MuLan)'}},
    'drawing': {  # of many clips, evaluation/drawing.py
        '--out': {'required': True, 'metavar': 'DIR',
                  'help': 'where the clips go, and go on'},
        '--seconds': {'type': 'int', 'default': 10, 'metavar': 'N',
                      'help': 'of each clip (default: %(default)s)'},
        '--shard': {'metavar': 'I/N',
                    'help': 'draw this share of the clips, and measure once '
                            'none is missing'}},
    'folder': {  # in place of a corpus, evaluation/any_music.py
        '--data': {'metavar': 'FOLDER',
                   'help': 'any folder of audio files, in place of a corpus'},
        '--captions': {'metavar': 'CSV', 'help': 'of --data: id,caption'}},
}


@dataclasses.dataclass(frozen=True)
class Declaration:
  """What a file says of the evaluation in it.

  Attributes:
    name: of the file, and so of the evaluation.
    about: the file's docstring.
    help: one line.
    clips: what --clips is by default; None: it takes no --clips.
    clips_help: what a clip is to it.
    most_clips: that --clips may be.
    bundle: whether it needs one; where not, it has the one of --bundle or none.
    components: of the bundle that it cannot do without.
    packages: top-level modules that it imports besides those of the base
      install.
    corpus: whether it takes --corpus; without one the small folk_gm is judged.
    corpus_help: what has to be in it.
    pictures: whether it has some, so that it takes --out.
    record: whether it takes --record.
    arguments: {option: settings of `add_argument`}; a name without dashes is a
      place's, such as the folder to judge.
    groups: names of GROUPS whose options it has as well.
    order: where it stands in the list, by name among equals. Of several that
      have an option, messages name the first.
  """

  name: str
  about: str
  help: str
  clips: int | None
  clips_help: str = 'held-out clips'
  most_clips: int = 500
  bundle: bool = True
  components: Sequence[str] = ()
  packages: Sequence[str] = ()
  corpus: bool = True
  corpus_help: str = 'music to judge on, its test or validation split'
  pictures: bool = False
  record: bool = False
  arguments: Mapping[str, Mapping[str, Any]] = dataclasses.field(
      default_factory=dict)
  groups: Sequence[str] = ()
  order: int = 1

  def __post_init__(self):
    unknown = sorted(set(self.groups) - set(GROUPS))
    if unknown:
      raise ValueError(f'unknown groups {", ".join(unknown)}')

  @property
  def options(self) -> dict[str, Mapping[str, Any]]:
    """Its own arguments and those of its groups."""
    shared = (GROUPS[name] for name in self.groups)
    return {**self.arguments, **{option: settings for group in shared
                                 for option, settings in group.items()}}

  def check_packages(self) -> None:
    """ModuleNotFoundError of the first package that is not installed."""
    for package in self.packages:
      if importlib.util.find_spec(package) is None:
        raise ModuleNotFoundError(f'No module named {package!r}', name=package)

  def run(self, asked: Asked) -> Outcome:
    """Imports the file and runs it."""
    module = importlib.import_module(f'{evaluation.__name__}.{self.name}')
    return module.run(asked)


@dataclasses.dataclass(frozen=True)
class Asked:
  """What an evaluation is run with.

  Attributes:
    bundle: the bundle.Bundle to judge; it has the declared components. None
      where the declaration needs none and none was given.
    options: the parsed options: `clips`, `seed`, `corpus` where it takes one,
      and its own.
    say: takes a line of progress.
    show: takes each report.Section as it is done.
  """

  bundle: Any
  options: argparse.Namespace
  say: Callable[[str], None]
  show: Callable[[Any], None]

  @functools.cached_property
  def corpus(self) -> str | pathlib.Path:
    """What --corpus names, or the small folk_gm, which is made once."""
    from musiclm_jax.evaluation import held_out  # pylint: disable=g-import-not-at-top
    return self.options.corpus or held_out.default_corpus(self.say)


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What an evaluation leaves to be written.

  Attributes:
    figures: {name: number}.
    sections: report.Sections.
    about: what stands beside the figures in the JSON.
    title: of the page.
    judged: what was judged, in words.
    draw: writes PNGs into a folder, which exists; [(caption, path)].
    sounds: rows of the page's players.
  """

  figures: dict[str, float]
  sections: Sequence[Any]
  about: Mapping[str, Any]
  title: str
  judged: str
  draw: Callable[[pathlib.Path], Sequence[tuple[str, pathlib.Path]]] = (
      lambda folder: ())
  sounds: Sequence[Any] = ()


def declared() -> dict[str, Declaration]:
  """{name: Declaration} of every evaluation, read from the files."""
  found = [_read(module) for module in pkgutil.iter_modules(
      evaluation.__path__) if not module.ispkg]
  found = sorted((d for d in found if d), key=lambda d: (d.order, d.name))
  return {declaration.name: declaration for declaration in found}


def _read(module: pkgutil.ModuleInfo) -> Declaration | None:
  """What one file declares; None of one that is no evaluation."""
  path = pathlib.Path(
      module.module_finder.find_spec(module.name).origin)
  tree = ast.parse(path.read_text(encoding='utf-8'), str(path))
  for statement in tree.body:
    if isinstance(statement, ast.Assign) and any(
        isinstance(target, ast.Name) and target.id == _VARIABLE
        for target in statement.targets):
      try:
        return Declaration(
            name=module.name, about=ast.get_docstring(tree) or '',
            **ast.literal_eval(statement.value))
      except (TypeError, ValueError) as error:
        raise ValueError(
            f'{path}: {_VARIABLE} is not what runnable.py describes: {error}'
        ) from error
  return None
