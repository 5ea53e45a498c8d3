"""The oracle ladder in words and figures; `ladder` climbs it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from musiclm_jax.evaluation import report
from musiclm_jax.metrics import intervals
from musiclm_jax.metrics import retrieval


def section(
    ladder: Any, tracks: Sequence[str] | None = None) -> report.Told:
  """(Section, figures): the rungs of a ladder.Ladder, and which loses most.

  Args:
    ladder: a ladder.Ladder.
    tracks: [n] the recordings that its clips were cut from, for intervals of
      the mel distances; None: every clip is its own.
  """
  tracks = tracks or [str(i) for i in range(len(ladder.real))]
  figures, lines = {}, []
  lost = ladder.lost_by_rung()
  for name, rung in ladder.rungs.items():
    values = dict(mel_distance_db=rung.mel_distance_db,
                  mulan_audio=rung.to_audio, mulan_text=rung.to_text)
    figures.update({f'ladder_{name}_{key}': value.mean()
                    for key, value in values.items() if value is not None})
    low, high = intervals.of_mean(rung.mel_distance_db, tracks)
    figures.update({f'ladder_{name}_mel_distance_db_low': low,
                    f'ladder_{name}_mel_distance_db_high': high})
    share = lost.get(name)
    if share is not None:
      figures[f'ladder_{name}_lost'] = share
    lines.append(_rung(
        name, rung.mel_distance_db.mean(), rung.to_audio, rung.to_text,
        'nothing was left to lose' if share is None else f'loses {share:.0%}'))
  if ladder.text_embeddings is not None:
    scores = ladder.audio_embeddings['real'] @ ladder.text_embeddings.T
    own, others = retrieval.own_and_shuffled(scores)
    figures.update(ladder_real_mulan_text=own.mean(),
                   ladder_shuffled_mulan_text=others.mean())
    lines.insert(0, _rung('real', 0.0, np.ones(1), own))
  for rung, title in (('real', 'other recordings'),
                      ('codec', 'other clips through the codec')):
    mel, similarity = ladder.chance(rung)
    figures[f'ladder_shuffled_{rung}_mel_distance_db'] = mel
    if similarity is not None:
      figures[f'ladder_shuffled_{rung}_mulan_audio'] = similarity
    lines.append(_rung(title, mel, similarity, None, 'chance'))
  lost = {name: share for name, share in lost.items() if share is not None}
  verdict = ''
  if lost:
    weakest = max(lost, key=lost.get)
    verdict = (f'the weakest rung is {weakest}: of what it was given it loses '
               f'{lost[weakest]:.0%}')
  return report.Section(
      'Oracle ladder: mel distance to the recording', tuple(lines),
      verdict), figures


def _rung(name, mel, to_audio, to_text, note=''):
  """One line of the ladder."""
  similar = []
  if to_audio is not None:
    similar.append(f'MuLan to recording {np.mean(to_audio):.2f}')
  if to_text is not None:
    similar.append(f'to caption {np.mean(to_text):.2f}')
  return report.Line(name, f'{mel:.1f} dB', ', '.join(similar), note)


def prompts(ladder: Any, rung: str) -> report.Told:
  """(Section, figures): is what is drawn nearer to its prompt than to others?

  Args:
    ladder: a ladder.Ladder.
    rung: of ladder.DRAWN.
  """
  drawn, text = ladder.audio_embeddings[rung], ladder.text_embeddings
  scores = drawn @ text.T
  own, others = retrieval.own_and_shuffled(scores)
  low, high = retrieval.bootstrap_interval(own - others)
  count = len(own)
  figures = dict(
      prompt_similarity_own=own.mean(), prompt_similarity_shuffled=others.mean(),
      prompt_difference=(own - others).mean(), prompt_difference_low=low,
      prompt_difference_high=high, prompt_r1=retrieval.recall(scores, 1),
      prompt_r1_chance=1 / count)
  r1, plain = figures['prompt_r1'], rung == 'unguided'
  figures = {named(name, plain): value for name, value in figures.items()}
  if low > 0:
    verdict = 'prompts are heard'
  elif high < 0:
    verdict = 'clips are nearer to other prompts than to their own'
  else:
    verdict = 'no difference between prompts can be heard'
  title = f'Prompts: {count} clips drawn from captions' + (
      ', without guidance' if plain else '')
  return report.Section(title, (
      report.Line('similarity to the own prompt', f'{own.mean():.3f}',
                  f'shuffled {others.mean():.3f}'),
      report.Line('difference', f'{(own - others).mean():.3f}',
                  f'95 % interval {low:.3f} to {high:.3f}'),
      report.Line('own prompt is nearest', f'{r1:.2f}',
                  f'chance {1 / count:.2f}'),
  ), verdict), figures


def named(name: str, plain: bool) -> str:
  """A figure's name, or what it is called of unguided clips."""
  return f'{name}_unguided' if plain else name
