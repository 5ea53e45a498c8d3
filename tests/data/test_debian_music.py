"""debian_music: the split by package, excerpts, licences, what goes wrong."""

import os
import shutil
import stat
import subprocess
import zipfile

import numpy as np
import pytest
import soundfile

from musiclm_jax import errors
from musiclm_jax import records
from musiclm_jax.commands import cli
from musiclm_jax.commands import data as make_data
from musiclm_jax.data import debian_music
from musiclm_jax.data.debian_music import corpus as corpus_lib
from musiclm_jax.data.debian_music import fetch
from musiclm_jax.data.debian_music import licences
from musiclm_jax.data.debian_music import packages as packages_lib

_NOTICE = '''Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: someone
License: GPL-2+

Files: data/music/song1.ogg data/music/other.ogg
Copyright: someone else
License: CC-BY-3.0
 the licence's text
 .
 and more of it
'''

needs_dpkg = pytest.mark.skipif(
    not shutil.which('dpkg-deb'), reason='dpkg-deb is not here')


def _tone(seconds, hertz, rate=44100, level=0.5):
  time = np.arange(int(seconds * rate)) / rate
  return (level * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def _deb(folder, name, files, notice=_NOTICE, version='1.0-1'):
  """Builds a .deb with files {installed path: bytes}."""
  root = folder / f'{name}.root'
  (root / 'DEBIAN').mkdir(parents=True)
  (root / 'DEBIAN/control').write_text(
      f'Package: {name}\nVersion: {version}\nArchitecture: all\n'
      f'Maintainer: nobody <nobody@localhost>\nDescription: test\n')
  files = {**files, f'usr/share/doc/{name}/copyright': notice.encode()}
  for path, content in files.items():
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(content)
  deb = folder / f'{name}_{version}_all.deb'
  subprocess.run(['dpkg-deb', '--build', '--root-owner-group', '-Znone',
                  str(root), str(deb)], check=True, capture_output=True)
  shutil.rmtree(root)
  return deb


def _ogg(folder, audio, rate=44100, **tags):
  path = folder / 'made.ogg'
  with soundfile.SoundFile(
      path, 'w', rate, 1 if audio.ndim == 1 else audio.shape[1],
      format='OGG', subtype='VORBIS') as file:
    for key, value in tags.items():
      setattr(file, key, value)
    for start in range(0, len(audio), 4096):  # long writes crash libvorbis
      file.write(audio[start:start + 4096])
  return path.read_bytes()


@pytest.fixture(name='debs', scope='module')
def _debs(tmp_path_factory):
  """Three packages: two train, one tests; one recording is in two of them."""
  folder = tmp_path_factory.mktemp('debs')
  music = 'usr/share/games/supertux2/music/'
  stereo = np.stack([_tone(8, 1000), _tone(8, 3000)], axis=1)
  shared = _ogg(folder, _tone(6, 700), title='shared')
  _deb(folder, 'supertux-data', {
      music + 'song1.ogg': _ogg(folder, stereo, title='One', artist='A'),
      music + 'deep/song2.ogg': _ogg(folder, _tone(7, 500)),
      music + 'song3.ogg': shared,
      music + 'jingle.ogg': _ogg(folder, _tone(1, 500)),
      music + 'silence.ogg': _ogg(folder, np.zeros(8 * 44100, np.float32)),
      music + 'broken.ogg': b'OggS and then nothing of use',
      'usr/share/games/supertux2/sounds/bang.ogg': _ogg(folder, _tone(9, 90))})
  archive = folder / 'music.pk3'
  with zipfile.ZipFile(archive, 'w') as opened:
    opened.writestr('sound/cdtracks/a.ogg', _ogg(folder, _tone(6, 400)))
    opened.writestr('sound/misc/b.ogg', _ogg(folder, _tone(6, 450)))
  _deb(folder, 'nexuiz-music', {
      'usr/share/games/nexuiz/data/music.pk3': archive.read_bytes()}, 'plain')
  _deb(folder, 'singularity-music', {
      'usr/share/games/singularity/music/A B.ogg': _ogg(folder, _tone(6, 800)),
      'usr/share/games/singularity/music/win/C.ogg': shared}, 'plain')
  return folder


_NAMES = ['supertux-data', 'nexuiz-music', 'singularity-music']


@pytest.fixture(name='made', scope='module')
def _made(debs, tmp_path_factory):
  """(corpus, summary, lines said)."""
  if not shutil.which('dpkg-deb'):
    pytest.skip('dpkg-deb is not here')
  out, lines = tmp_path_factory.mktemp('made') / 'corpus', []
  summary = debian_music.build(out, packages=_NAMES, debs=debs,
                               say=lines.append)
  assert [p.name for p in out.parent.iterdir()] == ['corpus']
  return records.Corpus(out), summary, lines


def _tracks(corpus):
  return {t.id: (s, t) for s in corpus.splits for t in corpus.split(s)}


def test_the_real_table_is_what_was_agreed():
  split = {name: p.split for name, p in packages_lib.PACKAGES.items()}
  assert {n for n, s in split.items() if s == 'test'} == {
      '0ad-data', 'singularity-music', 'marsshooter-data', 'hyperrogue-music',
      'wesnoth-1.16-music'}
  assert {n for n, s in split.items() if s == 'train'} == {
      'warzone2100-music', 'planetblupi-music-ogg', 'supertux-data',
      'widelands-data', 'hedgewars-data', 'nexuiz-music', 'supertuxkart-data',
      'colobot-common-sounds', 'naev-data'}


@pytest.mark.parametrize('name', list(packages_lib.PACKAGES))
def test_a_test_package_never_trains(name):
  package = packages_lib.PACKAGES[name]
  splits = {corpus_lib.split_of(package, f'music/{i}.ogg') for i in range(500)}
  assert splits == ({'test'} if package.split == 'test'
                    else {'train', 'validation'})


def test_split_by_package(made):
  corpus, summary, _ = made
  for split in corpus.splits:
    kinds = {packages_lib.PACKAGES[t.meta['package']].split
             for t in corpus.split(split)}
    assert kinds == ({'test'} if split == 'test' else {'train'})
  assert summary['singularity-music']['recordings'] == 2


def test_what_a_test_package_holds_is_kept_out_of_training(made):
  corpus, summary, _ = made
  left = summary['supertux-data']['left_out']
  shared = 'usr/share/games/supertux2/music/song3.ogg'
  assert left[shared] == ('the same file as singularity-music/usr/share/games/'
                          'singularity/music/win/C.ogg')
  assert f'supertux-data/{shared}' not in _tracks(corpus)


def test_only_music_that_can_be_used(made):
  corpus, summary, _ = made
  names = {id.rsplit('/', 1)[1] for id in _tracks(corpus)}
  assert names == {'song1.ogg', 'song2.ogg', 'a.ogg', 'A B.ogg', 'C.ogg'}
  left = {k.rsplit('/', 1)[1]: v
          for k, v in summary['supertux-data']['left_out'].items()}
  assert left['jingle.ogg'] == '1.0 s'
  assert left['broken.ogg'].startswith('unreadable')
  assert summary['nexuiz-music']['recordings'] == 1


def test_24k_mono_with_tags_and_licence(made):
  corpus, _, _ = made
  name = 'supertux-data/usr/share/games/supertux2/music/song1.ogg'
  split, track = _tracks(corpus)[name]
  audio = corpus.split(split).read(track)
  assert len(audio) == pytest.approx(8 * 24_000, abs=2)
  spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio))))
  loud = np.flatnonzero(spectrum > 0.5 * spectrum.max()) * 24_000 / len(audio)
  assert sorted(set(np.round(loud, -1))) == [1000, 3000]
  # The largest value of sin(x) + sin(3x) is 1.54; a quarter of it.
  assert np.abs(audio).max() == pytest.approx(0.385, abs=0.03)
  assert track.meta['title'] == 'One' and track.meta['artist'] == 'A'
  assert track.meta['package'] == 'supertux-data'
  assert track.meta['licence'] == 'CC-BY-3.0'
  licence = {id: t.meta['licence'] for id, (_, t) in _tracks(corpus).items()}
  assert licence[name.replace('song1', 'deep/song2')] == 'GPL-2+'
  # Notices for people only: the table's word counts.
  assert licence['nexuiz-music/sound/cdtracks/a.ogg'] == 'GPL-2+'
  assert (corpus.directory / 'copyright/supertux-data').read_text() == _NOTICE
  assert corpus.manifest['packages']['supertux-data']['version'] == '1.0-1'


@needs_dpkg
def test_long_recordings_become_pieces(debs, tmp_path, monkeypatch):
  monkeypatch.setattr(corpus_lib, '_PIECE_SECONDS', 3.0)
  debian_music.build(tmp_path / 'c', packages=['singularity-music'], debs=debs,
                     say=lambda line: None)
  split = records.Corpus(tmp_path / 'c').split('test')
  mine = [t for t in split if 'A B' in t.id]
  assert [t.id[-4:] for t in mine] == ['#000', '#001']
  assert [t.meta['start_seconds'] for t in mine] == [0.0, 3.0]
  whole = np.concatenate([split.read(t) for t in mine])
  time = np.arange(len(whole)) / 24_000
  expected = 0.5 * np.sin(2 * np.pi * 800 * time)
  inside = slice(2400, -2400)
  assert np.abs(whole - expected)[inside].max() < 0.05  # Vorbis, no seam


@needs_dpkg
def test_quota_takes_the_middle(debs, tmp_path):
  debian_music.build(
      tmp_path / 'c', packages=['singularity-music'], debs=debs,
      test_minutes=0.1, say=lambda line: None)
  (track,) = records.Corpus(tmp_path / 'c').split('test')
  assert track.num_samples == pytest.approx(6 * 24_000, abs=2)


def test_excerpts():
  lengths = {str(i): 200.0 for i in range(10)} | {'short': 10.0}
  assert corpus_lib.excerpts(lengths, None)['3'] == (0.0, 200.0)
  assert corpus_lib.excerpts(lengths, 5000.0)['short'] == (0.0, 10.0)
  taken = corpus_lib.excerpts(lengths, 1010.0)
  assert taken['short'] == (0.0, 10.0) and taken['5'] == (50.0, 150.0)
  few = corpus_lib.excerpts(lengths, 90.0)
  assert len(few) == 3
  assert sum(b - a for a, b in few.values()) <= 90.0
  assert few == corpus_lib.excerpts(dict(reversed(lengths.items())), 90.0)


def test_hours_are_shared_among_training_packages():
  chosen = packages_lib.choose(
      ['0ad-data', 'colobot-common-sounds', 'warzone2100-music'])
  assert chosen[0].name == '0ad-data'  # tests first
  assert packages_lib.quotas(chosen) == {
      '0ad-data': None, 'colobot-common-sounds': None,
      'warzone2100-music': None}
  assert packages_lib.quotas(chosen, 3.0, 12.0) == {
      '0ad-data': 720.0, 'colobot-common-sounds': 66 * 60.0,
      'warzone2100-music': 114 * 60.0}


def test_licence_of_a_file():
  path = 'usr/share/games/game/music/song1.ogg'
  assert licences.find(_NOTICE, path) == 'CC-BY-3.0'
  assert licences.find(_NOTICE, path.replace('1', '2')) == 'GPL-2+'
  assert licences.find('This package was debianized by hand.', path) == ''
  lines = _NOTICE.replace('Files: data/music/song1.ogg', 'Files: data/*')
  assert licences.find(lines, 'usr/lib/data.txt') == 'GPL-2+'


def _fake_apt(folder, monkeypatch, script):
  folder.mkdir()
  tool = folder / 'apt-get'
  tool.write_text(f'#!/bin/sh\n{script}\n')
  tool.chmod(tool.stat().st_mode | stat.S_IEXEC)
  monkeypatch.setenv('PATH', f'{folder}{os.pathsep}{os.environ["PATH"]}')


def test_no_apt(tmp_path, monkeypatch):
  monkeypatch.setattr(fetch.shutil, 'which', lambda name: None)
  with pytest.raises(errors.UserError, match=(
      'naev-data is to be fetched by `apt-get download naev-data`, but there '
      'is no apt-get here; .*--debs')):
    debian_music.build(tmp_path / 'c', packages=['naev-data'],
                       say=lambda line: None)
  assert not list(tmp_path.iterdir())


def test_no_network(tmp_path, monkeypatch):
  _fake_apt(tmp_path / 'bin', monkeypatch,
            'echo "E: Failed to fetch http://deb (no such host)" >&2; exit 100')
  with pytest.raises(errors.UserError, match=(
      r'`apt-get download naev-data` failed \(E: Failed to fetch .*network')):
    debian_music.build(tmp_path / 'c', packages=['naev-data'],
                       say=lambda line: None)


def test_not_in_this_release(tmp_path, monkeypatch):
  _fake_apt(tmp_path / 'bin', monkeypatch,
            'echo "E: Unable to locate package $2" >&2; exit 100')
  with pytest.raises(errors.UserError, match='knows no package naev-data'):
    debian_music.build(tmp_path / 'c', packages=['naev-data'],
                       say=lambda line: None)
  lines = []
  with pytest.raises(errors.UserError, match='none of the packages'):
    debian_music.build(tmp_path / 'c', say=lines.append)
  left_out = [line for line in lines if line.startswith('left out: ')]
  assert len(left_out) == len(packages_lib.PACKAGES)


@needs_dpkg
def test_downloads_into_the_folder_of_debs(debs, tmp_path, monkeypatch):
  _fake_apt(tmp_path / 'bin', monkeypatch, f'cp {debs}/"$2"_*.deb .')
  (tmp_path / 'own').mkdir()
  debian_music.build(tmp_path / 'c', packages=['singularity-music'],
                     debs=tmp_path / 'own', say=lambda line: None)
  assert fetch.find('singularity-music', tmp_path / 'own')


@needs_dpkg
@pytest.mark.parametrize('damage', ['empty', 'cut', 'text'])
def test_damaged_package(debs, tmp_path, damage):
  whole = next(debs.glob('supertux*.deb')).read_bytes()
  (tmp_path / 'supertux-data_1_all.deb').write_bytes(
      {'empty': b'', 'cut': whole[:len(whole) // 2], 'text': b'no'}[damage])
  with pytest.raises(errors.UserError, match='supertux-data_1_all.deb'):
    debian_music.build(tmp_path / 'c', packages=['supertux-data'],
                       debs=tmp_path, say=lambda line: None)
  assert not (tmp_path / 'c').exists()


@pytest.mark.parametrize('arguments, message', [
    (['debian_music', '--packages', 'chess'], "unknown package 'chess'; known"),
    (['debian_music', '--packages', 'naev-data,naev-data'], 'each once'),
    (['debian_music', '--debs', 'nowhere'], '--debs nowhere is not a folder'),
    (['debian_music', '--test-minutes', '0'], 'expected above 0'),
    (['debian_music', '--hours', '-1'], '--hours is -1'),
    (['folk_gm', '--packages', 'a'], '--packages goes with `musiclm data '
     'debian_music`, not with folk_gm'),
])
def test_wrong_options(tmp_path, capsys, monkeypatch, arguments, message):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(SystemExit) as stop:
    cli.main(['data', *arguments, '--out', 'made'])
  assert stop.value.code == 2
  assert message in capsys.readouterr().err


@needs_dpkg
def test_from_the_shell(debs, tmp_path, capsys):
  cli.main(['data', 'debian_music', '--packages',
            'singularity-music, nexuiz-music', '--debs', str(debs), '--out',
            str(tmp_path / 'c')])
  assert 'debian_music' in make_data.CORPORA
  printed = capsys.readouterr().out
  assert 'singularity-music 1.0-1: 2 recordings, 0 min, test' in printed
