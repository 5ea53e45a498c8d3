"""HTML of what the page shows while and after music is made.

Whatever a person wrote is escaped here, in one place.
"""

from collections.abc import Sequence
import html

from musiclm_jax.serving import jobs as jobs_lib
from musiclm_jax.systems.musiclm import story

_WORK = dict(semantic='composing', coarse='playing', fine='polishing',
             audio='playing', similarity='comparing')

CSS = '''
.gradio-container { max-width: 1080px !important; margin: 0 auto !important; }
#head h1 { font-size: 1.7rem; font-weight: 650; letter-spacing: -.02em;
           margin: .2rem 0 .1rem; }
#head p, .note { color: var(--body-text-color-subdued); margin: 0;
                 font-size: .92rem; line-height: 1.5; }
.problem { color: #b42318; background: #fef3f2; border: 1px solid #fda29b;
           border-radius: 8px; padding: .6rem .8rem; margin: 0;
           overflow-wrap: anywhere; }
.dark .problem { color: #fecdca; background: #55160c66; border-color: #912018; }
.fine { color: #067647; margin: 0; font-size: .92rem; }
.dark .fine { color: #75e0a7; }
.work p { margin: .45rem 0 0; font-size: .92rem;
          font-variant-numeric: tabular-nums; }
.bar { height: 8px; border-radius: 4px; overflow: hidden;
       background: var(--border-color-primary); }
.bar i { display: block; height: 100%; border-radius: 4px;
         background: var(--color-accent); }
.bar.waiting i { width: 30%; animation: wait 1.6s ease-in-out infinite
                 alternate; }
@keyframes wait { from { margin-left: 0 } to { margin-left: 70% } }
@media (prefers-reduced-motion: reduce) { .bar.waiting i { animation: none; } }
.empty { border: 1px dashed var(--border-color-primary); border-radius: 12px;
         padding: 2.4rem 1rem; text-align: center;
         color: var(--body-text-color-subdued); }
.sample { margin: .2rem 0 1rem; }
.sample h3, .made h3 { font-size: .95rem; font-weight: 600; margin: 0 0 .4rem;
                       overflow-wrap: anywhere; }
.sample audio, .made audio { width: 100%; height: 42px; display: block; }
.dark audio { color-scheme: dark; }
.spectrum { margin: .6rem 0 0; }
.spectrum img { width: 100%; height: 150px; border-radius: 8px; display: block;
                object-fit: fill; }
.spectrum figcaption { display: flex; justify-content: space-between;
                       font-size: .78rem; margin-top: .2rem;
                       color: var(--body-text-color-subdued); }
.made { border: 1px solid var(--border-color-primary); border-radius: 10px;
        padding: .8rem .9rem; margin: 0 0 .7rem;
        background: var(--block-background-fill); }
.made .row { display: flex; gap: .6rem; align-items: center;
             margin-top: .45rem; }
.made .row audio { flex: 1 1 auto; min-width: 0; }
.made .row a { flex: none; font-size: .85rem; font-weight: 600;
               color: var(--body-text-color); text-decoration: none;
               padding: .35rem .7rem; border-radius: 6px;
               border: 1px solid var(--border-color-primary); }
.made .row a:hover { border-color: var(--color-accent); }
#examples { gap: .4rem; margin-top: -.4rem; }
#examples button { flex: 0 1 auto; min-width: 0; font-weight: 400;
                   font-size: .82rem; padding: .3rem .7rem;
                   border-radius: 999px; background: transparent;
                   border: 1px solid var(--border-color-primary);
                   color: var(--body-text-color-subdued); }
#examples button:hover { border-color: var(--color-accent);
                         color: var(--body-text-color); }
#another { align-self: stretch; background: var(--block-background-fill);
           border: 1px solid var(--border-color-primary); font-weight: 500;
           font-size: .92rem; }
#melody, #like, #continue_from { min-height: 150px; }
[role=tab][aria-selected=true] { color: var(--primary-600) !important; }
.dark [role=tab][aria-selected=true] { color: var(--primary-400) !important; }
.gradio-container .html-container { padding: 0 !important; }
#right { gap: .9rem; } #right h2 { margin: 1rem 0 0; font-size: 1.05rem;
                                   font-weight: 600; }
@media (max-width: 640px) {
  .gradio-container { padding: .6rem !important; }
  .made .row { flex-wrap: wrap; } .made .row audio { flex-basis: 100%; }
}
'''


def head(bundle: str) -> str:
  """The top of the page, which names the bundle."""
  return (f'<h1>MusicLM</h1><p>Describe music, and hear it while it is made. '
          f'Model: {_text(bundle)} &middot; <a href="docs">API</a></p>')


def problem(line: str) -> str:
  """One line that says what is wrong."""
  return f'<p class="problem" role="alert">{_text(" ".join(line.split()))}</p>'


def fine(line: str) -> str:
  """One line that says what is well."""
  return f'<p class="fine">{_text(line)}</p>'


def note(line: str) -> str:
  """One line beside the rest."""
  return f'<p class="note">{_text(line)}</p>'


def nothing() -> str:
  """Where the music will be."""
  return '<div class="empty">What you make can be heard here.</div>'


def before() -> str:
  """The title of the history."""
  return '<h2>Made before</h2>'


def work(job: jobs_lib.Job, position: int, running_s: float,
         waits_for: str | None = None) -> str:
  """The progress of a job.

  Args:
    job: a jobs.Job.
    position: requests before it.
    running_s: seconds that it runs already.
    waits_for: as of `Service.waits_for`.
  """
  more = [waits_for] if waits_for else []
  if job.state == jobs_lib.QUEUED:
    others = f'{position} before yours' if position else 'yours is next'
    return _bar(None, ' · '.join([f'waiting: {others}', *more]))
  share = job.advance.share
  words = [_WORK.get(job.advance.stage, 'preparing'), *more]
  if job.advance.seconds and not job.settings.best_of:
    words.append(f'{job.advance.seconds:g} of {job.seconds:g} s can be heard')
  if share > 0.05 and running_s > 2:
    words.append(f'about {max(1, round(running_s * (1 - share) / share))} s '
                 f'left')
  return _bar(share, ' · '.join(words))


def ended(job: jobs_lib.Job, took_s: float) -> str:
  """What a job that is over leaves in place of its progress."""
  if job.state == jobs_lib.FAILED:
    return problem(job.error)
  if job.state == jobs_lib.CANCELLED:
    return note('Cancelled.')
  count = len(job.made)
  samples = f'{count} samples of ' if count > 1 else ''
  return fine(f'Done: {samples}{job.seconds:g} s in {took_s:.1f} s, seed '
              f'{job.settings.seed}.')


def _bar(share: float | None, words: str) -> str:
  """A bar of progress, that swings where the share is None, and words."""
  if share is None:
    return (f'<div class="work" role="status"><div class="bar waiting"><i></i>'
            f'</div><p>{_text(words)}</p></div>')
  percent = round(100 * share)
  return (f'<div class="work" role="status"><div class="bar" '
          f'role="progressbar" aria-valuemin="0" aria-valuemax="100" '
          f'aria-valuenow="{percent}"><i style="width:{percent}%"></i></div>'
          f'<p>{_text(words)}</p></div>')


def players(job: jobs_lib.Job) -> str:
  """What is heard while it is made, or at the end if the best are chosen.

  Only the first loads by itself: a browser has few connections to a server.
  """
  kind = 'audio' if job.settings.best_of else 'stream'
  parts = []
  for number in range(1, job.settings.samples + 1):
    name = job.title if job.settings.samples == 1 else (
        f'{job.title}, sample {number}')
    loads = 'autoplay preload="auto"' if number == 1 else 'preload="none"'
    parts.append(
        f'<div class="sample"><h3>{_text(name)}</h3><audio controls {loads} '
        f'src="v1/jobs/{job.id}/{kind}/{number}"></audio></div>')
  return ''.join(parts)


def spectrograms(job: jobs_lib.Job) -> str:
  """Pictures of a job that is done."""
  return ''.join(
      f'<figure class="spectrum"><img alt="spectrogram of sample {number}" '
      f'src="v1/jobs/{job.id}/spectrogram/{number}"><figcaption><span>0:00'
      f'</span><span>spectrogram, low sounds below</span><span>'
      f'{story.clock(round(made.seconds))}</span></figcaption></figure>'
      for number, made in enumerate(job.made, 1))


def history(jobs: Sequence[jobs_lib.Job]) -> str:
  """What was made before, with downloads.

  Args:
    jobs: Jobs that are done, the newest first.
  """
  if not jobs:
    return note('Nothing yet. What you make stays here for a while.')
  return ''.join(map(_entry, jobs))


def _entry(job: jobs_lib.Job) -> str:
  """A job of the history."""
  rows = []
  for number, made in enumerate(job.made, 1):
    url = f'v1/jobs/{job.id}/audio/{number}'
    like = '' if made.similarity is None else (
        f' title="similarity {made.similarity:.3f}"')
    rows.append(
        f'<div class="row"{like}><audio controls preload="none" src="{url}">'
        f'</audio><a href="{url}" download>{job.format.upper()}</a></div>')
  about = f'{job.seconds:g} s, seed {job.settings.seed}'
  return (f'<div class="made"><h3>{_text(job.title)}</h3>{note(about)}'
          f'{"".join(rows)}</div>')


def _text(value: object) -> str:
  return html.escape(str(value))
