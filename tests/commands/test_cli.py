"""The command line: bad input gives one line, exit code 2 and no file."""

import argparse
import re
import subprocess
import sys

import command_line
import numpy as np
import pytest
import soundfile

from musiclm_jax import bundle
from musiclm_jax import specs
from musiclm_jax.codecs import container
from musiclm_jax.commands import cli
from musiclm_jax.commands import demo
from musiclm_jax.commands import train
from musiclm_jax.systems.musiclm import settings

_run = command_line.run


@pytest.fixture(name='partial_bundle')
def _partial_bundle(tmp_path):
  """A bundle that has a codec of other strides, and nothing else."""
  directory = tmp_path / 'bundle'
  bundle.save_component(directory / 'codec', 'soundstream', {},
                        specs.CodecSpec(num_codebooks=8), {'a': np.zeros(2)})
  bundle.write_manifest(directory, specs.TokenSpec(), name='partial')
  return directory


@pytest.mark.parametrize('argv, message', [
    (['generate', 'x', '--loud'], 'unrecognized arguments: --loud'),
    (['generate', '  '], 'the prompt is empty'),
    (['generate'], 'nothing says what the music should be like'),
    (['generate', 'x', '--seconds', '0'], '--seconds is 0; expected 1 to 600'),
    (['generate', 'x', '--seconds', '-5'], '--seconds is -5'),
    (['generate', 'x', '--seconds', 'nan'], '--seconds is nan'),
    (['generate', 'x', '--seconds', '1e9'], '--seconds is 1e+09'),
    (['generate', 'x', '--seconds', 'ten'], "invalid float value: 'ten'"),
    (['generate', 'x', '--samples', '0'], '--samples is 0'),
    (['generate', 'x', '--temperature-fine', '-1'], '--temperature-fine is -1'),
    (['generate', 'x', '--bundle', 'nowhere'], 'no bundle at nowhere'),
    (['generate', 'x', '-o', 'no/such/dir/a.wav'], 'no/such/dir does not'),
    (['generate', 'x', '-o', 'a.mp3'], "extension '.mp3'"),
    (['sing'], "unknown command 'sing'"),
    (['data', 'jazz', '--out', 'x'], "unknown corpus 'jazz'"),
    (['data', 'folk_gm', '--out', 'x', '--hours', '0'], '--hours is 0'),
    (['data', 'folk_gm', '--out', 'x', '--shares', 'dev=1'], "split 'dev'"),
    (['data', 'folk_gm', '--out', 'x', '--shares', 'test'], 'test has nothing'),
    (['data', 'folk_gm', '--out', 'x', '--shares', 'test=nan'], 'has nan'),
    (['data', 'debian_music', '--out', 'x', '--shares', 'test=1'],
     '--shares goes with `musiclm data folk_gm`'),
    (['inspect', 'audio', 'missing.wav'], 'does not exist'),
    (['inspect', 'audio', '.'], 'audio file . is a folder; name a file in it'),
    (['inspect', 'bundle', '--json', 'no/a.json'], 'no does not exist'),
    (['ingest', '.', '--out', 'memory://x'], '--out memory://x ends with this'),
    (['data', 'folk_gm', '--out', 'gs://a/b'], '--out gs://a/b is a URL'),
    (['data', 'label', 'x', '--sentences', 'y', '--out', 'gs://a/b'],
     '--out gs://a/b is a URL; label is made in a folder'),
    (['ingest', '~nosuch/x', '--out', 'x'], '~nosuch/x: there is no such home'),
    (['train', '~nosuch/x'], '~nosuch/x: there is no such home'),
    (['export', 'x', '--out', '.'], 'unknown component in --out'),
    (['demo', '--out', 'x' * 300], 'cannot write to --out xxx'),
    (['inspect', 'corpus', 'x' * 300], 'File name too long'),
    (['inspect', 'corpus', '.'], 'is not a corpus'),
    (['demo', '--out', 'x', '--minutes', '-1'], '--minutes is -1'),
    (['demo', '--out', 'x', '--data', 'missing'], 'missing is not a folder'),
    (['demo', '--out', 'no/such/x'], 'no/such for --out does not exist'),
    (['evaluate'], 'required: what'),
    (['evaluate', 'slow'], "invalid choice: 'slow'"),
    (['evaluate', 'quick', '--clips', '1'], '--clips is 1; expected 2 to 500'),
    (['evaluate', 'quick', '--bundle', 'nowhere'], 'no bundle at nowhere'),
    (['evaluate', 'quick', '--corpus', 'nowhere'], 'is not a corpus'),
    (['evaluate', 'quick', '--report', 'a.pdf'], "extension '.pdf'; expected"),
    (['evaluate', 'quick', '--json', 'no/such/a.json'], 'no/such does not'),
    (['evaluate', 'melody', '--record'], '--record goes with `musiclm evaluate '
     'quick`, not with melody'),
    (['train', 'no_such_leaf'], "unknown gin file 'no_such_leaf'"),
])
def test_mistakes(capsys, tmp_path, monkeypatch, argv, message):
  monkeypatch.chdir(tmp_path)
  code, out, err = _run(capsys, *argv)
  assert code == 2
  assert message in err and err.count('\n') == 1 and not out
  assert not list(tmp_path.iterdir()), 'something was written'


def test_incomplete_and_foreign_bundles(capsys, tmp_path, partial_bundle):
  wav = tmp_path / 'a.wav'
  code, _, err = _run(capsys, 'generate', 'x', '-o', wav, '--bundle',
                      partial_bundle)
  assert code == 2 and 'has no mulan, semantic, coarse, fine' in err
  np.save(tmp_path / 'codes.npy', np.zeros((5, 12), np.int16))
  code, _, err = _run(capsys, 'codec', 'decode', tmp_path / 'codes.npy', '-o',
                      wav, '--bundle', partial_bundle)
  assert code == 2 and 'num_codebooks: 8, expected 12' in err
  assert not wav.exists()


@pytest.mark.parametrize('samples, message', [
    (None, 'not readable audio'),
    (np.zeros((100, 3)), '3 channels'),
    (np.full(100, np.nan), 'NaN'),
    (np.zeros(0), 'holds no samples'),
])
def test_bad_audio(capsys, tmp_path, partial_bundle, samples, message):
  path = tmp_path / 'in.wav'
  if samples is None:
    path.write_text('this is text')
  else:
    soundfile.write(path, samples, 24_000, subtype='FLOAT')
  code, _, err = _run(capsys, 'codec', 'encode', path, '-o',
                      tmp_path / 'out.npy', '--bundle', partial_bundle)
  assert code == 2 and message in err and err.count('\n') == 1
  assert not (tmp_path / 'out.npy').exists()


@pytest.mark.parametrize('codes, message', [
    (np.zeros((5, 13), np.int16), '1 to 12'),
    (np.zeros((0, 12), np.int16), 'expected integers'),
    (np.zeros((5, 12)), 'float64'),
    (np.full((5, 12), 1024, np.int16), '1024..1024'),
])
def test_bad_codes(capsys, tmp_path, partial_bundle, codes, message):
  np.save(tmp_path / 'c.npy', codes)
  code, _, err = _run(capsys, 'codec', 'decode', tmp_path / 'c.npy', '-o',
                      tmp_path / 'out.wav', '--bundle', partial_bundle)
  assert code == 2 and message in err
  assert not (tmp_path / 'out.wav').exists()


@pytest.mark.parametrize('argv, message', [
    (['encode', 'missing.mp3', '-o', 'a.slm'], 'missing.mp3 does not exist'),
    (['encode', '.', '-o', 'a.slm'], 'audio file . is a folder'),
    (['encode', 'empty.wav', '-o', 'a.slm'], 'not readable audio'),
    (['encode', 'text.mp3', '-o', 'a.slm'], 'text.mp3 is not readable audio'),
    (['encode', 'good.wav', '-o', 'a.slm', '--levels', '0'], '--levels is 0;'),
    (['encode', 'good.wav', '-o', 'a.slm', '--levels', '13'], 'is 13;'),
    (['encode', 'good.wav', '-o', 'a.slm', '--salvage'], 'is for decode'),
    (['encode', 'good.wav', '-o', 'no/a.slm'], 'no does not exist'),
    (['encode', 'good.wav', '-o', 'a.ogg'], "'.ogg'; expected .slm or .npy"),
    (['encode', 'good.wav', '-o', 'folder.slm'], 'folder.slm is a folder'),
    (['encode', 'good.slm', '-o', 'a.slm'], 'not readable audio'),
    (['decode', 'missing.slm', '-o', 'a.wav'], 'missing.slm does not exist'),
    (['decode', 'good.wav', '-o', 'a.wav'], 'good.wav is audio, not codes'),
    (['decode', 'text.mp3', '-o', 'a.wav'], 'text.mp3 is not an .slm file'),
    (['decode', 'empty.wav', '-o', 'a.wav'], 'is not an .slm file'),
    (['decode', 'good.slm', '-o', 'a.wav', '--levels', '13'], 'is 13;'),
    (['decode', 'good.slm', '-o', 'a.wav', '--levels', '5'], 'slm holds 4'),
    (['decode', 'good.slm', '-o', 'a.mp3'], "extension '.mp3'"),
    (['decode', 'good.slm', '-o', 'no/a.wav'], 'no does not exist'),
    (['decode', 'short.slm', '-o', 'a.wav'], 'ends in block 2, at 5.0 s of'),
    (['decode', 'short.slm', '-o', 'a.wav'], '--salvage decodes the 5.0 s'),
    (['decode', 'codes.npy', '-o', 'a.wav', '--salvage'], 'is for .slm files'),
])
def test_codec_mistakes(capsys, tmp_path, monkeypatch, partial_bundle, argv,
                        message):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'empty.wav').touch()
  (tmp_path / 'text.mp3').write_text('this is text')
  (tmp_path / 'folder.slm').mkdir()
  soundfile.write('good.wav', np.zeros(4_800), 24_000)
  np.save('codes.npy', np.zeros((5, 4), np.int16))
  header = container.Header(4, 24_000, 480, 1024, 0, 250, '00' * 8, '00' * 8)
  with container.Writer('good.slm', header) as writer:
    writer.write(np.zeros((300, 4), np.int32))
    writer.finish(300 * 480)
  (tmp_path / 'short.slm').write_bytes(
      (tmp_path / 'good.slm').read_bytes()[:-1])
  before = sorted(tmp_path.rglob('*'))
  code, out, err = _run(capsys, 'codec', *argv, '--bundle', partial_bundle)
  assert code == 2 and message in err and err.count('\n') == 1 and not out
  assert sorted(tmp_path.rglob('*')) == before, 'something was written'


def test_debug_shows_the_traceback(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(ValueError, match='prompt is empty'):
    cli.main(['--debug', 'generate', ''])


def test_help_loads_no_model():
  code = ('import sys; from musiclm_jax.commands import cli\n'
          'try: cli.main(["generate", "--help"])\n'
          'except SystemExit: pass\n'
          'sys.exit("jax" in sys.modules)')
  result = subprocess.run([sys.executable, '-c', code], capture_output=True,
                          text=True, check=False)
  assert result.returncode == 0, 'help imported jax'
  assert '--temperature-fine' in result.stdout


def test_plain_help_lists_every_command(capsys):
  for argv in ((), ('--help',)):
    code, out, _ = _run(capsys, *argv)
    assert not code
    for name, (_, text) in cli.COMMANDS.items():
      assert re.search(rf'^  {name} +{re.escape(text)}$', out, re.MULTILINE)


def test_gin_words_reach_the_command_as_they_are(monkeypatch):
  seen = []
  monkeypatch.setattr(train, 'run', seen.append)
  cli.main(['--debug', 'train', 'a_leaf', "--gin.PLACE='a place = b'",
            '--gin_file=another', '--gin.N=-3', '--debug'])
  args, = seen
  assert train.gin_arguments(args) == (
      ['a_leaf', 'another'], ["PLACE = 'a place = b'", 'N = -3'])
  assert args.debug


def test_a_demo_directory_keeps_to_its_preset(capsys, tmp_path):
  (tmp_path / 'out').mkdir()
  (tmp_path / 'out' / 'began.json').write_text(
      '{"preset": "cpu", "seed": 0, "data": null}')
  code, _, err = _run(capsys, 'demo', '--preset', 'smoke', '--out',
                      tmp_path / 'out')
  assert code == 2 and 'was begun with' in err


def test_a_demo_writes_over_nothing(capsys, tmp_path):
  (tmp_path / 'out').mkdir()
  (tmp_path / 'out' / 'demo.wav').write_text('mine')
  code, _, err = _run(capsys, 'demo', '--out', tmp_path / 'out')
  assert code == 2 and 'holds demo.wav and no began.json' in err
  assert [p.read_text() for p in (tmp_path / 'out').iterdir()] == ['mine']


def test_the_step_of_a_demo_ends_with_it(tmp_path, monkeypatch):
  """And is waited for: a training saves when it is told to end."""
  told = []

  class Step:
    def __init__(self, words):
      told.append(words[2])

    def __enter__(self):
      return self

    def __exit__(self, *unused):
      pass

    def terminate(self):
      told.append('terminated')

    def wait(self):
      told.append('waited')
      if 'terminated' not in told:
        raise SystemExit(143)

  monkeypatch.setattr(demo.subprocess, 'Popen', Step)
  args = argparse.Namespace(preset='smoke', out=str(tmp_path / 'out'), seed=0,
                            data=None)
  with pytest.raises(SystemExit):
    demo.Demo(args)._call('corpus', 'cli', 'data')  # pylint: disable=protected-access
  assert told == ['musiclm_jax.commands.cli', 'waited', 'terminated', 'waited']


def test_the_time_is_divided_among_all_models():
  assert set(demo.NEED) == {*demo.TOKENIZERS, *settings.STAGES}
  assert set(demo.PRESETS) == {'smoke', 'cpu', 'gpu'}
