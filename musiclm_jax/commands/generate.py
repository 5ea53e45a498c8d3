"""Makes music from a description, a story, a song or a melody.

  musiclm generate "a lively irish jig on fiddle with hand drums" -o jig.wav
  musiclm generate "a waltz on accordion" --samples 2 --best-of 8
  musiclm generate "a string quartet" --melody hum.wav
  musiclm generate --story story.yaml -o story.flac --report story.html
  musiclm generate "with drums" --like song.mp3 --like-weight 0.7
  musiclm generate --continue-from song.wav --seconds 20

The shipped bundle is used unless --bundle names another. The same seed, prompt
and settings give the same file on the same machine. What is not said is the
bundle's own default (its defaults.json), or else the one below.

A story is a YAML list of prompts, each with the time from which it is in force,
`- at: 0:30` and under it `prompt: a lively reel`; it is written again beside
the result. After --continue-from FILE the result begins with the whole seconds of
that recording, as the codec renders them, and --seconds of new music follow.
Without a prompt, MuLan listens to the song, the recording or the melody.
"""

import argparse
import contextlib
import dataclasses
import pathlib

from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax import process
from musiclm_jax import progress as progress_lib
from musiclm_jax.decoding import choices as decoding_choices
from musiclm_jax.systems.musiclm import settings as settings_lib

_FILES = dict(
    story='YAML of timed prompts, instead of a prompt',
    like='a song to be near to, alone or beside the prompt',
    melody='a recording, hummed, whistled or played, to follow',
    continue_from='a recording to go on from')

_STORY_HEADER = 'musiclm generate'  # how a story that is written here begins


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """The options of `musiclm generate`."""
  parser.add_argument('prompt', nargs='?',
                      help='what the music should be like')
  parser.add_argument('-o', '--output', default='music.wav', metavar='FILE',
                      help='.wav or .flac (default: %(default)s); several '
                      'samples become FILE-1, FILE-2, ...')
  for name, text in _FILES.items():
    parser.add_argument(settings_lib.option(name), metavar='FILE', help=text)
  for field in dataclasses.fields(settings_lib.Settings):
    told = field.metadata['help']
    told = f'{told} (default: {field.default})'.strip()
    kind = dict(choices=field.metadata['choices']) if (
        'choices' in field.metadata) else dict(type=field.type, metavar='N')
    parser.add_argument(settings_lib.option(field.name), help=told, **kind)
  parser.add_argument('--weights', choices=decoding_choices.WEIGHTS,
                      help='what the stages calculate with (default: as '
                      'trained)')
  parser.add_argument('--report', metavar='FILE.html',
                      help='write a page to hear, see and judge what was made')
  parser.add_argument('--bundle', metavar='DIR',
                      help='trained components (default: the shipped ones)')


def run(args: argparse.Namespace) -> None:
  """Checks everything that can be checked, then loads, samples and writes."""
  files.check_output(args.output, ('.wav', '.flac'))
  if args.report:
    files.check_output(args.report, ('.html',), '--report')
  if args.story:
    _check_story_place(args)
  process.keep_programs()
  from musiclm_jax import bundle as bundle_lib  # pylint: disable=g-import-not-at-top
  from musiclm_jax.systems.musiclm import steering as steering_lib  # pylint: disable=g-import-not-at-top
  bundle = bundle_lib.Bundle(args.bundle or bundle_lib.shipped())
  names = [f.name for f in dataclasses.fields(settings_lib.Settings)]
  settings, steering = steering_lib.asked(
      bundle, args.prompt, named=settings_lib.option,
      **{name: getattr(args, name) for name in (*_FILES, *names)})
  from musiclm_jax import audio_stream  # pylint: disable=g-import-not-at-top
  from musiclm_jax.systems.musiclm import model as model_lib  # pylint: disable=g-import-not-at-top
  model = model_lib.Model(bundle, args.weights)
  paths = output_paths(args.output, settings.samples)
  how = model.how(settings)
  with contextlib.ExitStack() as stack:
    stack.enter_context(errors.of_files(args.output))
    sinks = [stack.enter_context(audio_stream.Sink(p, model.sample_rate_hz))
             for p in output_paths(args.output, settings.drawn)]
    progress = stack.enter_context(progress_lib.Progress(quiet_seconds=0.0))
    result = model.make(
        steering, settings, sounds=sinks, similarity=bool(args.report),
        progress=lambda stage, done, total: progress.show(
            stage, done, total, '' if stage == 'similarity' else ' s'))
    for take, path in zip(result.takes, paths):
      take.sound.finish(path, model.tags(result, take))
    if args.story:
      _write_story(args, steering, settings, f'{how} bundle={bundle.identity}')
    sections = _write_report(args.report, result, paths, steering, bundle, how)
  for take, path in zip(result.takes, paths):
    print(_line(take, path, result))
  told = _guidance(steering_lib.guided(steering, settings, bundle))
  if told:
    print(told)
  for section in sections:
    print(section.text())


def output_paths(
    output: str | pathlib.Path, samples: int) -> list[pathlib.Path]:
  """The files that so many samples go to."""
  path = pathlib.Path(output)
  if samples == 1:
    return [path]
  return [path.with_name(f'{path.stem}-{i + 1}{path.suffix}')
          for i in range(samples)]


def _line(take, path, result):
  seconds = result.known + result.settings.seconds
  text = f'{path}: {seconds:.1f} s of "{result.title}", seed ' + str(
      result.settings.seed)
  if take.similarity is not None:
    text += f', sample {take.sample + 1}, similarity {take.similarity:.3f}'
  return text


def _guidance(guided):
  """What guidance cost, or ''."""
  parts = []
  for stage, scales in guided.items():
    said = ' and '.join(
        f'{scale:g} on the {dict(mulan="prompt").get(condition, condition)}'
        for condition, scale in scales)
    parts.append(f'{stage} stage {said}, {1 + len(scales)} rows for one')
  return 'guidance: ' + '; '.join(parts) if parts else ''


def _story_place(args):
  """Where the story goes: beside the result, unless it is there already."""
  output = pathlib.Path(args.output)
  path = output.with_name(f'{output.stem}.story.yaml')
  return None if path.exists() and path.samefile(args.story) else path


def _check_story_place(args):
  """UserError where a file stands there that is not of an earlier run."""
  if not pathlib.Path(args.story).is_file():
    return  # `story.load` says so
  path = _story_place(args)
  if path is not None and path.exists():
    with open(path, 'rb') as file:
      if file.read(len(_STORY_HEADER) + 2) != f'# {_STORY_HEADER}'.encode():
        raise errors.UserError(
            f'the story would be written to {path}, which holds something '
            f'else; choose another --output.')


def _write_story(args, steering, settings, how):
  """The story beside the result, with how to make it again."""
  from musiclm_jax.systems.musiclm import story as story_lib  # pylint: disable=g-import-not-at-top
  output, path = pathlib.Path(args.output), _story_place(args)
  if path is None:
    return
  text = story_lib.dump(steering.parts, [
      f'{_STORY_HEADER} --story {path.name} -o {output.name} '
      f'--seconds {settings.seconds:g} --seed {settings.seed}',
      how])
  files.write_text(path, text)


def _write_report(path, result, paths, steering, bundle, how):
  """The page, if it was asked for; its sections."""
  if not path:
    return []
  from musiclm_jax.evaluation import generated  # pylint: disable=g-import-not-at-top
  return generated.write(path, result, paths, steering, bundle, [how])
