"""The corpus end to end: deterministic, truly described, words held out."""

import importlib.util
import json
import re

import numpy as np
import pytest

from musiclm_jax import errors
from musiclm_jax import records
from musiclm_jax.data import folk_gm
from musiclm_jax.data.folk_gm import captions
from musiclm_jax.data.folk_gm import clusters
from musiclm_jax.data.folk_gm import corpus as corpus_lib
from musiclm_jax.data.folk_gm import instruments
from musiclm_jax.data.folk_gm import phrases
from musiclm_jax.data.folk_gm import score as score_lib
from musiclm_jax.data.folk_gm import soundfont

pytest.importorskip('tinysoundfont')
pytest.importorskip('pretty_midi')


def _contents(folder):
  return {p.relative_to(folder).as_posix(): p.read_bytes()
          for p in sorted(folder.rglob('*')) if p.is_file()}


@pytest.fixture(scope='module')
def small(tunes, tmp_path_factory):
  out = tmp_path_factory.mktemp('folk') / 'corpus'
  folk_gm.build(out, hours=0.02, seed=5, workers=1, progress=False)
  return out


def test_same_bytes_for_any_number_of_workers(small, tmp_path):
  folk_gm.build(tmp_path / 'two', hours=0.02, seed=5, workers=2,
                progress=False)
  assert _contents(tmp_path / 'two') == _contents(small)


def test_manifest_and_tracks(small):
  corpus = records.Corpus(small)
  assert corpus.name == 'folk_gm' and corpus.sample_rate_hz == 24000
  assert corpus.splits == ['test', 'train', 'validation']
  assert corpus.manifest['seed'] == 5 and corpus.manifest['hours'] == 0.02
  assert 'music21' in corpus.manifest['licence']
  for name in corpus.splits:
    split = corpus.split(name)
    for track in split:
      audio = split.read(track)
      assert 31 <= len(audio) / 24000 <= 92
      assert 0.02 < np.max(np.abs(audio)) <= 0.951
      assert len(track.captions) == 4 == len(set(track.captions))
      assert len(track.meta['aspects']) >= 5
      assert len(track.meta['melody']) > 30
      last = track.meta['melody'][-1]
      assert last[0] + last[1] < len(audio) / 24000
      json.dumps(track.meta)


def test_a_tune_has_several_versions(tunes):
  jobs = corpus_lib.plan_tracks(tunes, 5.0, seed=0)
  by_tune = {}
  for job in jobs:
    by_tune.setdefault(job.tune.id, []).append(job)
  assert all(len(v) >= 2 for v in by_tune.values())
  leads = [{j.plan.lead for j in v} for v in by_tune.values()]
  assert np.mean([len(l) == len(v) for l, v in zip(
      leads, by_tune.values())]) > 0.95
  kinds = [j.plan.kind for j in jobs]
  assert 0.08 < kinds.count('hummed') / len(kinds) < 0.25
  assert len({j.plan.lead for j in jobs}) > 35


@pytest.mark.slow
def test_another_seed_is_another_corpus(tunes):
  first = [j.id for j in corpus_lib.plan_tracks(tunes, 0.3, seed=0)]
  assert first == [j.id for j in corpus_lib.plan_tracks(tunes, 0.3, seed=0)]
  assert first != [j.id for j in corpus_lib.plan_tracks(tunes, 0.3, seed=1)]


def test_a_larger_corpus_begins_with_the_smaller_one(tunes):
  few = corpus_lib.plan_tracks(tunes, 0.5, seed=2)
  many = corpus_lib.plan_tracks(tunes, 2.0, seed=2)
  assert [(j.id, j.plan) for j in few] == [
      (j.id, j.plan) for j in many[:len(few)]]


def test_more_hours_than_two_versions_of_each_tune(tunes):
  jobs = corpus_lib.plan_tracks(tunes[:40], 3.0, seed=0)
  assert len({j.id for j in jobs}) == len(jobs)
  assert max(j.version for j in jobs) > 3


@pytest.mark.parametrize('kwargs, said', [
    (dict(hours=0), 'hours is 0'), (dict(hours=-1), 'hours'),
    (dict(hours=float('nan')), 'hours'), (dict(hours=1e9), 'hours'),
    (dict(hours=1, seed=-1), 'seed'), (dict(hours=1, workers=0), 'workers')])
def test_absurd_wishes(tmp_path, kwargs, said):
  with pytest.raises(errors.UserError, match=said):
    folk_gm.build(tmp_path / 'out', progress=False, **kwargs)
  assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named(tmp_path, monkeypatch):
  soundfont.load.cache_clear()
  real = importlib.util.find_spec
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name, *a: (
      None if name == 'pretty_midi' else real(name, *a)))
  with pytest.raises(errors.UserError, match='pip install pretty_midi'):
    folk_gm.build(tmp_path / 'out', hours=1, progress=False)
  assert not list(tmp_path.iterdir())


# Captions.


@pytest.fixture(scope='module')
def described(tunes):
  """[(meta, split, captions, aspects, templates)] without any sound."""
  out = []
  for i, job in enumerate(corpus_lib.plan_tracks(tunes[::5], 4.0, seed=3)):
    score = score_lib.write(job.tune, job.plan, np.random.default_rng(0))
    meta = corpus_lib.describe(job, score)
    for split in ('train', 'test'):
      out.append((meta, split, *captions.write(
          meta, split, np.random.default_rng(i))))
  return out


def _names(key, *tables):
  for table in tables:
    if key in table:
      return table[key].all_names
  raise KeyError(key)


def _mentions(text, names):
  return any(re.search(rf'\b{re.escape(n)}\b', text, re.I) for n in names)


def test_captions_name_the_instrument_that_plays(described):
  hummed = ('humm', 'hums', 'voice')
  for meta, _, texts, aspects, _ in described:
    row = instruments.find(meta['lead'])
    assert meta['program'] == row.program and meta['family'] == row.family
    names = row.all_names
    if meta['arrangement'] == 'hummed':
      assert all(any(h in t.lower() for h in hummed) for t in texts)
    else:
      assert all(_mentions(t, names) for t in texts), texts
    assert any(a in names for a in aspects)


def test_captions_name_no_drums_where_there_are_none(described):
  drums = re.compile(r'drum|percussion|tambourine|shaker|maracas|spoons|claps|'
                     'snare|brushes|wood blocks', re.I)
  # What says that there are none.
  none = captions.words(phrases.NO_DRUMS) + [
      t.lstrip('*') for t in phrases.TEMPLATES['no_drums']]
  none = re.compile('|'.join(sorted(map(re.escape, none), key=len)[::-1]))
  with_drums = saying = without = 0
  for meta, _, texts, aspects, _ in described:
    said = [bool(none.search(t)) for t in texts]
    found = [bool(drums.search(none.sub('', t))) for t in texts + aspects]
    if not meta['drums']:
      assert not any(found), (meta['drums'], texts)
      without += meta['arrangement'] != 'hummed'
      saying += any(said)
      assert not (any(said) and meta['arrangement'] == 'hummed')
    else:
      with_drums += 1
      assert any(found[:4]) and any(found[4:]) and not any(said)
  assert with_drums > 50
  assert 0.3 < saying / without < 0.9


def test_captions_name_the_dance_and_the_key(described):
  for meta, _, texts, aspects, _ in described:
    words = captions.words(phrases.RHYTHMS[meta['rhythm']])
    assert any(_mentions(a, words) for a in aspects)
    others = {r for r in ('reel', 'jig', 'hornpipe', 'waltz', 'march',
                          'polka') if r not in meta['rhythm']}
    for text in texts:
      assert not any(re.search(rf'\b{r}\b', text) for r in others), text
      for key in re.findall(r'in ([A-G](?: sharp| flat)? '
                            r'(?:major|minor|dorian|mixolydian))', text):
        assert key == meta['key']


def test_tempo_words_follow_the_notes(described):
  for meta, _, texts, _, _ in described:
    for text in texts:
      if re.search(r'\b(fast|quick|upbeat|brisk) (tempo|pace)', text):
        assert meta['notes_per_second'] > 5
      if re.search(r'\b(slow|unhurried|leisurely) (tempo|pace)', text):
        assert meta['notes_per_second'] < 3.4


def test_captions_read_well(described):
  for _, _, texts, aspects, _ in described:
    short, *long = texts
    for text in texts + aspects:
      assert '{' not in text and '*' not in text and '|' not in text
      assert not re.search(r'\b[Aa] [aeiou]', text), text
      assert not re.search(r'\b(\w+) \1\b', text), text
      assert '  ' not in text and text == text.strip()
    for text in long:
      assert 1 <= len(re.findall(r'\.(?= |$)', text)) <= 4
      assert text.endswith('.') and text[0].isupper()
    assert len(short.split()) >= 3


def _held_out_synonyms():
  tables = [phrases.RHYTHMS, phrases.ORIGINS, phrases.MOODS, phrases.TEMPI,
            phrases.COLOURS, phrases.SCENES, phrases.REGISTERS,
            phrases.DYNAMICS, phrases.ORNAMENTS, phrases.ROOMS,
            phrases.CHORD_STYLES, instruments.DRUMS]
  entries = [e for table in tables for e in table.values() if e]
  for table in (instruments.LEADS, instruments.HUMMERS, instruments.CHORDS,
                instruments.BASSES):
    entries += [row.names for row in table.values()]
  entries += [phrases.DRONE, phrases.INSTRUMENTAL, phrases.SOLO]
  return entries


def test_a_fifth_of_the_words_is_for_the_test_alone():
  entries = _held_out_synonyms()
  held = sum(len(captions.held_out(e)) for e in entries)
  assert 0.17 < held / sum(len(captions.words(e)) for e in entries) < 0.25
  templates = [t for group in phrases.TEMPLATES.values() for t in group]
  share = sum(t.startswith('*') for t in templates) / len(templates)
  assert 0.17 < share < 0.25
  assert all(any(t.startswith('*') for t in group)
             for group in phrases.TEMPLATES.values())


def test_test_words_and_templates_never_appear_in_training(described):
  held = {h for e in _held_out_synonyms() for h in captions.held_out(e)}
  pattern = re.compile(
      r'\b(' + '|'.join(map(re.escape, sorted(held))) + r')\b', re.I)
  marked = {f'{name}/{i}' for name, group in phrases.TEMPLATES.items()
            for i, t in enumerate(group) if t.startswith('*')}
  in_test = dict(words=set(), templates=set())
  for _, split, texts, aspects, templates in described:
    words = {w.lower() for t in texts + aspects for w in pattern.findall(t)}
    used = {t for line in templates for t in line.split()} & marked
    if split == 'train':
      assert not words and not used
    else:
      in_test['words'] |= words
      in_test['templates'] |= used
  assert in_test['templates'] == marked
  assert len(in_test['words']) > 0.8 * len(held)


def test_the_readme_prompt_is_what_captions_look_like(described):
  meta = next(meta for meta, _, _, _, _ in described if meta['drums'] == 'hand'
              and meta['rhythm'] == 'jig' and not meta['chords'])
  shorts = [captions.write(meta, 'train', np.random.default_rng(i), 1)[0][0]
            for i in range(100)]
  assert sum(bool(re.match(r'a \w+ .*jig on .* with .*hand drums?$', s))
             for s in shorts) >= 2, shorts


def test_shares_choose_how_much_but_not_which(tunes):
  shares = dict(train=0.5, test=0.5)
  jobs = corpus_lib.plan_tracks(tunes, 2.0, seed=0, shares=shares)
  seconds = {s: sum(j.plan.seconds for j in jobs if j.split == s)
             for s in ('train', 'test', 'validation')}
  assert seconds['validation'] == 0
  assert abs(seconds['train'] - seconds['test']) < 300
  for job in jobs:
    assert clusters.split_of(job.cluster) == job.split
