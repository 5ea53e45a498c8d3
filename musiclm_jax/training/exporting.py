"""From a run's newest checkpoint to a component of a bundle, or to T5X's."""

import pathlib
from typing import Any

import jax

from musiclm_jax import bundle
from musiclm_jax import errors
from musiclm_jax import figures
from musiclm_jax import records
from musiclm_jax import specs
from musiclm_jax.training import checkpoints
from musiclm_jax.training import metrics_writer
from musiclm_jax.training import optim
from musiclm_jax.training import step as step_lib
from musiclm_jax.training import t5x_checkpoints
from musiclm_jax.training import trainable as trainable_lib


def export(trainable: trainable_lib.Trainable,
           source: trainable_lib.BatchSource, model_dir: str | pathlib.Path,
           out_dir: str | pathlib.Path, corpus_dir: str | None = None,
           storage: str = 'float32', metadata: dict[str, Any] | None = None,
           from_t5x: bool = False) -> dict[str, Any]:
  """Writes the component that `trainable` was trained to be.

  Args:
    trainable: as it was trained.
    source: its batch source; one batch gives the shapes of the state.
    model_dir: the run.
    out_dir: `<bundle>/<component>`; a component of that kind is replaced.
    corpus_dir: the corpus that codebooks are fitted on; the source's own if it
      has one, else none.
    storage: 'float32', 'float16' or 'int8'.
    metadata: JSON values for people, beside those that the run itself gives:
      steps, corpus, licence, metrics of the last evaluation, git commit.
    from_t5x: whether `model_dir` is a run of T5X, or a checkpoint in one.
  Returns:
    The metadata as written.
  Raises:
    UserError: there is no checkpoint, it is another model's, the bundle has
      another grid, or something else is in `out_dir`.
  """
  if storage not in bundle.STORAGES:
    raise errors.choice('storage', storage, bundle.STORAGES)
  reader = restore_t5x if from_t5x else restore
  bundle.check_place(out_dir, pathlib.Path(out_dir).name)
  step, state = reader(trainable, source, model_dir)
  corpus_dir = corpus_dir or source.corpus_dir
  corpus = records.load(corpus_dir) if corpus_dir else None
  about = dict(steps=step, metrics=metrics_writer.last(model_dir, 'eval'))
  if corpus is not None:
    about.update(corpus=corpus.name,
                 licence=corpus.manifest.get('licence', 'unknown'))
  else:
    about.update(source.origin)
  commit = figures.git_commit()
  if commit != 'unknown':
    about['git_commit'] = commit
  parts = trainable.export(state, corpus)
  # What the export itself found out, such as how well codebooks are used.
  about.update(parts.pop('metadata', {}))
  about.update(metadata or {})
  place = pathlib.Path(out_dir)
  name = bundle.component_of(parts['kind'])
  if place.name != name and place.name in (
      *bundle.COMPONENTS, *bundle.LISTENERS):
    raise errors.UserError(
        f'the leaf trains {parts["kind"]}, which cannot be {place.name} in a '
        f'bundle; end --out in /{name}.')
  if name in bundle.LISTENERS:
    pass  # it has no grid to share
  elif (place.parent / 'manifest.json').is_file():
    bundle.Bundle(place.parent).check_spec(
        place.name, specs.to_dict(parts['spec']))
  elif place.name in bundle.COMPONENTS:
    bundle.check_beside(
        place.parent, place.name, specs.to_dict(parts['spec']))
  bundle.save_component(out_dir, metadata=about, storage=storage, **parts)
  return about


def restore(trainable: trainable_lib.Trainable,
            source: trainable_lib.BatchSource,
            model_dir: str | pathlib.Path) -> tuple[int, Any]:
  """(step, state) of the newest checkpoint, the state's arrays in NumPy."""
  if not (pathlib.Path(model_dir) / 'checkpoints').is_dir():
    raise checkpoints.none_yet(model_dir)
  batch = next(iter(source.batches(0)))
  device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  abstract = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device),
      step_lib.abstract_state(trainable, batch))
  with checkpoints.Checkpoints(model_dir, read_only=True) as saved:
    restored = saved.restore(abstract)
  if restored is None:
    raise checkpoints.none_yet(model_dir)
  step, state, _ = restored
  return step, jax.device_get(state)


def restore_t5x(trainable: trainable_lib.Trainable,
                source: trainable_lib.BatchSource,
                directory: str | pathlib.Path) -> tuple[int, optim.State]:
  """(step, state) of T5X's newest checkpoint; the state holds parameters only.

  Args:
    trainable: a stage's, as it was trained.
    source: its batch source.
    directory: as of `t5x_checkpoints.read`.
  """
  _require_stage(trainable)
  abstract = step_lib.abstract_state(trainable, source.batch_shapes())
  step, params = t5x_checkpoints.read(directory, abstract.params)
  return step, optim.State(step=step, params=params, opt_state=())


def to_t5x(trainable: trainable_lib.Trainable,
           source: trainable_lib.BatchSource, model_dir: str | pathlib.Path,
           out_dir: str | pathlib.Path) -> pathlib.Path:
  """Writes a run's newest checkpoint as T5X's; returns its path.

  Args:
    trainable: a stage's, as it was trained.
    source: its batch source.
    model_dir: the run.
    out_dir: a directory for `checkpoint_<step>`.
  Raises:
    UserError: there is nothing to write, nowhere to write it, or no stage.
  """
  _require_stage(trainable)
  step, state = restore(trainable, source, model_dir)
  return t5x_checkpoints.write(out_dir, step, state)


def _require_stage(trainable):
  model = getattr(trainable, 'model', None)
  if not isinstance(getattr(model, 'spec', None), specs.StageSpec):
    raise errors.UserError(
        f'{type(trainable).__name__} is no stage; T5X trains stages alone. '
        f'Name the leaf of a stage, such as semantic_base.')
