"""Clusters of melodies and the splits."""

import dataclasses

import numpy as np

from musiclm_jax.data.folk_gm import clusters
from musiclm_jax.data.folk_gm import corpus as corpus_lib


def _variant(tune, name, shift, changes, rng):
  """The tune in another key, with a share of its notes changed."""
  notes = tune.notes.copy()
  notes[:, 2] += shift
  hit = rng.random(len(notes)) < changes
  notes[hit, 2] += rng.choice([-2, -1, 1, 2], hit.sum())
  return dataclasses.replace(tune, id=name, notes=notes, title='Another')


def test_a_transposed_near_duplicate_is_caught(tunes):
  rng = np.random.default_rng(0)
  some = [t for t in tunes if t.rhythm in ('reel', 'jig')][:300:10]
  copies = [_variant(t, f'copy-{t.id}', 5 - 2 * i % 11, 0.06, rng)
            for i, t in enumerate(some)]
  names = clusters.assign(list(tunes[:1500]) + some + copies)
  originals, duplicates = names[1500:1500 + len(some)], names[-len(some):]
  same = np.mean([a == b for a, b in zip(originals, duplicates)])
  assert same >= 0.95


def test_twice_as_long_note_values_are_the_same_melody(tunes):
  tune = next(t for t in tunes if t.metre == 'duple' and t.num_bars >= 16)
  half = tune.num_bars // 2
  notes = tune.notes[tune.notes[:, 0] < half].copy()
  notes[:, :2] *= 2
  slow = dataclasses.replace(tune, id='slow', notes=notes)
  assert len(set(clusters.assign([tune, slow] + list(tunes[50:80])))) == (
      len(set(clusters.assign([tune] + list(tunes[50:80])))))


def test_different_melodies_stay_apart(tunes):
  names = clusters.assign(tunes)
  sizes = np.unique(names, return_counts=True)[1]
  assert sizes.max() <= 20  # no chain swallows the collections
  assert 2600 < len(sizes) < 3500  # but hundreds are variants of each other


def test_known_variants_share_a_cluster(tunes):
  title = {}
  for tune, name in zip(tunes, clusters.assign(tunes)):
    title.setdefault(tune.title.lower(), set()).add(name)
  # One melody, three times in Aird and four times elsewhere.
  assert title['the bonnie boy'] == title['the bonny lad']


def test_no_cluster_in_two_splits_and_shares_as_said(tunes):
  jobs = corpus_lib.plan_tracks(tunes, 20.0, seed=0)
  seen, seconds = {}, dict.fromkeys(clusters.SHARES, 0.0)
  for job in jobs:
    assert seen.setdefault(job.cluster, job.split) == job.split
    assert job.split == clusters.split_of(job.cluster)
    seconds[job.split] += job.plan.seconds
  total = sum(seconds.values())
  assert total / 3600 >= 20.0 and total / 3600 < 20.1
  for split, share in clusters.SHARES.items():
    assert abs(seconds[split] / total - share) < 0.01
  # The same melody lands in the same split, whatever the seed.
  for job in corpus_lib.plan_tracks(tunes, 1.0, seed=9):
    assert job.split == clusters.split_of(job.cluster)
