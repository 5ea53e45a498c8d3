"""Do the command lines of an older README and docs still work, and say the same?

  python tests/benchmarks/old_commands.py --commit e5869cc \\
      --before OLD/bin/python --after NEW/bin/python [--really]

`--before` and `--after` are the Pythons of two environments, each with one
version of musiclm_jax installed; the repository this file is in has the commit
whose pages are read. Three things are compared:

  parsed   each command line of the pages, with an option behind it that does not
           exist: a version that can read the line complains of that alone
  options  what `musiclm COMMAND --help` lists
  run      with --really: a few that take seconds, by what they print and by the
           bytes of the files they write

Prints a table, a row for each line, and exits with 1 if any differs.
"""

import argparse
import hashlib
import json
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
_NOWHERE = '--no-such-option'
_LINE = re.compile(r'^(?:bash launch/local\.sh|musiclm) (.*)$')
_COMMANDS = ('generate', 'serve', 'demo', 'data', 'ingest', 'train', 'preflight',
             'export', 'precompute', 'evaluate', 'codec', 'inspect')
# Lines that take seconds; each goes on from the files of those before it.
_QUICK = (
    '--version', 'inspect bundle',
    'generate "a slow waltz on accordion" -o a.wav --seconds 2 --seed 3',
    'codec encode a.wav -o a.slm', 'codec decode a.slm -o b.wav',
    'inspect a.wav', 'generate "" -o c.wav', 'sing', 'inspect nowhere',
    'train no_such_leaf')
# Runs in either environment: the command is found as the shell finds it, so
# that nothing is taken for granted of where in the package it stands.
_RUNNER = '''
import contextlib, importlib.metadata, io, json, sys
(entry,) = importlib.metadata.entry_points(group='console_scripts', name='musiclm')
main, results = entry.load(), []
for argv in json.load(sys.stdin):
  out, err, code = io.StringIO(), io.StringIO(), 0
  sys.argv = ['musiclm', *argv]
  with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    try:
      main()
    except SystemExit as stop:
      code = stop.code or 0
  results.append((code, out.getvalue(), err.getvalue()))
json.dump(results, sys.stdout)
'''


def lines_of(text):
  """Words of each command line in a page's fenced blocks, of what can be run."""
  found = []
  for block in text.split('```')[1::2]:
    for line in block.replace('\\\n', ' ').splitlines():
      line = re.split(r'\s{3,}', line.strip())[0]  # what follows explains
      match = _LINE.match(line)
      if match and not re.search(r'\[|\.\.\.|\b(test|t5x)\b', match[1]):
        found.append(shlex.split(match[1], comments=True))
  return found


def old_lines(commit):
  """Those of README.md and docs/*.md at `commit`, each once."""
  git = lambda *words: subprocess.run(
      ['git', '-C', str(ROOT), *words], capture_output=True, text=True,
      check=True).stdout
  pages = ['README.md', *filter(
      lambda name: name.endswith('.md'),
      git('ls-tree', '--name-only', commit, 'docs/').split())]
  found = [line for page in pages for line in lines_of(
      git('show', f'{commit}:{page}'))]
  return [json.loads(line) for line in dict.fromkeys(map(json.dumps, found))]


def run(python, lines):
  """[(exit code, stdout, stderr)] of `lines`, and {file: digest} they wrote."""
  with tempfile.TemporaryDirectory() as folder:
    done = subprocess.run(
        [python, '-c', _RUNNER], input=json.dumps(lines), cwd=folder,
        capture_output=True, text=True, check=False)
    if done.returncode:
      raise SystemExit(f'{python}: {done.stderr[-2000:]}')
    written = {path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:12]
               for path in sorted(pathlib.Path(folder).iterdir())
               if path.is_file()}
  return json.loads(done.stdout), written


def parsed(result):
  """'parsed', or what stood in the way of reading a line."""
  code, _, err = result
  end = f'unrecognized arguments: {_NOWHERE} '
  return 'parsed' if code == 2 and end in err else f'{code}: {err.strip()[:60]}'


def options(result):
  """The options that a help text lists."""
  return ' '.join(sorted(set(re.findall(r'--[a-z][\w-]*', result[1]))))


def _without_times(text):
  """What differs between any two runs of one version is left out."""
  return re.sub(r'\d+:\d\d\b', 'M:SS', text)


def main():
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--commit', required=True)
  parser.add_argument('--before', required=True, metavar='PYTHON')
  parser.add_argument('--after', required=True, metavar='PYTHON')
  parser.add_argument('--really', action='store_true')
  args = parser.parse_args()
  lines = old_lines(args.commit)
  asked = [line + [_NOWHERE] for line in lines] + [
      [command, '--help'] for command in _COMMANDS]
  quick = [shlex.split(line) for line in _QUICK] if args.really else []
  # What runs goes first: jax's own lines then come before any are compared.
  sides = [run(python, quick + asked) for python in (args.before, args.after)]
  rows = []
  for index, line in enumerate(quick + asked):
    one, other = (results[index] for results, _ in sides)
    if index < len(quick):
      have = [(r[0], *map(_without_times, r[1:])) for r in (one, other)]
      rows.append(('run', line, have[0] == have[1],
                   f'exit {one[0]}' if have[0] == have[1] else
                   f'{have[0]} -> {have[1]}'))
    elif line[-1] == _NOWHERE:
      have = [parsed(one), parsed(other)]
      rows.append(('parsed', line[:-1], have[0] == have[1] == 'parsed',
                   ' -> '.join(dict.fromkeys(have))))
    else:
      have = [set(options(r).split()) for r in (one, other)]
      gone, new = have[0] - have[1], have[1] - have[0]
      rows.append(('options', line, not gone, f'{len(have[0])} options' + ''.join(
          f'; {word} {" ".join(sorted(names))}'
          for word, names in (('gone', gone), ('new', new)) if names)))
  for name in sorted(sides[0][1].keys() | sides[1][1].keys()):
    one, other = (written.get(name) for _, written in sides)
    rows.append(('file', [name], one == other,
                 ' -> '.join(dict.fromkeys(map(str, (one, other))))))
  for kind, line, same, what in rows:
    print(f'{"same" if same else "DIFFERS":<8}{kind:<8}{shlex.join(line)[:70]:<72}'
          f'{what}')
  different = sum(not same for _, _, same, _ in rows)
  print(f'{len(rows)} rows, {different} differ')
  sys.exit(different > 0)


if __name__ == '__main__':
  main()
