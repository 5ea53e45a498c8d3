"""A bundle: a directory of trained components, and how they are stored.

  manifest.json              fingerprints, training data and licence, steps,
                             metrics, source commit
  <component>/config.json    kind, model configuration, spec, fingerprint
  <component>/weights.safetensors

Components are named by `COMPONENTS`. A tokenizer has a role in the system, which
says what it does, and a folder, which says which model does it in the paper:
`TOKENIZERS` is the one table from the one to the other. A stage has one name.

  bundle.tokenizer('semantic')   w2v-BERT, out of the folder w2vbert
  bundle.stage('semantic')       the semantic stage, out of the folder semantic

No pickle is ever loaded. Weights may be stored as float32, float16 or int8 (one
float16 scale per row of the last axis); they come back as float32 in every case.
"""

import dataclasses
import functools
import hashlib
import importlib
import json
import os
import pathlib
from typing import Any

import numpy as np

from musiclm_jax import contracts
from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax import specs
from musiclm_jax.codecs import registry
from musiclm_jax.tokenizers import tunes

# What a tokenizer does -> the folder of the component that does it. A role is
# also the field of the TokenSpec that the tokenizer fills: stages share them all.
TOKENIZERS = {'codec': 'codec', 'semantic': 'w2vbert', 'joint': 'mulan',
              'melody': 'melody'}
STAGES = ('semantic', 'coarse', 'fine')
_ROLES = {component: role for role, component in TOKENIZERS.items()}
_CONTRACTS = {'codec': contracts.Codec, 'semantic': contracts.Tokenizer,
              'joint': contracts.JointEmbedder,
              'melody': contracts.MelodyEmbedder}
# Component name -> (module, function) that builds the object which implements
# its contract from a `Component`. Imported when asked for.
COMPONENTS = {
    'codec': ('musiclm_jax.codecs.tokenizer', 'from_component'),
    'w2vbert': ('musiclm_jax.tokenizers.w2vbert.tokenizer', 'from_component'),
    'mulan': ('musiclm_jax.tokenizers.mulan.embedder', 'from_component'),
    'melody': ('musiclm_jax.tokenizers.tunes', 'from_component'),
    **{stage: ('musiclm_jax.systems.musiclm.stages.model', 'from_component')
       for stage in STAGES},
}
# What is stored like a component and is no part of a bundle: judges of sound.
LISTENERS = ('leaf',)
# What a component may be: of codecs and melodies there are several architectures.
KINDS = (*(k for k in COMPONENTS if k not in ('codec', 'melody')),
         *tunes.MODULES, *registry.ARCHITECTURES, *LISTENERS)
_OLD_NAMES = {'codec': 'soundstream'}  # folders of bundles made before
OPTIONAL = ('melody',)  # what a bundle may do without, and still be complete
STORAGES = ('float32', 'float16', 'int8')
FORMAT = 'musiclm_jax.bundle.v1'
_CONFIG, _WEIGHTS = 'config.json', 'weights.safetensors'
_AGAIN = 'export it again, or choose another --bundle'
_SCALE = '.int8_scale'
_MIN_INT8_SIZE = 4096  # smaller arrays gain nothing from int8


@dataclasses.dataclass(frozen=True)
class Component:
  """One trained model as stored: `weights` maps flat 'a/b/c' to arrays."""

  kind: str
  config: dict
  spec: dict
  weights: dict
  metadata: dict

  def tree(self) -> dict:
    """The weights as nested dicts."""
    return unflatten(self.weights)


def flatten(tree: Any, prefix: str = '') -> dict[str, Any]:
  """Nested dicts -> {'a/b/c': array}."""
  flat = {}
  for key, value in tree.items():
    name = f'{prefix}{key}'
    if isinstance(value, dict) or hasattr(value, 'items'):
      flat.update(flatten(value, f'{name}/'))
    else:
      flat[name] = value
  return flat


def unflatten(flat: dict[str, Any]) -> dict:
  """{'a/b/c': array} -> nested dicts."""
  tree = {}
  for name, value in flat.items():
    *parents, leaf = name.split('/')
    node = tree
    for parent in parents:
      node = node.setdefault(parent, {})
    node[leaf] = value
  return tree


def save_component(
    directory: str | pathlib.Path, kind: str, config: Any, spec: Any,
    weights: dict, metadata: dict | None = None, storage: str = 'float32'
) -> None:
  """Writes one component; the directory appears complete or not at all.

  Args:
    directory: `<bundle>/<component>`; replaced if it is such a component, see
      `check_place`.
    kind: one of `KINDS`.
    config: the model's frozen dataclass, or its dict.
    spec: the spec dataclass it was trained under (CodecSpec, StageSpec ...).
    weights: nested dicts of arrays.
    metadata: JSON values for people: steps, corpus, licence, metrics.
    storage: 'float32', 'float16' or 'int8'.
  Raises:
    UserError: `directory` holds something else.
  """
  from safetensors import numpy as safetensors  # pylint: disable=g-import-not-at-top
  if kind not in KINDS:
    raise errors.choice('component', kind, KINDS)
  if storage not in STORAGES:
    raise errors.choice('storage', storage, STORAGES)
  directory = pathlib.Path(directory).resolve()
  config = config if isinstance(config, dict) else dataclasses.asdict(config)
  arrays = {}
  for name, value in flatten(weights).items():
    arrays.update(_encode(name, np.asarray(value), storage))
  with files.claimed(directory, 'the component', beside=True):
    check_place(directory, component_of(kind))
    if directory.exists():  # or it may be all that a killed run left of it
      files.sweep(directory)
    with files.replaced_folder(directory, (_CONFIG, _WEIGHTS)) as partial:
      safetensors.save_file(arrays, partial / _WEIGHTS)
      (partial / _WEIGHTS).chmod(0o644)  # saved for the owner alone
      files.write_json(partial / _CONFIG, dict(
          kind=kind, config=config, spec_type=type(spec).__name__,
          spec=specs.to_dict(spec), fingerprint=specs.fingerprint(spec),
          weights_sha256=_digest(partial / _WEIGHTS), storage=storage,
          metadata=metadata or {}))


def _digest(path):
  """The SHA-256 of a file, in hex."""
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def component_for(role: str) -> str:
  """The name in a bundle of the tokenizer of a role.

  >>> component_for('joint')
  'mulan'
  """
  if role not in TOKENIZERS:
    raise errors.choice('role of a tokenizer', role, TOKENIZERS)
  return TOKENIZERS[role]


def component_of(kind: str) -> str:
  """The name in a bundle of a component of `kind`: codecs share one.

  >>> component_of('soundstream'), component_of('notes'), component_of('mulan')
  ('codec', 'melody', 'mulan')
  """
  if kind in registry.ARCHITECTURES:
    return 'codec'
  return 'melody' if kind in tunes.MODULES else kind


def check_place(directory: str | pathlib.Path, name: str) -> None:
  """UserError unless component `name` may be written as `directory`.

  It may where there is nothing, an empty folder or such a component with
  nothing beside it, which goes when the new one is there.
  """
  directory = pathlib.Path(directory)
  if not directory.exists():
    return
  if not directory.is_dir():
    raise errors.UserError(f'{directory} is a file; choose another --out.')
  found = {path.name for path in directory.iterdir()}
  strange = sorted(found - {_CONFIG, _WEIGHTS})
  if strange:
    raise errors.UserError(
        f'{directory} holds {strange[0]}, which is no part of a component; '
        f'nothing was written. Choose a new folder for --out.')
  if found:
    kind = _stored(directory / _CONFIG, 'kind')
    if component_of(kind) != name:
      raise errors.UserError(
          f'{directory} holds a component of kind {kind}, which is no {name}; '
          f'nothing was written. Choose a new folder for --out.')


def load_component(directory: str | pathlib.Path) -> Component:
  """Reads one component; raises UserError for a missing or damaged one."""
  from safetensors import numpy as safetensors  # pylint: disable=g-import-not-at-top
  from safetensors import SafetensorError  # pylint: disable=g-import-not-at-top
  directory = pathlib.Path(directory)
  config_path = directory / 'config.json'
  weights_path = directory / 'weights.safetensors'
  for path in (config_path, weights_path):
    if not path.is_file():
      raise errors.UserError(
          f'{path} is missing: the bundle {directory.parent} has no complete '
          f'{directory.name}. Export it again, or choose another --bundle.')
  stored = files.read_json(config_path, _AGAIN)
  files.require(config_path, stored, _AGAIN, kind=str, config=dict,
                  spec_type=str, spec=dict, fingerprint=str)
  digest = stored.get('weights_sha256')
  if digest and digest != _digest(weights_path):
    raise errors.UserError(
        f'{weights_path} is damaged (its bytes are not those that were '
        f'exported as {stored["kind"]}); {_AGAIN}.')
  try:
    arrays = safetensors.load_file(weights_path)
  except SafetensorError as error:
    raise errors.UserError(
        f'{weights_path} is damaged; {_AGAIN}.') from error
  try:
    spec = getattr(specs, stored['spec_type'])
    found = specs.fingerprint(specs.from_dict(spec, stored['spec']))
  except (AttributeError, TypeError, ValueError) as error:
    raise errors.UserError(
        f'{config_path} is damaged ({error}); {_AGAIN}.') from error
  if found != stored['fingerprint']:
    raise errors.UserError(
        f'{config_path} says fingerprint {stored["fingerprint"]} but its spec '
        f'has {found}; the file was edited. Export it again.')
  return Component(stored['kind'], stored['config'], stored['spec'],
                   _decode(arrays), stored.get('metadata', {}))


class Bundle:
  """A directory of components, built when first asked for.

  Attributes:
    directory: pathlib.Path of the bundle.
    manifest: what its manifest.json says.
  """

  def __init__(self, directory: str | os.PathLike[str]):
    self.directory = pathlib.Path(directory)
    path = self.directory / 'manifest.json'
    if not path.is_file():
      raise errors.UserError(
          f'no bundle at {directory} (no manifest.json); train one with '
          f'`musiclm demo`, or leave --bundle out to use the shipped one.')
    remedy = 'export a component again, or choose another --bundle'
    self.manifest = files.read_json(path, remedy)
    if self.manifest.get('format') != FORMAT:
      raise errors.UserError(
          f'{path} has format {self.manifest.get("format")!r}, expected '
          f'{FORMAT!r}.')
    files.require(path, self.manifest, remedy, tokens=dict)
    self._built = {}
    self._brought = {}  # component -> digest of those of `use`

  @property
  def tokens(self) -> specs.TokenSpec:
    """The TokenSpec that all components share."""
    try:
      return specs.from_dict(specs.TokenSpec, self.manifest['tokens'])
    except (AttributeError, TypeError, ValueError) as error:
      raise errors.UserError(
          f'{self.directory / "manifest.json"} is damaged ({error}); '
          f'{_AGAIN}.') from error

  @property
  def identity(self) -> str:
    """Name and version for people and for the metadata of what it makes."""
    return self.manifest.get('name', self.directory.resolve().name)

  @functools.cached_property
  def defaults(self) -> dict:
    """{setting: value} that its music is drawn with unless it is said.

    Out of `defaults.json`, which a bundle may have, such as
    {"guidance_semantic": 3.0}; names and ranges are those of
    systems.musiclm.settings.Settings.
    """
    path = self.directory / 'defaults.json'
    if not path.is_file():
      return {}
    from musiclm_jax.systems.musiclm import settings  # pylint: disable=g-import-not-at-top
    return settings.check_defaults(
        files.read_json(path, 'write {} there, or remove it'), path)

  def component_hash(self, name: str) -> str:
    """16 hex digits that change with the weights or settings of a component."""
    if name in self._brought:
      return self._brought[name]
    digest = hashlib.sha256()
    for file in ('config.json', 'weights.safetensors'):
      digest.update((self.place(name) / file).read_bytes())
    return digest.hexdigest()[:16]

  def weights_fingerprint(self) -> str:
    """16 hex digits that change with those of any component."""
    parts = {name: self.component_hash(name) for name in COMPONENTS
             if self.has(name)}
    canonical = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]

  def require(self, *names: str) -> None:
    """UserError unless every component in `names` is there."""
    missing = [n for n in names if not self.has(n)]
    if missing:
      raise errors.UserError(
          f'the bundle {self.directory} has no {", ".join(missing)}; train and '
          f'export what is missing, or choose another --bundle.')

  def has(self, name: str) -> bool:
    """Whether there is a component `name`."""
    return name in self._brought or (
        self.place(name) / _CONFIG).is_file()

  def place(self, name: str) -> pathlib.Path:
    """The folder of component `name`, by an older name where it has that."""
    for folder in (name, _OLD_NAMES.get(name, name)):
      if (self.directory / folder / 'config.json').is_file():
        return self.directory / folder
    return self.directory / name

  def stored_spec(self, name: str) -> dict:
    """The spec of component `name` as a dict, without its weights."""
    if name in self._brought:
      return specs.to_dict(self._built[name].spec)
    return _stored(self.place(name) / 'config.json', 'spec')

  def stored_metadata(self, name: str) -> dict:
    """What component `name` says of its training, without its weights."""
    if name in self._brought:
      return {}
    return _stored(self.place(name) / 'config.json', 'metadata')

  def tokenizer(self, role: str) -> Any:
    """The tokenizer of a role, as of `get`.

    Args:
      role: 'codec', 'semantic', 'joint' or 'melody'.

    Returns:
      A contracts.Codec, Tokenizer, JointEmbedder or MelodyEmbedder.

    Raises:
      UserError: there is no such role, or the bundle has none or a damaged one.
    """
    return self.get(component_for(role))

  def stage(self, name: str) -> Any:
    """The trained stage 'semantic', 'coarse' or 'fine', as of `get`."""
    if name not in STAGES:
      raise errors.choice('stage', name, STAGES)
    return self.get(name)

  def use(self, role: str, tokenizer: Any, digest: str) -> None:
    """Puts a tokenizer of other origin into a role, in memory only.

    Stages whose tokens were made by an adapted codec are heard through it:

      bundle.use('codec', adapters.codecs.Codec(options), hub.fingerprint(folder))

    Args:
      role: as of `tokenizer`.
      tokenizer: conforms to the contract of the role.
      digest: what `component_hash` says of it; changes with its weights.

    Raises:
      TypeError: it does not conform.
      UserError: it has another grid than the bundle.
    """
    name = component_for(role)
    lines = contracts.differences(tokenizer, _CONTRACTS[role])
    if lines:
      raise TypeError(
          f'{type(tokenizer).__name__} is no {_CONTRACTS[role].__name__}: '
          f'{"; ".join(lines)}.')
    lines = specs.difference(tokenizer.spec, self.manifest['tokens'][role])
    if lines:
      raise errors.UserError(
          f'this {role} does not belong to the bundle {self.directory}: '
          f'{"; ".join(lines)}. Use the one that its tokens were made with.')
    self._built[name], self._brought[name] = tokenizer, digest

  def get(self, name: str) -> Any:
    """The object of component `name`, checked against the manifest.

    `tokenizer` and `stage` ask for the same by what it does.
    """
    if name not in COMPONENTS:
      raise errors.choice('component', name, COMPONENTS)
    if name not in self._built:
      component = load_component(self.place(name))
      if component.kind in KINDS and component_of(component.kind) != name:
        raise errors.UserError(
            f'{self.place(name)} holds a component of kind {component.kind}; '
            f'{_AGAIN}.')
      self.check_spec(name, component.spec)
      module, function = COMPONENTS[name]
      build = getattr(importlib.import_module(module), function)
      try:
        self._built[name] = build(component)
      except errors.UserError:
        raise
      except (KeyError, TypeError, ValueError) as error:
        raise errors.UserError(
            f'{self.place(name)} is damaged (its config.json and weights '
            f'do not make a {name}: {error}); {_AGAIN}.') from error
    return self._built[name]

  def check_spec(self, name: str, spec: dict) -> None:
    """UserError unless component `name` of this spec, a dict, belongs here."""
    expected = self.manifest['tokens']
    wanted, found = (
        (expected[_ROLES[name]], spec) if name in _ROLES
        else (expected, spec['tokens']))
    lines = specs.difference(found, wanted)
    if lines:
      raise errors.UserError(
          f'{self.place(name)} does not belong to this bundle: '
          f'{"; ".join(lines)}. Export both from the same run.')


def write_manifest(directory: str | pathlib.Path, tokens: specs.TokenSpec,
                   **about: Any) -> None:
  """Writes manifest.json: the TokenSpec that all parts share, and `about`.

  What each component says of its training is collected from where it is saved.
  """
  directory = pathlib.Path(directory)
  training = {path.parent.name: _stored(path, 'metadata')
              for path in sorted(directory.glob('*/config.json'))}
  files.write_json(directory / 'manifest.json', dict(
      format=FORMAT, components=list(training), tokens=specs.to_dict(tokens),
      fingerprint=specs.fingerprint(tokens), **about, training=training))


def enter(directory: str | pathlib.Path, name: str) -> None:
  """Puts a component that was saved as `directory/name` into the manifest.

  What is there already fixes its grids: a tokenizer its own, a stage all. Other
  grids are this component's, or as the manifest has them, or the paper's.

  Raises:
    UserError: its grid is not that of the bundle.
  """
  directory = pathlib.Path(directory)
  spec = load_component(directory / name).spec
  made = ('format', 'components', 'tokens', 'fingerprint', 'training')
  # Two exports into one bundle wait for each other: both shall be named.
  with files.claimed(directory, 'the bundle', wait=True):
    check_beside(directory, name, spec)
    manifest = {'name': directory.resolve().name}
    tokens = specs.to_dict(specs.TokenSpec())
    if (directory / 'manifest.json').is_file():
      manifest = Bundle(directory).manifest
      tokens = manifest['tokens']
    write_manifest(
        directory, specs.from_dict(
            specs.TokenSpec, {**tokens, **_grids(name, spec)}),
        **{k: v for k, v in manifest.items() if k not in made})


def check_beside(directory: str | pathlib.Path, name: str, spec: dict) -> None:
  """UserError unless component `name` of `spec`, a dict, goes with the others.

  Those that are in the bundle `directory` already.
  """
  directory = pathlib.Path(directory)
  grids = _grids(name, spec)
  for path in sorted(directory.glob('*/config.json')):
    other = path.parent.name
    if other in COMPONENTS and other != name:
      fixed = _grids(other, _stored(path, 'spec'))
      lines = specs.difference(
          {k: grids[k] for k in grids if k in fixed},
          {k: fixed[k] for k in grids if k in fixed})
      if lines:
        raise errors.UserError(
            f'{directory / name} does not go with the {other} beside it: '
            f'{"; ".join(lines)}. Export both from the same run.')


def _stored(path, key):
  """The value of `key` in a component's config.json."""
  if not path.is_file():
    raise errors.UserError(f'{path} is missing; {_AGAIN}.')
  stored = files.read_json(path, _AGAIN)
  files.require(path, stored, _AGAIN, **{key: (str, dict)})
  return stored[key]


def _grids(name, spec):
  """{field of TokenSpec: its dict} that component `name` of `spec` fixes."""
  return {_ROLES[name]: spec} if name in _ROLES else spec['tokens']


def shipped() -> pathlib.Path:
  """The directory of the bundle that comes with the package."""
  return pathlib.Path(__file__).parent / 'pretrained'


def _encode(name, value, storage):
  """One array as it is stored: one or two entries."""
  if not np.issubdtype(value.dtype, np.floating):
    return {name: _contiguous(value)}
  value = value.astype(np.float32)
  if storage == 'float32':
    return {name: _contiguous(value)}
  if storage == 'float16' or value.ndim < 2 or value.size < _MIN_INT8_SIZE:
    return {name: _contiguous(value.astype(np.float16))}
  scale = np.max(np.abs(value), axis=-1, keepdims=True) / 127.0
  scale = np.maximum(scale, 1e-7).astype(np.float16)
  codes = np.round(value / scale.astype(np.float32))
  codes = np.clip(codes, -127, 127).astype(np.int8)
  return {name: _contiguous(codes),
          name + _SCALE: _contiguous(scale)}


def _contiguous(array):
  """`array` in C order; unlike NumPy's own, it leaves scalars scalars."""
  return np.ascontiguousarray(array).reshape(np.shape(array))


def _decode(arrays):
  weights = {}
  for name, value in arrays.items():
    if name.endswith(_SCALE):
      continue
    if value.dtype == np.int8 and name + _SCALE in arrays:
      value = value.astype(np.float32) * arrays[name + _SCALE].astype(
          np.float32)
    elif np.issubdtype(value.dtype, np.floating):
      value = value.astype(np.float32)
    weights[name] = value
  return weights
