"""Makes the corpus: plans the tracks, renders them in processes, writes them.

  tunes + clusters --plan_tracks--> jobs --make_track--> (audio, metadata)

Every track has its own random generator, seeded by (seed, tune, version), so
that the corpus is the same for any number of workers, and a corpus of more
hours begins with the tracks of a smaller one.
"""

import dataclasses
import multiprocessing
import os
import zlib

import numpy as np

from musiclm_jax import errors
from musiclm_jax import progress as progress_lib
from musiclm_jax import records
from musiclm_jax.data.folk_gm import arrange
from musiclm_jax.data.folk_gm import captions
from musiclm_jax.data.folk_gm import clusters
from musiclm_jax.data.folk_gm import instruments
from musiclm_jax.data.folk_gm import render
from musiclm_jax.data.folk_gm import score as score_lib
from musiclm_jax.data.folk_gm import tunes as tunes_lib

NAME = 'folk_gm'
LICENCE = (
    'Tunes: old printed collections, out of copyright (1778-1903), as ABC '
    'transcriptions from the corpus of the music21 package (BSD; the '
    'transcribers permit distribution). Sound: rendered with TimGM6mb.sf2 '
    '(GPL-2) from the pretty_midi package. Arrangements and captions: made by '
    'this program, Apache-2.0.')
_HUMMED_SECOND, _THIRD_VERSION = 0.2, 0.08
_MAX_HOURS = 2000.0


@dataclasses.dataclass(frozen=True)
class Job:
  """One track to make."""

  tune: tunes_lib.Tune
  cluster: str
  split: str
  version: int
  seed: int
  plan: arrange.Plan

  @property
  def id(self):
    return f'{self.tune.id}.v{self.version}'


def build(out_dir, hours, seed=0, workers=None, progress=True, shares=None):
  """Writes the corpus.

  Args:
    out_dir: where; must not exist.
    hours: hours of audio, about.
    seed: any int >= 0.
    workers: processes; None: one a core.
    progress: False: print nothing.
    shares: {split: share of the audio}, default clusters.SHARES. Which tunes
      a split may take does not depend on it.

  Returns:
    out_dir.

  Raises:
    UserError: absurd hours, seed or workers, out_dir exists, or a needed
      package is missing.
  """
  if not 0 < hours <= _MAX_HOURS:
    raise errors.UserError(
        f'hours is {hours}; expected a number above 0, at most {_MAX_HOURS:g}.')
  if seed < 0:
    raise errors.UserError(f'seed is {seed}; expected an integer >= 0.')
  if workers is None:
    workers = len(os.sched_getaffinity(0))
  if workers < 1:
    raise errors.UserError(f'workers is {workers}; expected at least 1.')
  render.new_synth()  # fails now where something is missing
  with records.Writer(
      out_dir, NAME, render.SAMPLE_RATE_HZ, licence=LICENCE, seed=seed,
      hours=hours, collections=tunes_lib.COLLECTIONS) as writer:
    jobs = plan_tracks(tunes_lib.load(), hours, seed, shares)
    for job, pcm, meta in _progress(_run(jobs, workers), jobs, progress):
      writer.add(job.split, job.id, pcm, **meta)
  return out_dir


def plan_tracks(tunes, hours, seed, shares=None):
  """Decides all tracks of a corpus, without making any sound.

  Tunes are taken in an order shuffled by `seed`, always for the split that is
  furthest behind its share. Each tune gets two versions, now and then three;
  when all have had theirs, a second round begins.

  Args:
    tunes: Tunes.
    hours: hours of audio to plan.
    seed: see `build`.
    shares: see `build`.

  Returns:
    A list of Jobs. Every split for which there are tunes has at least one.
  """
  shares = shares or clusters.SHARES
  cluster_of = dict(zip((t.id for t in tunes), clusters.assign(tunes)))
  order = np.random.default_rng([seed, 0]).permutation(len(tunes))
  queues = {split: [] for split in clusters.SHARES}
  for i in order:
    queues[clusters.split_of(cluster_of[tunes[i].id])].append(tunes[i])
  queues = {split: queues[split] for split in shares}
  queues = {split: queue for split, queue in queues.items() if queue}
  taken = {split: 0 for split in queues}
  seconds = {split: 0.0 for split in queues}
  jobs, state = [], {}
  while sum(seconds.values()) < hours * 3600 or not all(taken.values()):
    split = min(queues, key=lambda s: seconds[s] / shares[s])
    tune = queues[split][taken[split] % len(queues[split])]
    taken[split] += 1
    for job in _versions(tune, cluster_of[tune.id], split, seed, state):
      jobs.append(job)
      seconds[split] += job.plan.seconds
  return jobs


def _versions(tune, cluster, split, seed, state):
  """The next two or three Jobs of a tune; `state` remembers former ones."""
  first, leads = state.get(tune.id, (1, []))
  rng = _rng(seed, tune, 0, first)
  kinds = ['arrangement',
           'hummed' if rng.random() < _HUMMED_SECOND else 'arrangement']
  if rng.random() < _THIRD_VERSION:
    kinds.append('hummed')
  jobs = []
  for version, kind in enumerate(kinds, first):
    plan = arrange.plan(tune, _rng(seed, tune, version, 1), kind, tuple(leads))
    leads = leads + [plan.lead]
    jobs.append(Job(tune, cluster, split, version, seed, plan))
  state[tune.id] = (first + len(kinds), leads)
  return jobs


def _rng(seed, tune, version, purpose):
  return np.random.default_rng(
      [seed, zlib.crc32(tune.id.encode()), version, purpose])


def make_track(job):
  """Makes one track.

  Args:
    job: a Job.

  Returns:
    ([N] int16 PCM, metadata dict).
  """
  score = score_lib.write(job.tune, job.plan, _rng(
      job.seed, job.tune, job.version, 2))
  audio, _ = render.render(score, job.plan, _rng(
      job.seed, job.tune, job.version, 3))
  meta = describe(job, score)
  meta['captions'], meta['aspects'], meta['caption_templates'] = captions.write(
      meta, job.split, _rng(job.seed, job.tune, job.version, 4))
  return np.round(audio * 32767).astype(np.int16), meta


def describe(job, score):
  """The metadata of a track, captions excepted."""
  plan, tune = job.plan, job.tune
  lead = instruments.find(plan.lead)
  notes = score.tune_notes
  playing = notes[-1, 0] + notes[-1, 1] - notes[0, 0]
  meta = dict(
      tune=tune.id, title=tune.title, cluster=job.cluster,
      collection=tune.collection, origin=tune.origin, rhythm=plan.rhythm,
      metre=tune.metre, key=plan.key_name, mode=plan.mode,
      tempo_bpm=plan.tempo_bpm, arrangement=plan.kind, program=lead.program,
      instrument=lead.all_names[0], family=lead.family, lead=lead.key,
      second=plan.second, chords=plan.chords, chord_style=plan.chord_style,
      bass=plan.bass, drums=plan.drums, texture=plan.texture,
      drone=plan.chord_style == 'drone',
      backing=bool(plan.second or plan.chords or plan.bass or plan.drums),
      dynamics=plan.dynamics, ornament=plan.ornament, room=plan.room,
      notes_per_second=round(len(notes) / playing, 2),
      mean_pitch=round(float(np.average(notes[:, 2], weights=notes[:, 1])), 1),
      licence='see manifest.json')
  fact = captions.facts(meta)
  meta.update(pace=fact['pace'], mood=fact['mood'], register=fact['register'])
  meta['melody'] = [[round(s, 2), round(n, 2), int(p)] for s, n, p in
                    notes.tolist()]
  return meta


def _make(job):
  return (job, *make_track(job))


def _run(jobs, workers):
  """Yields (job, pcm, meta) in the order of `jobs`."""
  if workers == 1 or len(jobs) < 2:
    yield from map(_make, jobs)
    return
  # spawn: a forked child of a process that runs jax may hang.
  with multiprocessing.get_context('spawn').Pool(workers) as pool:
    yield from pool.imap(_make, jobs)


def _progress(results, jobs, show):
  if not show:
    yield from results
    return
  total, done = sum(job.plan.seconds for job in jobs), 0.0
  with progress_lib.Progress() as progress:
    for job, pcm, meta in results:
      yield job, pcm, meta
      done += job.plan.seconds
      progress.show(NAME, done / 60, total / 60, ' min of music')
