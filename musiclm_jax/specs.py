"""Token grids, streams and stages as data: every rate and codebook count.

  TokenSpec    the grids that a bundle, a cache and a stage must share
  StreamSpec   one stream of codes, as a stage's sequence has it
  SystemSpec   the streams and the stages of a system, such as MusicLM's in
               systems/musiclm/streams.py
  StageSpec    one stage of a system, as bundles store it

Standard library only, so that anything may import it. Each value is marked
`paper` (MusicLM, AudioLM, SoundStream, MuLan) or `ours` (the papers are
silent). Rates and strides are derived and checked against each other when a
spec is built: a codec of 24,000 Hz and a total stride of 480 samples has
24,000 / 480 = 50 frames a second and can have no other number.

A spec has a fingerprint. Checkpoints, token caches and bundles store it, and
refuse to be combined with parts made under another one.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import hashlib
import json
import math
from typing import Any
from typing import cast
from typing import TypeVar

_Spec = TypeVar('_Spec')  # any dataclass of this module


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

  def num_samples(self, seconds: float) -> int:
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
  def hop_samples(self) -> int:
    return math.prod(self.strides)

  @property
  def frame_rate_hz(self) -> int:
    return self.sample_rate_hz // self.hop_samples

  @property
  def fine_codebooks(self) -> int:
    return self.num_codebooks - self.coarse_codebooks

  @property
  def bitrate_bps(self) -> float:
    return (self.frame_rate_hz * self.num_codebooks *
            math.log2(self.codebook_size))

  def num_frames(self, num_samples: int) -> int:
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
  def frame_rate_hz(self) -> int:
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

  def num_windows(self, seconds: float) -> int:
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

  def num_windows(self, seconds: float) -> int:
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
  def codec_frames_per_semantic(self) -> int:
    return self.codec.frame_rate_hz // self.semantic.frame_rate_hz


@dataclasses.dataclass(frozen=True)
class ListenerSpec:
  """What a trained judge of sound hears, and the names of what it tells."""

  sample_rate_hz: int = 16_000  # paper (LEAF)
  classes: tuple = ()

  def __post_init__(self):
    object.__setattr__(self, 'classes', tuple(self.classes))


# What one frame of a stream stands for.
FRAMES, WINDOWS, CROP = 'frames', 'windows', 'crop'
KINDS = (FRAMES, WINDOWS, CROP)


@dataclasses.dataclass(frozen=True)
class StreamSpec:
  """One stream of codes that stages read or write, as data.

  There are three kinds, and everything that handles streams goes by the kind,
  never by the name:

  'frames'   `rate_hz` frames a second. The source is a flat line of codes, time
             outer, level inner; a stream may be some of its levels.
  'windows'  a frame for each window of `window_seconds`, one every
             `window_stride_seconds`. The source has a row of codes for the
             window that begins at each second.
  'crop'     one frame for all of a crop. The source has an embedding for each
             window, one every `window_stride_seconds`; their mean over the crop
             is quantised.

  >>> chords = StreamSpec('chords', 'chords', 1, 24, rate_hz=2)
  >>> chords.num_frames(10), chords.frame_seconds
  (20, 0.5)
  >>> keys = StreamSpec('keys', 'keys', 1, 24, kind=WINDOWS, window_seconds=4,
  ...                   window_stride_seconds=3)
  >>> keys.num_frames(10), keys.frame_seconds
  (3, 3)

  Attributes:
    name: of its segment in a stage's sequence.
    source: the feature of a token cache that it is read from.
    num_codebooks: codes of one frame.
    codebook_size: codes are 0..codebook_size - 1.
    kind: one of `KINDS`.
    rate_hz: of 'frames', a whole number, since crops begin at whole seconds.
    window_seconds: of the two other kinds, and so is the next.
    window_stride_seconds: from the beginning of one window to the next.
    first_level: level of the first codebook within the source.
    source_codebooks: levels of the source; 0: just those of the stream.
  """

  name: str
  source: str
  num_codebooks: int
  codebook_size: int
  kind: str = FRAMES
  rate_hz: int = 0
  window_seconds: int = 0
  window_stride_seconds: int = 0
  first_level: int = 0
  source_codebooks: int = 0

  def __post_init__(self):
    _require(self.kind in KINDS, 'kind', self.kind, f'one of {KINDS}')
    needed = (('rate_hz',) if self.kind == FRAMES else
              ('window_seconds', 'window_stride_seconds'))
    for field in ('num_codebooks', 'codebook_size') + needed:
      value = getattr(self, field)
      _require(value > 0, f'{field} of {self.name}', value, 'more than 0')
    if not self.source_codebooks:
      object.__setattr__(self, 'source_codebooks', self.num_codebooks)
    _require(
        0 <= self.first_level <= self.source_codebooks - self.num_codebooks,
        f'first_level of {self.name}', self.first_level,
        f'{self.num_codebooks} levels within {self.source_codebooks}')

  @property
  def frame_seconds(self) -> float:
    """From one frame to the next; 0 for what holds for the whole crop."""
    if self.kind == FRAMES:
      return 1 / self.rate_hz
    return self.window_stride_seconds if self.kind == WINDOWS else 0.0

  def num_frames(self, seconds: int) -> int:
    """Frames in a crop of `seconds`.

    Raises:
      ValueError: it is shorter than one window of a 'windows' stream.
    """
    if self.kind == FRAMES:
      return seconds * self.rate_hz
    return self.num_windows(seconds) if self.kind == WINDOWS else 1

  def num_windows(self, seconds: float) -> int:
    """Windows in `seconds` of audio, as `MelodySpec` and `JointSpec` count."""
    if self.kind == WINDOWS:
      _require(seconds >= self.window_seconds, 'seconds', seconds,
               f'at least one window of {self.window_seconds} s')
    spare = int(seconds) - self.window_seconds
    return max(1, spare // self.window_stride_seconds + 1)


def windows_of_crop(spec: JointSpec | StreamSpec,
                    crop_seconds: int) -> tuple[int, int]:
  """Whose embeddings stand for a crop: (start of the first, their number).

  The start is in seconds from that of the crop. A crop under one window's
  length takes the window whose centre is nearest to its own (ours).

  >>> windows_of_crop(JointSpec(), 30), windows_of_crop(JointSpec(), 3)
  ((0, 21), (-4, 1))
  """
  if crop_seconds >= spec.window_seconds:
    return 0, spec.num_windows(crop_seconds)
  return (crop_seconds - spec.window_seconds) // 2, 1


@dataclasses.dataclass(frozen=True)
class StageDefaults:
  """What a stage of a system is unless a StageSpec says otherwise."""

  name: str
  conditions: tuple
  crop_seconds: int


@dataclasses.dataclass(frozen=True)
class SystemSpec:
  """A system: the streams that it knows and the stages that it consists of.

  Attributes:
    name: of the system.
    streams: function from a TokenSpec to its StreamSpecs, a tuple. A stage
      predicts the stream that has its own name.
    stages: StageDefaults, in the order in which the stages are asked.
  """

  name: str
  streams: Callable[[TokenSpec], tuple[StreamSpec, ...]]
  stages: tuple[StageDefaults, ...]


_SYSTEMS: dict[str, SystemSpec] = {}


def register(system: SystemSpec) -> None:
  """Makes the stages of a system known to `StageSpec`.

  A StageSpec says its stage by name, as gin files and bundles have it, so
  names of stages are unique among all systems. `musiclm_jax/__init__.py`
  registers those of the package.

  Raises:
    ValueError: another system has a stage of the same name.
  """
  for other in _SYSTEMS.values():
    common = {s.name for s in other.stages} & {s.name for s in system.stages}
    _require(other.name == system.name or not common, 'stages', sorted(common),
             f'other names than those of {other.name}')
  _SYSTEMS[system.name] = system


def known_stages() -> tuple[str, ...]:
  """Names of the stages of all registered systems."""
  return tuple(stage.name for system in _SYSTEMS.values()
               for stage in system.stages)


@dataclasses.dataclass(frozen=True)
class StageSpec:
  """One decoder stage: `[conditions][sep][target]` over one crop.

  Only what is stored is a field. What the names mean (the stage's defaults, the
  streams of its segments) is read from the SystemSpec that has the stage.
  """

  name: str = 'semantic'
  tokens: TokenSpec = TokenSpec()
  crop_seconds: int = 0  # 0: the system's length for this stage
  conditions: tuple = ()  # (): the system's conditions for this stage

  def __post_init__(self):
    _require(self.name in known_stages(), 'name', self.name,
             f'one of {sorted(known_stages())}')
    defaults = {s.name: s for s in self.system.stages}[self.name]
    if not self.crop_seconds:
      object.__setattr__(self, 'crop_seconds', defaults.crop_seconds)
    _require(self.crop_seconds > 0, 'crop_seconds', self.crop_seconds,
             'a positive number of whole seconds')
    conditions = tuple(self.conditions) or defaults.conditions
    object.__setattr__(self, 'conditions', conditions)

  @property
  def system(self) -> SystemSpec:
    """The registered system that has this stage."""
    return next(system for system in _SYSTEMS.values()
                if self.name in {s.name for s in system.stages})

  @property
  def target(self) -> str:
    return self.name

  @property
  def known_streams(self) -> tuple[StreamSpec, ...]:
    """All streams of the system, over the grids of `tokens`."""
    return self.system.streams(self.tokens)

  @property
  def sources(self) -> tuple[str, ...]:
    """Features of a cache that the system's streams are read from, in order."""
    return tuple(dict.fromkeys(s.source for s in self.known_streams))

  @property
  def streams(self) -> tuple[StreamSpec, ...]:
    """Those of the conditions, in order, and behind them the target's.

    Raises:
      ValueError: the system has no stream of a condition's name.
    """
    known = {stream.name: stream for stream in self.known_streams}
    for name in self.conditions:
      if name not in known:
        raise ValueError(
            f'unknown segment {name!r}; known: {", ".join(known)}.')
    return tuple(known[name] for name in (*self.conditions, self.target))


def to_dict(spec: Any) -> dict:
  """A spec as plain JSON values, nested specs included."""
  return json.loads(json.dumps(dataclasses.asdict(spec)))


def from_dict(cls: type[_Spec], values: Mapping) -> _Spec:
  """Builds spec `cls` from `to_dict`'s result; unknown fields are an error."""
  fields = {f.name: f for f in dataclasses.fields(cast(Any, cls))}
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


def fingerprint(spec: Any) -> str:
  """A short hash that changes when any field of `spec` does."""
  canonical = json.dumps(to_dict(spec), sort_keys=True)
  name = type(spec).__name__
  return hashlib.sha256(f'{name}:{canonical}'.encode()).hexdigest()[:16]


def difference(found: Any, expected: Any) -> list[str]:
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
