"""Classifiers of sound by name: what KLD listens with.

  musicnn        50 tags, of the installed package (listeners/musicnn.py)
  NAME=PATH      whatever PATH holds, called NAME in the figures:
    a folder of `musiclm export leaf_demo ... --out DIR/leaf`
    an ONNX file, or a folder with one
    a SavedModel's folder
    a folder of `transformers` with a model for audio classification

An ONNX file and a SavedModel do not say what they want to be given: beside them
lies a `classifier.json` such as

  {"sample_rate_hz": 32000, "segment_seconds": 10, "outputs": "logits",
   "classes": ["Speech", ...]}

of which only the first is required. `outputs` may be 'probabilities'. Of a
folder called passt=DIR nothing is: PaSST hears 32,000 Hz, 10 s at a time.

A longer clip is heard in segments of `segment_seconds`, at most 10 s, and the
mean of their logits is taken. (AudioGen's evaluation takes each segment as a
pair of its own, which is the same for clips of up to 10 s.) What is left at the
end counts if it is 1 s or more, or all there is.
"""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import hashlib
import json
import pathlib
from typing import Protocol

import numpy as np

from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax.listeners import local_models

ABOUT = 'classifier.json'
LONGEST_SECONDS = 10.0  # AudioSet's clips; PaSST's input
_LEAST_SECONDS = 1.0  # ours; AudioGen drops what is under 0.15 s
_SMALLEST = 1e-6  # a probability nearer to 0 or 1 counts as this far
_AGAIN = 'see `musiclm_jax/listeners/classifiers.py` for what it may say'
_PASST = dict(sample_rate_hz=32_000, segment_seconds=10.0)
_OUTPUTS = ('logits', 'probabilities')


class Classifier(Protocol):
  """What tells the classes of clips.

  Attributes:
    name: what figures call it.
    sample_rate_hz: of the audio that it takes.
    classes: names of the C classes.
    segment_seconds: what it hears at a time.
    digest: 16 hex digits that change with its weights.
  """

  name: str
  sample_rate_hz: int
  classes: Sequence[str]
  segment_seconds: float
  digest: str

  def logits(self, audio: np.ndarray) -> np.ndarray:
    """[B, N] float32 at `sample_rate_hz` -> [B, C]."""


@dataclasses.dataclass
class Segmented:
  """A classifier made of a function of segments.

  Attributes:
    name: see `Classifier`, as the next four.
    sample_rate_hz: Hz.
    classes: C names; () until it was asked, then numbers.
    digest: of the weights.
    hear: [B, N] float32 of at most `segment_seconds` -> [B, C] logits.
    segment_seconds: at most 10.
  """

  name: str
  sample_rate_hz: int
  classes: Sequence[str]
  digest: str
  hear: Callable[[np.ndarray], np.ndarray]
  segment_seconds: float = LONGEST_SECONDS

  def logits(self, audio: np.ndarray) -> np.ndarray:
    """[B, N] float32 at `sample_rate_hz` -> [B, C]; see the module."""
    audio = np.asarray(audio, np.float32)
    if audio.ndim != 2 or not audio.shape[1]:
      raise ValueError(
          f'audio has shape {audio.shape}; expected [B, N] with N > 0.')
    size = round(self.segment_seconds * self.sample_rate_hz)
    parts = [audio[:, i:i + size] for i in range(0, audio.shape[1], size)]
    if len(parts) > 1 and (
        parts[-1].shape[1] < _LEAST_SECONDS * self.sample_rate_hz):
      parts.pop()
    found = [np.asarray(self.hear(part)) for part in parts]
    count = found[0].shape[-1]
    if self.classes and len(self.classes) != count:
      raise errors.UserError(
          f'the classifier {self.name} gives {count} numbers and names '
          f'{len(self.classes)} classes; correct its {ABOUT}.')
    self.classes = self.classes or tuple(map(str, range(count)))
    return np.mean(found, axis=0)


def by_name(name_or_path: str) -> Classifier:
  """The classifier of a name; see the module.

  Args:
    name_or_path: 'musicnn', 'NAME=PATH', or a path, whose last part is the name.

  Raises:
    UserError: no such classifier, or what it needs is missing or damaged; the
      message says what to do.
  """
  name, _, place = name_or_path.rpartition('=')
  path = pathlib.Path(place)
  if not name and place == 'musicnn':
    return _musicnn()
  if not path.exists():
    raise errors.UserError(
        f'no classifier {name_or_path!r}; expected musicnn, or NAME=PATH with '
        f'a folder or an ONNX file that is there.')
  name = name or path.stem
  if path.is_file() and path.suffix != '.onnx':
    raise errors.UserError(
        f'{path} is no classifier; expected an .onnx file or a folder.')
  if path.is_dir() and (path / 'weights.safetensors').is_file():
    from musiclm_jax.listeners.leaf import classifier  # pylint: disable=g-import-not-at-top
    return classifier.load(path, name)
  if path.is_dir() and (path / 'saved_model.pb').is_file():
    return _saved_model(name, path)
  models = [path] if path.is_file() else sorted(path.glob('*.onnx'))
  if len(models) == 1:
    return _onnx(name, models[0])
  if path.is_dir() and (path / 'config.json').is_file():
    return _transformers(name, path)
  raise errors.UserError(
      f'{path} holds {len(models)} ONNX files and neither a component of '
      f'`musiclm export`, a SavedModel nor a config.json of transformers; name '
      f'one classifier.')


def _musicnn():
  from musiclm_jax.listeners import musicnn  # pylint: disable=g-import-not-at-top
  tagger = musicnn.MusicNN.load()
  rate = musicnn.SAMPLE_RATE_HZ
  return Segmented(
      'musicnn', rate, tagger.tags, tagger.digest,
      lambda audio: logits_of(tagger.tag(audio, rate)))


def logits_of(probabilities: np.ndarray) -> np.ndarray:
  """log(p / (1 - p)), of p kept in 1e-6 .. 1 - 1e-6."""
  p = np.clip(np.asarray(probabilities, np.float64), _SMALLEST, 1 - _SMALLEST)
  return np.log(p) - np.log1p(-p)


def _about(name, folder, **known):
  """(rate, segment length, classes, what turns outputs to logits)."""
  path = folder / ABOUT
  about = dict(_PASST if name == 'passt' else {}, **known)
  if path.is_file():
    about.update(files.read_json(path, _AGAIN))
  if 'sample_rate_hz' not in about:
    raise errors.UserError(
        f'{folder} does not say at which rate its classifier hears; write '
        f'{{"sample_rate_hz": 32000}} or so into {path}.')
  files.require(path, about, _AGAIN, sample_rate_hz=int)
  outputs = about.get('outputs', 'logits')
  if outputs not in _OUTPUTS:
    raise errors.choice(f'outputs in {path}', outputs, _OUTPUTS)
  seconds = about.get('segment_seconds', LONGEST_SECONDS)
  if not isinstance(seconds, (int, float)) or not (
      0 < seconds <= LONGEST_SECONDS):
    raise errors.UserError(
        f'segment_seconds in {path} is {seconds!r}; expected a number up to '
        f'{LONGEST_SECONDS:g}.')
  return (about['sample_rate_hz'], float(seconds),
          tuple(map(str, about.get('classes', ()))),
          logits_of if outputs == 'probabilities' else np.asarray)


def _onnx(name, path):
  """An ONNX file whose first input is [B, N] or [N], a clip at a time."""
  session = local_models.onnx_session(path)
  rate, seconds, classes, to_logits = _about(name, path.parent)
  wanted = session.get_inputs()[0]
  last = wanted.shape[-1] if wanted.shape else None
  exact = last if isinstance(last, int) and last > 1 else None

  def hear(audio):
    if exact:
      audio = np.pad(audio[:, :exact], (
          (0, 0), (0, max(0, exact - audio.shape[1]))))
    rows = audio if len(wanted.shape) == 1 else audio[:, None]
    found = [session.run(None, {wanted.name: row})[0] for row in rows]
    return to_logits(np.stack([_vector(name, y) for y in found]))

  return Segmented(name, rate, classes, local_models.digest_of(path), hear,
                   seconds)


def _saved_model(name, folder):
  """A SavedModel whose default signature takes [B, N], a clip at a time."""
  model = local_models.saved_model(folder)
  rate, seconds, classes, to_logits = _about(name, folder)
  if 'serving_default' not in model.signatures:
    raise errors.UserError(
        f'{folder} is no SavedModel with a default signature.')
  function = model.signatures['serving_default']
  (key,) = function.structured_input_signature[1]

  def hear(audio):
    import tensorflow as tf  # pylint: disable=g-import-not-at-top
    found = [next(iter(function(**{key: tf.constant(row[None])}).values()))
             for row in audio]
    return to_logits(np.stack([_vector(name, np.asarray(y)) for y in found]))

  hear.keeps = model  # its variables go with the object that was loaded
  return Segmented(name, rate, classes, local_models.digest_of(folder), hear,
                   seconds)


def _transformers(name, folder):
  """A model for audio classification, from this folder alone."""
  try:
    import torch  # pylint: disable=g-import-not-at-top
    import transformers  # pylint: disable=g-import-not-at-top
  except ImportError as error:
    raise errors.UserError(
        f'{folder} needs transformers and torch, which are not installed; run '
        f'`pip install "musiclm_jax[hf]"`.') from error
  try:
    extractor = transformers.AutoFeatureExtractor.from_pretrained(
        folder, local_files_only=True)
    model = transformers.AutoModelForAudioClassification.from_pretrained(
        folder, local_files_only=True).eval()
  except (OSError, ValueError, KeyError) as error:
    raise errors.UserError(
        f'{folder} is no audio classifier that transformers reads '
        f'({str(error).splitlines()[0]}).') from error
  from musiclm_jax.tokenizers.adapters import hub  # pylint: disable=g-import-not-at-top
  names = model.config.id2label
  rate, seconds, classes, to_logits = _about(
      name, folder, sample_rate_hz=extractor.sampling_rate,
      classes=[names[k] for k in sorted(names)])

  def hear(audio):
    given = extractor(list(audio), sampling_rate=rate, return_tensors='pt')
    with torch.inference_mode():
      return to_logits(model(**given).logits.float().numpy())

  return Segmented(name, rate, classes, hub.fingerprint(folder), hear, seconds)


def _vector(name, output):
  """The [C] of a clip out of [C], [1, C] or [1, T, C]."""
  output = np.asarray(output, np.float64)
  if not output.size or output.ndim > 3 or (
      output.ndim > 1 and output.shape[0] != 1):
    raise errors.UserError(
        f'the classifier {name} gives an array of shape {output.shape} for a '
        f'clip; expected [1, C], or [1, T, C] of frames.')
  output = output[0] if output.ndim > 1 else output
  return output.mean(0) if output.ndim > 1 else output


def described(classifier: Classifier) -> dict[str, object]:
  """What a figure says of the classifier that it rests on, as JSON has it."""
  return dict(
      digest=classifier.digest, sample_rate_hz=classifier.sample_rate_hz,
      segment_seconds=classifier.segment_seconds,
      classes=len(classifier.classes),
      classes_digest=hashlib.sha256(json.dumps(
          list(classifier.classes)).encode()).hexdigest()[:16])
