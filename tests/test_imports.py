"""Who may import whom: the rules of the house, read from the source."""

import ast
import pathlib
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
    'systems/musiclm/stages/t5x_adapter.py', 'listeners/musicnn.py'}
_MAY_GIN = {'configs.py'} | {
    f'commands/{name}.py' for name in ('train', 'export', 'demo', 'precompute')}
# Folder by folder along the data flow: what each may know of the others. What
# stands loose in the package (specs, records, audio ...) is for all, and knows
# no folder but those named here.
_MAY_KNOW = {
    'nn': set(),
    'audio_files': set(),
    'codecs': {'nn', 'training'},
    'tokenizers': {'nn', 'training', 'tokens'},
    'tokens': {'nn'},
    'decoding': {'nn', 'tokens'},
    'systems': {'nn', 'tokens', 'decoding', 'training', 'codecs'},
    'training': {'nn', 'tokens'},
    'preflight': {'nn', 'training'},
    'metrics': {'nn', 'tokens', 'listeners'},
    'listeners': set(),
}


def _sources():
  return sorted(PACKAGE.rglob('*.py'))


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


def _parts(path):
  """Parts of our package that `path` imports: {'nn', 'tokens', ...}."""
  return {name.split('.')[1] for name in _imports(path)
          if name.startswith('musiclm_jax.')}


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


@pytest.mark.parametrize('room', sorted(_MAY_KNOW))
def test_imports_point_one_way(room):
  folders = {p.name for p in PACKAGE.iterdir() if (p / '__init__.py').exists()}
  for path in sorted((PACKAGE / room).rglob('*.py')):
    known = _parts(path) & folders - {room}
    assert known <= _MAY_KNOW[room], _name(path)


def test_specs_need_the_standard_library_only():
  assert _tops(PACKAGE / 'specs.py') <= set(sys.stdlib_module_names)


@pytest.mark.parametrize('module', [
    'musiclm_jax', 'musiclm_jax.commands.cli', 'musiclm_jax.systems.musiclm.pipeline',
    'musiclm_jax.tokens.layout', 'musiclm_jax.tokens.cache',
    'musiclm_jax.bundle'])
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
