"""What the parts of a system ask of each other, as types.

  waveform --Tokenizer--> codes          one stream of ids, w2v-BERT's
  waveform --Codec------> codes --Codec--> waveform
  waveform or text --JointEmbedder--> embedding --> codes
  waveform --MelodyEmbedder--> codes
  codes --TokenModel--> more codes
  a prompt --System--> waveform

A part conforms by having these members: it need not inherit anything, and it
may take more arguments than are named here if they have defaults. `differences`
says what an object or a class lacks; tests/test_contracts.py asks it of every
part that this package has, and `Bundle.use` of those that others bring.

All arrays that cross these borders are NumPy's or jax's, codes are int32 counted
from 0, and audio is float32 in -1..1 at the system's sample rate. Letters are
B rows, N samples, T frames, Q codebooks, K entries of each, D features, W windows.

What is trained has a contract of its own: the base class
training.trainable.Trainable. This module knows no other of the package.
"""

# pyright: reportReturnType=false
# Methods of a protocol say what comes back, and have no body that gives it.
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import inspect
from typing import Any
from typing import Protocol
from typing import runtime_checkable

import numpy as np
from numpy.typing import ArrayLike

Progress = Callable[[str, int, int], None] | None


class Component(Protocol):
  """One trained model as a bundle stores it; what `from_component` is given."""

  @property
  def kind(self) -> str:
    """What it is, such as 'mulan' or 'framecodec'."""

  @property
  def config(self) -> dict:
    """The model's configuration, as JSON has it."""

  @property
  def spec(self) -> dict:
    """The spec that it was trained under, as JSON has it."""

  @property
  def metadata(self) -> dict:
    """What it says of its training."""

  def tree(self) -> dict:
    """The weights as nested dicts of arrays."""


class CodecGrid(Protocol):
  """The grid of a codec's codes; specs.CodecSpec is one."""

  @property
  def sample_rate_hz(self) -> int:
    """Samples a second, of what goes in and of what comes out."""

  @property
  def hop_samples(self) -> int:
    """Samples that a frame stands for."""

  @property
  def frame_rate_hz(self) -> int:
    """Frames a second, a whole number."""

  @property
  def num_codebooks(self) -> int:
    """Q, codes of a frame."""

  @property
  def codebook_size(self) -> int:
    """K, entries of each codebook."""

  @property
  def coarse_codebooks(self) -> int:
    """How many levels, the first ones, the coarse stage predicts."""

  def num_frames(self, num_samples: int) -> int:
    """Frames of so many samples, the last one padded."""


class CodeStream(Protocol):
  """One direction of a codec, chunk by chunk.

  It may be kept: whatever it compiles is used again for the next signal.
  """

  @property
  def delay_frames(self) -> int:
    """By how many frames its outputs are known later than its inputs."""

  def stream(self, chunks: Iterable[ArrayLike]) -> Iterator[Any]:
    """The results of one signal that comes in chunks of whole frames.

    Args:
      chunks: [B, n * hop] samples each, or [B, n, q] codes; n may differ from
        chunk to chunk, the rest may not.

    Yields:
      Codes or samples, in all as many frames as came in. What can be known
      after a chunk comes then, the last `delay_frames` after the last chunk.
    """


@runtime_checkable
class Codec(Protocol):
  """Audio to codes and back; role 'codec'."""

  @property
  def spec(self) -> CodecGrid:
    """The grid of its codes."""

  @property
  def codebooks(self) -> Any:
    """[Q, K, D] float32 that the codes stand for, or None if it does not tell."""

  @property
  def causal(self) -> bool:
    """Whether the codes of a frame depend on nothing after it.

    Rows of several lengths may then be padded and encoded together.
    """

  @property
  def encoder_lookahead(self) -> int:
    """Frames after its own that the codes of a frame depend on."""

  @property
  def decoder_lookahead(self) -> int:
    """Frames after its own that the samples of a frame depend on."""

  @property
  def latency_samples(self) -> int:
    """From a sample that goes in to the same one coming out of two streams."""

  def encode(self, audio: ArrayLike) -> Any:
    """[B, N] -> [B, ceil(N / hop), Q] codes; the last frame is padded."""

  def decode(self, codes: ArrayLike) -> Any:
    """[B, T, q] codes of the first q levels -> [B, T * hop] samples."""

  def stream_encoder(self, levels: int | None = None) -> CodeStream:
    """`encode` chunk by chunk, the first `levels` codebooks; None for all.

    Its chunks are whole frames.
    """

  def stream_decoder(self) -> CodeStream:
    """`decode` chunk by chunk."""


@runtime_checkable
class Tokenizer(Protocol):
  """Audio to one stream of ids; role 'semantic'.

  Its `spec` has `frame_rate_hz`, ids a second, and `codebook_size`, K.
  """

  @property
  def spec(self) -> Any:
    """The grid of its ids, such as a specs.SemanticSpec."""

  @property
  def hop_samples(self) -> int:
    """Samples, at the system's rate, that an id stands for."""

  @property
  def centroids(self) -> Any:
    """[K, D] float32 that the ids stand for; None before it is fitted."""

  def encode(self, audio: ArrayLike, num_samples: ArrayLike | None = None
             ) -> Any:
    """Ids of audio.

    Args:
      audio: [B, N], N > 0.
      num_samples: [B] samples of audio in each row: what is beyond changes no
        id before it. None: all N.

    Returns:
      [B, ceil(N / hop_samples)] int32; past a row's audio they say nothing.
    """


@runtime_checkable
class JointEmbedder(Protocol):
  """Audio or text to one embedding, and that to codes; role 'joint'.

  Its `spec` has `embedding_dim`, D, `num_codebooks`, Q, `codebook_size`, K, and
  `num_windows(seconds)`, W. All embeddings have unit length.
  """

  @property
  def spec(self) -> Any:
    """The grid of its codes, such as a specs.JointSpec."""

  @property
  def codebooks(self) -> Any:
    """[Q, K, D] float32 of the RVQ; None before it is fitted."""

  def embed_audio_windows(self, audio: ArrayLike) -> Any:
    """[B, N] -> [B, W, D], an embedding of each window."""

  def embed_audio(self, audio: ArrayLike) -> Any:
    """[B, N] -> [B, D], the mean over windows at unit length."""

  def embed_text(self, texts: Sequence[str]) -> Any:
    """Texts -> [len(texts), D], comparable with those of audio."""

  def quantize(self, embeddings: ArrayLike) -> Any:
    """[B, D] -> [B, Q] codes."""


@runtime_checkable
class MelodyEmbedder(Protocol):
  """Audio to codes of the tune in it; role 'melody'.

  Its `spec` has `num_codebooks`, Q, `codebook_size`, K, `window_seconds` and
  `window_stride_seconds`.
  """

  @property
  def spec(self) -> Any:
    """The grid of its codes, such as a specs.MelodySpec."""

  @property
  def codebooks(self) -> Any:
    """[Q, K, D] float32 of the RVQ."""

  def embed_windows(self, audio: ArrayLike, stride_seconds: int | None = None
                    ) -> Any:
    """[B, N] -> [B, W, D]; windows are the spec's stride apart, or another."""

  def quantize(self, embeddings: ArrayLike) -> Any:
    """[..., D] -> [..., Q] codes."""

  def encode(self, audio: ArrayLike, stride_seconds: int | None = None) -> Any:
    """[B, N] -> [B, W * Q] codes, window after window."""


@runtime_checkable
class TokenModel(Protocol):
  """Draws the tokens of one stage; decoding.sampler.Sampler is one.

    decoding = model.begin(tokens, keys, prompt, draw)   the prompt, at once
    model.advance(decoding, stop)                        then piece by piece
    decoding.tokens                                      [B, L], 0: not drawn

  How many pieces there are changes no token.
  """

  @property
  def stage(self) -> Any:
    """The trained stage: its `spec` names `target`, `conditions`, `crop_seconds`.
    """

  @property
  def layout(self) -> Any:
    """tokens.layout.Layout: where conditions and target stand in a sequence."""

  def begin(self, tokens: ArrayLike, keys: Any, prompt: int, draw: Any) -> Any:
    """Reads a prompt (prefill).

    Args:
      tokens: [B, L] int32, 0 where a token is to be drawn.
      keys: [B] random keys; a row's tokens follow from its key alone.
      prompt: the first position that may be drawn.
      draw: decoding.categorical.Draw: temperature, filters, levels, guidance.

    Returns:
      What `advance` goes on with; `tokens` is its [B, L] so far.
    """

  def advance(self, decoding: Any, stop: int) -> None:
    """Draws all positions before `stop`; changes `decoding`."""

  def prepare(self, rows: int, prompts: Sequence[int], draw: Any
              ) -> Iterator[None]:
    """Compiles what `begin` and `advance` take of so many rows, and draws nothing.

    Yields after each program.
    """


@runtime_checkable
class System(Protocol):
  """A bundle that makes audio; systems.musiclm.model.Model is one.

  What it is asked for is one or more of its `conditions`, given by these names
  to `generate` and `stream`, and settings of its own beside them.
  """

  @property
  def sample_rate_hz(self) -> int:
    """Of all audio, in and out."""

  @property
  def needs(self) -> tuple[str, ...]:
    """Names of the bundle's components that it does not do without."""

  @property
  def conditions(self) -> tuple[str, ...]:
    """What can be said of the audio: keywords of `generate`, for this bundle."""

  def generate(self, prompt: str | None = None, *, samples: int | None = None,
               progress: Progress = None, **wanted: Any) -> np.ndarray:
    """[N] float32, or [samples, N]; UserError for what cannot be made.

    The same arguments give the same audio on the same machine.
    """

  def stream(self, prompt: str | None = None, *, samples: int | None = None,
             progress: Progress = None, **wanted: Any) -> Iterator[np.ndarray]:
    """Yields the same while it is made; closing the iterator ends the work."""

  def prepare(self, samples: int = 1) -> Iterator[None]:
    """Compiles what so many samples take; yields after each program."""


def differences(found: Any, contract: type) -> list[str]:
  """What `found` lacks of a contract; nothing where it conforms.

  Args:
    found: an object, or a class. What a class sets in `__init__` only is
      seen if it is annotated in its body.
    contract: one of the protocols above.

  Returns:
    A line for each member that is missing or has other arguments.
  """
  lines = []
  for name, member in _members(contract):
    if not _has(found, name):
      lines.append(f'{name} is missing')
    elif inspect.isfunction(member):
      wanted = list(inspect.signature(member).parameters.values())[1:]
      given = _parameters(found, name)
      lines += [f'{name}: {line}' for line in (
          ['it is no method'] if given is None else _mismatch(given, wanted))]
  return lines


def _members(contract):
  """(name, function or property) of a protocol, of those that it extends too."""
  found = {}
  for cls in reversed(contract.__mro__):
    if cls not in (object, Protocol) and getattr(cls, '_is_protocol', False):
      found.update({name: value for name, value in vars(cls).items()
                    if not name.startswith('_')})
  return found.items()


def _has(found, name):
  cls = found if isinstance(found, type) else type(found)
  annotated = any(name in vars(base).get('__annotations__', {})
                  for base in cls.__mro__)
  if isinstance(found, type) and annotated:
    return True
  try:
    inspect.getattr_static(found, name)
  except AttributeError:
    return False
  return True


def _parameters(found, name):
  """Those of a method without `self`, or None where it is no method."""
  if not isinstance(found, type):
    bound = getattr(found, name)
    return list(inspect.signature(bound).parameters.values()) if (
        callable(bound)) else None
  member = inspect.getattr_static(found, name, None)
  if isinstance(member, (staticmethod, classmethod)) or not callable(member):
    return None
  return list(inspect.signature(member).parameters.values())[1:]


def _mismatch(given, wanted):
  """Why calls that `wanted` allows would fail with `given`, line by line."""
  lines, seen = [], set()
  packs = {p.kind for p in given}
  for place, parameter in enumerate(wanted):
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
      if parameter.kind not in packs:
        lines.append(f'it does not take {parameter}')
      continue
    same = next((p for p in given if p.name == parameter.name), None)
    seen.add(parameter.name)
    if same is None:
      lines.append(f'it has no argument {parameter.name}')
    elif parameter.kind != parameter.KEYWORD_ONLY and given.index(same) != place:
      lines.append(f'{parameter.name} is in another place')
    elif same.kind is same.KEYWORD_ONLY is not parameter.kind:
      lines.append(f'{parameter.name} is taken by name only')
    elif parameter.default is not parameter.empty and (
        same.default is same.empty):
      lines.append(f'{parameter.name} has no default')
  lines += [f'it wants an argument {p.name} more' for p in given
            if p.name not in seen and p.default is p.empty and
            p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
  return lines
