"""Every rate, codebook count and clip length of MusicLM, in one place.

Standard library only, so that anything may import it. Each value is marked
`paper` (MusicLM, AudioLM, SoundStream, MuLan) or `ours` (the papers are
silent). Rates and strides are derived and checked against each other when a
spec is built: a codec of 24,000 Hz and a total stride of 480 samples has
24,000 / 480 = 50 frames a second and can have no other number.

A spec has a fingerprint. Checkpoints, token caches and bundles store it, and
refuse to be combined with parts made under another one.
"""

import dataclasses
import hashlib
import json
import math


def _require(condition, field, value, expected):
  if not condition:
    raise ValueError(f'{field} is {value!r}; expected {expected}.')


@dataclasses.dataclass(frozen=True)
class AudioSpec:
  """The waveform that enters and leaves the system."""

  sample_rate_hz: int = 24_000  # paper

  def __post_init__(self):
    _require(self.sample_rate_hz > 0, 'sample_rate_hz', self.sample_rate_hz,
             'a positive number of Hz')

  def num_samples(self, seconds):
    """Samples in `seconds` of audio, rounded to the nearest sample."""
    return int(round(seconds * self.sample_rate_hz))


@dataclasses.dataclass(frozen=True)
class CodecSpec:
  """SoundStream's token grid: `frame_rate_hz` frames of `num_codebooks`."""

  sample_rate_hz: int = 24_000  # paper
  strides: tuple = (3, 4, 5, 8)  # ours; the paper gives the product, 480
  num_codebooks: int = 12  # paper
  codebook_size: int = 1024  # paper
  coarse_codebooks: int = 4  # paper: levels 1-4 are coarse, 5-12 fine

  def __post_init__(self):
    object.__setattr__(self, 'strides', tuple(self.strides))
    _require(
        self.sample_rate_hz % self.hop_samples == 0, 'strides', self.strides,
        f'factors whose product divides {self.sample_rate_hz} Hz')
    _require(
        0 < self.coarse_codebooks < self.num_codebooks, 'coarse_codebooks',
        self.coarse_codebooks, f'between 1 and {self.num_codebooks - 1}')
    _require(self.codebook_size > 1, 'codebook_size', self.codebook_size,
             'at least 2')

  @property
  def hop_samples(self):
    return math.prod(self.strides)

  @property
  def frame_rate_hz(self):
    return self.sample_rate_hz // self.hop_samples

  @property
  def fine_codebooks(self):
    return self.num_codebooks - self.coarse_codebooks

  @property
  def bitrate_bps(self):
    return (self.frame_rate_hz * self.num_codebooks *
            math.log2(self.codebook_size))

  def num_frames(self, num_samples):
    """Frames of `num_samples` samples: the last one may be padded."""
    return -(-num_samples // self.hop_samples)


@dataclasses.dataclass(frozen=True)
class SemanticSpec:
  """w2v-BERT's tokens: one of `codebook_size` ids, `frame_rate_hz` a second."""

  sample_rate_hz: int = 16_000  # ours
  mel_hop_samples: int = 160  # paper: 10 ms
  subsampling: int = 4  # paper: two stride-2 convolutions
  codebook_size: int = 1024  # paper

  def __post_init__(self):
    hop = self.mel_hop_samples * self.subsampling
    _require(self.sample_rate_hz % hop == 0, 'subsampling', self.subsampling,
             'a whole number of tokens a second')

  @property
  def frame_rate_hz(self):
    return self.sample_rate_hz // (self.mel_hop_samples * self.subsampling)


@dataclasses.dataclass(frozen=True)
class JointSpec:
  """MuLan's tokens: one RVQ code word of `num_codebooks` ids for a clip."""

  sample_rate_hz: int = 16_000  # paper (MuLan)
  embedding_dim: int = 128  # paper
  num_codebooks: int = 12  # paper
  codebook_size: int = 1024  # paper
  window_seconds: int = 10  # paper
  window_stride_seconds: int = 1  # paper

  def num_windows(self, seconds):
    """Windows in a clip; a clip under one window is zero-padded to one."""
    whole = int(seconds)
    return max(
        1, (whole - self.window_seconds) // self.window_stride_seconds + 1)


@dataclasses.dataclass(frozen=True)
class MelodySpec:
  """Melody tokens: `num_codebooks` ids for each 4 s window, every 3 s."""

  sample_rate_hz: int = 16_000  # ours
  embedding_dim: int = 192  # paper
  num_codebooks: int = 24  # paper
  codebook_size: int = 512  # paper
  window_seconds: int = 4  # paper
  window_stride_seconds: int = 3  # paper

  def num_windows(self, seconds):
    """Windows in a clip of `seconds`: 3 for 10 s, 9 for 30 s."""
    _require(seconds >= self.window_seconds, 'seconds', seconds,
             f'at least one window of {self.window_seconds} s')
    return int((seconds - self.window_seconds) //
               self.window_stride_seconds) + 1


@dataclasses.dataclass(frozen=True)
class TokenSpec:
  """All token grids of one system; what a cache and a stage must share."""

  audio: AudioSpec = AudioSpec()
  codec: CodecSpec = CodecSpec()
  semantic: SemanticSpec = SemanticSpec()
  joint: JointSpec = JointSpec()
  melody: MelodySpec = MelodySpec()

  def __post_init__(self):
    _require(
        self.codec.sample_rate_hz == self.audio.sample_rate_hz,
        'codec.sample_rate_hz', self.codec.sample_rate_hz,
        f'the audio rate, {self.audio.sample_rate_hz} Hz')
    _require(
        self.codec.frame_rate_hz % self.semantic.frame_rate_hz == 0,
        'semantic.frame_rate_hz', self.semantic.frame_rate_hz,
        f'a divisor of the codec rate, {self.codec.frame_rate_hz} Hz')

  @property
  def codec_frames_per_semantic(self):
    return self.codec.frame_rate_hz // self.semantic.frame_rate_hz


# How each stage's sequence is built: what conditions it, what it predicts and
# how long a training crop is (paper: 30, 10 and 3 s).
STAGE_CROP_SECONDS = {'semantic': 30, 'coarse': 10, 'fine': 3}
STAGE_CONDITIONS = {
    'semantic': ('mulan',),
    'coarse': ('mulan', 'semantic'),
    'fine': ('coarse',),
}


@dataclasses.dataclass(frozen=True)
class StageSpec:
  """One decoder stage: `[conditions][sep][target]` over one crop."""

  name: str = 'semantic'
  tokens: TokenSpec = TokenSpec()
  crop_seconds: int = 0  # 0: the paper's length for this stage
  conditions: tuple = ()  # (): the paper's conditions for this stage

  def __post_init__(self):
    _require(self.name in STAGE_CROP_SECONDS, 'name', self.name,
             f'one of {sorted(STAGE_CROP_SECONDS)}')
    if not self.crop_seconds:
      object.__setattr__(self, 'crop_seconds', STAGE_CROP_SECONDS[self.name])
    _require(self.crop_seconds > 0, 'crop_seconds', self.crop_seconds,
             'a positive number of whole seconds')
    conditions = tuple(self.conditions) or STAGE_CONDITIONS[self.name]
    object.__setattr__(self, 'conditions', conditions)

  @property
  def target(self):
    return self.name


def to_dict(spec):
  """A spec as plain JSON values, nested specs included."""
  return json.loads(json.dumps(dataclasses.asdict(spec)))


def from_dict(cls, values):
  """Builds spec `cls` from `to_dict`'s result; unknown fields are an error."""
  fields = {f.name: f for f in dataclasses.fields(cls)}
  unknown = sorted(set(values) - set(fields))
  if unknown:
    raise ValueError(
        f'{cls.__name__} has no field {unknown}; it has {sorted(fields)}.')
  kwargs = {}
  for name, value in values.items():
    default = fields[name].default
    if dataclasses.is_dataclass(default):
      value = from_dict(type(default), value)
    elif isinstance(value, list):
      value = tuple(value)
    kwargs[name] = value
  return cls(**kwargs)


def fingerprint(spec):
  """A short hash that changes when any field of `spec` does."""
  canonical = json.dumps(to_dict(spec), sort_keys=True)
  name = type(spec).__name__
  return hashlib.sha256(f'{name}:{canonical}'.encode()).hexdigest()[:16]


def difference(found, expected):
  """Names of differing fields: `['codec.num_codebooks: 8, expected 12']`.

  Args:
    found: a spec, or its `to_dict` form as read from a file.
    expected: a spec, or its `to_dict` form.
  """
  as_dict = lambda s: s if isinstance(s, dict) else to_dict(s)
  return _difference(as_dict(found), as_dict(expected), '')


def _difference(found, expected, prefix):
  lines = []
  for key in sorted(set(found) | set(expected)):
    a, b = found.get(key, 'absent'), expected.get(key, 'absent')
    if isinstance(a, dict) and isinstance(b, dict):
      lines += _difference(a, b, f'{prefix}{key}.')
    elif a != b:
      lines.append(f'{prefix}{key}: {a}, expected {b}')
  return lines
