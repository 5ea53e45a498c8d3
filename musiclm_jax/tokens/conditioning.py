"""How a stage meets its conditions in training.

By the papers a stage always sees all of them, and MuLan's tokens are always
those of the audio. Asked with text it meets another cloud of embeddings, and
asked without a melody a sequence it has never seen. So (ours, off at paper size)

- a share of the sequences goes without a condition: its segment is padding
  throughout. A stage so trained can be asked without it, and can be guided
  (decoding/guidance.py);
- a share takes MuLan's tokens (those of any stream of the kind 'crop') from one
  of the track's own captions;
- an embedding of audio can be moved by noise before it is quantised, by as much
  as a caption's lies apart from it.
"""

from collections.abc import Mapping
import dataclasses

from musiclm_jax import errors
from musiclm_jax import specs


@dataclasses.dataclass(frozen=True)
class Conditioning:
  """What training does to the conditions; the defaults do nothing.

  Attributes:
    dropout: {segment: share of the sequences that go without it}, each drawn by
      itself; gin gives a dict, stored are sorted pairs.
    text_share: of the sequences, those whose MuLan tokens are of a caption.
      Needs captions in the corpus; a track without any keeps its audio's.
    noise: length of the random vector that is added to an embedding of audio,
      which has length 1, before both are brought to length 1 again.
  """

  dropout: tuple = ()  # paper
  text_share: float = 0.0  # paper
  noise: float = 0.0  # paper

  def __post_init__(self):
    given = self.dropout
    if isinstance(given, Mapping):
      given = sorted(given.items())
    try:
      pairs = tuple((str(name), float(share)) for name, share in given)
    except (TypeError, ValueError) as error:
      raise errors.UserError(
          f'CONDITION_DROPOUT is {self.dropout!r}; expected shares by name, '
          f"such as {{'mulan': 0.15}}.") from error
    object.__setattr__(self, 'dropout', pairs)
    for name, share in pairs + (('TEXT_SHARE', self.text_share),):
      if not 0.0 <= share <= 1.0:
        raise errors.UserError(
            f'the share of {name} is {share:g}; expected 0 to 1.')
    if not self.noise >= 0.0:
      raise errors.UserError(
          f'CONDITION_NOISE is {self.noise:g}; expected 0 or more.')

  def share(self, name: str) -> float:
    """Of the sequences, how many go without the segment `name`."""
    return dict(self.dropout).get(name, 0.0)

  def check(self, stage: specs.StageSpec, has_text: bool) -> None:
    """UserError where a stage or a cache has no use for it.

    Args:
      stage: a StageSpec.
      has_text: whether the token cache has the captions' embeddings.
    """
    for name, share in self.dropout:
      if share and name not in stage.conditions:
        raise errors.UserError(
            f'CONDITION_DROPOUT names {name!r}, but the {stage.name} stage is '
            f'conditioned on {", ".join(stage.conditions)}.')
    embedded = [s.name for s in stage.known_streams if s.kind == specs.CROP]
    if not set(embedded) & set(stage.conditions):
      if self.text_share or self.noise:
        raise errors.UserError(
            f'TEXT_SHARE and CONDITION_NOISE are about {", ".join(embedded)}, '
            f'on which the {stage.name} stage is not conditioned; leave them '
            f'at 0.')
    elif self.text_share and not has_text:
      raise errors.UserError(
          'TEXT_SHARE takes the embeddings of captions, which an older token '
          'cache does not hold; run `musiclm precompute` again with --replace.')


def optional(metadata: Mapping) -> tuple[str, ...]:
  """Conditions that a stage was at times trained without, by its metadata."""
  found = metadata.get('conditioning', {})
  dropout = found.get('dropout', {}) if isinstance(found, dict) else None
  if not isinstance(dropout, dict):
    raise errors.UserError(
        f"a stage's config.json is damaged: its conditioning is {found!r}, "
        f"expected such as {{'dropout': {{'mulan': 0.15}}}}; export it again.")
  return tuple(sorted(name for name, share in dropout.items() if share))
