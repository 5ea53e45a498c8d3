"""Files as they come from the world: no crash, and none is lost in silence."""

import collections
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from musiclm_jax import records
from musiclm_jax import workers
from musiclm_jax.data import audio_folder
from tests.helpers import mutated
from tests.helpers import sources


def _ingest(folder, out, **kwargs):
  """{file: 'used' or the reason}, from what the corpus says."""
  summary = audio_folder.build(
      folder, out, progress=False, min_seconds=0.1,
      runner=workers.Options(workers=2), **kwargs)
  corpus = records.Corpus(out)
  fate = {}
  for name in corpus.splits:
    split = corpus.split(name)
    for track in split:
      audio = split.read(track)
      assert np.all(np.isfinite(audio)) and np.max(np.abs(audio)) <= 1
      fate[track.meta['source']] = 'used'
  for line in (out / 'rejects.jsonl').read_text().splitlines():
    reject = json.loads(line)
    assert reject['file'] not in fate and reject['detail']
    fate[reject['file']] = reject['reason']
  assert summary['files'] == len(fate)
  assert summary['used'] == list(fate.values()).count('used')
  assert sum(summary['rejected'].values()) + summary['used'] == len(fate)
  return fate


def _fire(folder, out, count):
  made = mutated.write(folder, count)
  fate = _ingest(folder, out)
  assert set(fate) == set(made)
  lost = {name: fate[name] for name, good in made.items()
          if good and fate[name] != 'used'}
  assert not lost
  of = lambda kind: {fate[n] for n in fate if n.split('-')[1].startswith(kind)}
  for kind, reasons in dict(
      empty={'unreadable'}, not_numbers={'nan'}, six_channels={'channels'},
      silent={'silent'}, clipped={'clipped'}, short={'too short'},
      text={'unreadable'}, header_alone={'empty', 'unreadable'}).items():
    assert of(kind) <= reasons, kind
  return collections.Counter(fate.values())


def test_some_dozens(tmp_path):
  counts = _fire(tmp_path / 'music', tmp_path / 'c', 44)
  assert counts['used'] >= 14 and len(counts) >= 7


@pytest.mark.slow
def test_five_hundred(tmp_path):
  counts = _fire(tmp_path / 'music', tmp_path / 'c', 500)
  assert counts['used'] >= 200


@pytest.mark.slow
def test_three_hours(tmp_path):
  """What is hours long is cut, and needs no more memory than what is not."""
  (tmp_path / 'music').mkdir()
  with soundfile.SoundFile(tmp_path / 'music/long.flac', 'w', 8_000, 1) as file:
    file.write(sources.tune(0, 20, 8_000))
    for _ in range(180):
      file.write(np.zeros(60 * 8_000, np.int16))
  code = ('import resource, sys\nfrom musiclm_jax.data import audio_folder\n'
          'audio_folder.build(sys.argv[1], sys.argv[2], workers=1, progress=False)\n'
          'print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)')
  done = subprocess.run(
      [sys.executable, '-c', code, tmp_path / 'music', tmp_path / 'c'],
      check=True, capture_output=True, text=True)
  (split,) = map(records.Corpus(tmp_path / 'c').split,
                 records.Corpus(tmp_path / 'c').splits)
  assert len(split) == 37 and split.seconds == pytest.approx(10_820, abs=1)
  assert int(done.stdout) < 900_000  # kB; as floats alone it would be 1,040,000


@pytest.mark.slow
def test_a_disk_that_is_full(tmp_path):
  """A small file system, if one may be mounted here."""
  folder, disk = sources.folder(tmp_path / 'music', 12, 20.0), tmp_path / 'disk'
  disk.mkdir()
  if os.geteuid() or subprocess.run(
      ['mount', '-t', 'tmpfs', '-o', 'size=10m', 'none', disk],
      check=False, capture_output=True).returncode:
    pytest.skip('no file system can be mounted')
  command = [sys.executable, '-m', 'musiclm_jax', 'ingest', str(folder), '--out',
             str(disk / 'c')]
  try:
    full = subprocess.run(command, check=False, capture_output=True, text=True)
    assert full.returncode == 2 and 'No space left on device' in full.stderr
    assert full.stderr.strip().count('\n') == 0
    assert not (disk / 'c').exists()
    subprocess.run(['mount', '-o', 'remount,size=100m', disk], check=True)
    subprocess.run(command, check=True)
    audio_folder.build(folder, tmp_path / 'c', progress=False)
    assert sources.contents(disk / 'c') == sources.contents(tmp_path / 'c')
  finally:
    subprocess.run(['umount', disk], check=True)
