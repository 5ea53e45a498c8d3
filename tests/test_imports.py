"""Who may import whom: the rules of the house, read from the source."""

import ast
import functools
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / 'musiclm_jax'

_TENSORFLOW = {'tensorflow', 'seqio', 'tensorflow_datasets', 'tensorflow_text',
               'clu'}
_MAY_TENSORFLOW = {
    'tokens/vocabularies.py', 'tokens/preprocessors.py', 'tokens/tasks.py',
    'tokens/shuffled.py', 'tokens/feature_converter.py',
    'tokens/shards.py', 'tokens/precompute.py',
    'commands/precompute.py', 'commands/ingest.py',
    'systems/musiclm/stages/t5x_adapter.py', 'listeners/musicnn.py',
    'listeners/local_models.py', 'listeners/classifiers.py'}
_MAY_GIN = {'configs.py'} | {
    f'commands/{name}.py' for name in ('train', 'export', 'demo', 'precompute')}
# Folder by folder along the data flow: which other folders each may know, in
# imports anywhere and in strings that name a module, such as those of
# registries. Modules that stand loose in the package (specs, records, audio ...)
# are for all folders to know.
_MAY_KNOW = {
    'data': set(),
    'audio_files': set(),
    'nn': set(),
    'training': {'nn'},
    'preflight': {'nn', 'training'},
    'codecs': {'nn', 'training'},
    'tokens': {'nn', 'training'},
    'tokenizers': {'nn', 'training', 'tokens'},
    'decoding': {'nn', 'tokens'},
    'systems': {'nn', 'training', 'tokens', 'decoding'},
    'listeners': {'nn', 'training',
                  'tokenizers'},  # how local checkpoints are loaded
    'metrics': {'nn', 'tokens', 'listeners'},
    'evaluation': {'data', 'nn', 'training', 'codecs', 'tokens', 'tokenizers',
                   'decoding', 'systems', 'listeners', 'metrics'},
    'serving': {'tokens', 'decoding', 'systems', 'evaluation'},
    'listening': {'evaluation', 'metrics', 'serving'},
    'commands': {'data', 'nn', 'training', 'preflight', 'codecs', 'tokens',
                 'tokenizers', 'decoding', 'systems', 'metrics', 'evaluation',
                 'serving', 'listening'},
}
# Loose modules that know a folder; the others know none.
_LOOSE_MAY_KNOW = {
    '__init__': {'systems'},  # load()
    '__main__': {'commands'},
    'audio_stream': {'audio_files'},
    'bundle': {'codecs', 'tokenizers', 'systems'},  # builds each component
    'configs': {'training', 'commands'},  # what gin leaves bind
}
# Circles that are there, cut at these imports; each is within a function.
_PERMITTED = {
    # `python -m` of a command goes through the command line's own error lines.
    ('commands.precompute', 'commands.cli'),
}
_NAMED = re.compile(r'musiclm_jax(?:\.\w+)+')


def _sources():
  return sorted(PACKAGE.rglob('*.py'))


def _modules():
  """{name within the package, such as 'nn.conv': path}, corpora included."""
  found = {}
  for folder, prefix in ((PACKAGE, ()), (ROOT / 'data', ('data',))):
    for path in folder.rglob('*.py'):
      parts = prefix + path.relative_to(folder).with_suffix('').parts
      if parts[-1] == '__init__' and len(parts) > 1:
        parts = parts[:-1]
      found['.'.join(parts)] = path
  return found


def _imports(path):
  """Full names of all modules that `path` imports, inside functions too."""
  names = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      names |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom) and node.module:
      names |= {f'{node.module}.{alias.name}' for alias in node.names}
  return names


def _tops(path):
  return {name.split('.')[0] for name in _imports(path)}


def _known(source):
  """Our modules that source text imports or names in a string, as above.

  Of `from musiclm_jax.nn import conv` it is 'nn.conv'; whether that is a module
  or something in one, `_module` tells.
  """
  tree = ast.parse(source)
  names = set()
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      names |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom) and node.module:
      names |= {f'{node.module}.{alias.name}' for alias in node.names}
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
      # The beginning of an f-string counts as well: 'musiclm_jax.commands.'.
      if _NAMED.fullmatch(node.value.removesuffix('.')):
        names.add(node.value.removesuffix('.'))
  names |= {f'{name}.__init__' for name in names if name == 'musiclm_jax'}
  return {name.removeprefix('musiclm_jax.') for name in names
          if name.startswith('musiclm_jax.')}


def _module(name, modules):
  """The module that a dotted name is of: 'nn.conv' of 'nn.conv.Conv'."""
  while name and name not in modules:
    name = name.rpartition('.')[0]
  return name or '__init__'


@functools.cache
def _graph():
  """{module: the other modules of ours that it knows}."""
  modules = _modules()
  return {name: {_module(other, modules)
                 for other in _known(path.read_text())} - {name}
          for name, path in modules.items()}


def _room(module):
  """The folder of a module, or itself where it stands loose."""
  return module.split('.')[0]


def _circle(graph):
  """A circle in {node: nodes}, as a list that ends where it begins, or None."""
  done, path = set(), []

  def visit(node):
    if node in path:
      return path[path.index(node):] + [node]
    if node in done:
      return None
    path.append(node)
    for other in sorted(graph.get(node, ())):
      found = visit(other)
      if found:
        return found
    done.add(path.pop())
    return None

  return next(filter(None, map(visit, sorted(graph))), None)


def _name(path):
  return str(path.relative_to(PACKAGE))


def test_tensorflow_stays_in_its_rooms():
  found = {_name(p) for p in _sources() if _tops(p) & _TENSORFLOW}
  assert found <= _MAY_TENSORFLOW


def test_gin_stays_at_the_entry_points():
  found = {_name(p) for p in _sources() if 'gin' in _tops(p)}
  assert found <= _MAY_GIN


def test_t5x_only_in_its_adapter():
  found = {_name(p) for p in _sources() if 't5x' in _tops(p)}
  assert found <= {'systems/musiclm/stages/t5x_adapter.py'}


def test_every_folder_has_a_rule():
  folders = {p.parent.name for p in PACKAGE.glob('*/__init__.py')}
  assert folders | {'data'} == set(_MAY_KNOW)
  assert set(_LOOSE_MAY_KNOW) <= {p.stem for p in PACKAGE.glob('*.py')}


@pytest.mark.parametrize('room', sorted(_MAY_KNOW) + ['loose modules'])
def test_imports_point_one_way(room):
  for module, known in _graph().items():
    if room == (_room(module) if _room(module) in _MAY_KNOW else 'loose modules'):
      may = _MAY_KNOW.get(room, _LOOSE_MAY_KNOW.get(module, set()))
      folders = {_room(other) for other in known} & set(_MAY_KNOW) - {room}
      assert folders <= may, module


def test_no_modules_know_each_other_in_a_circle():
  graph = {module: {other for other in known if (module, other) not in _PERMITTED}
           for module, known in _graph().items()}
  assert _circle(graph) is None


def test_names_are_found_wherever_they_stand():
  source = """
import musiclm_jax.files
from musiclm_jax import specs
def later():
  from musiclm_jax.nn import conv
  from musiclm_jax.nn.causal import NEGATIVE
  importlib.import_module('musiclm_jax.codecs.tokenizer')
  importlib.import_module(f'musiclm_jax.commands.{name}')
  print('musiclm_jax makes music, see musiclm_jax.text')
"""
  assert _known(source) == {'files', 'specs', 'nn.conv', 'nn.causal.NEGATIVE',
                            'codecs.tokenizer', 'commands'}
  modules = {'nn': 0, 'nn.causal': 0}
  assert _module('nn.causal.NEGATIVE', modules) == 'nn.causal'
  assert _module('nn.gone', modules) == 'nn'


def test_circles_are_found():
  assert _circle({'a': {'b', 'c'}, 'b': {'c'}, 'c': set()}) is None
  assert _circle({'a': {'b'}, 'b': {'c'}, 'c': {'d'}, 'd': {'b'}}) == [
      'b', 'c', 'd', 'b']


def test_contracts_need_numpy_only():
  assert _tops(PACKAGE / 'contracts.py') <= {*sys.stdlib_module_names, 'numpy'}


def test_specs_need_the_standard_library_only():
  assert _tops(PACKAGE / 'specs.py') <= set(sys.stdlib_module_names)


@pytest.mark.parametrize('module', [
    'musiclm_jax', 'musiclm_jax.commands.cli', 'musiclm_jax.systems.musiclm.pipeline',
    'musiclm_jax.tokens.layout', 'musiclm_jax.tokens.cache',
    'musiclm_jax.bundle', 'musiclm_jax.contracts'])
def test_loading_never_brings_tensorflow(module):
  code = (f'import sys, {module}; bad = '
          f'[m for m in {sorted(_TENSORFLOW | {"gin"})} if m in sys.modules]; '
          f'sys.exit(f"{{bad}} came along" if bad else 0)')
  result = subprocess.run([sys.executable, '-c', code], capture_output=True,
                          text=True, check=False)
  assert result.returncode == 0, result.stderr[-500:]


def test_no_init_in_the_gin_folder():
  # It would shadow the gin library when run from the repository's root.
  assert not list((ROOT / 'gin').rglob('__init__.py'))
