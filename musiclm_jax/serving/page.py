"""The Gradio page: what is where, and which action each part calls."""

from collections.abc import Mapping
import pathlib
import secrets
from typing import Any

import gradio as gr

from musiclm_jax.serving import actions as actions_lib
from musiclm_jax.serving import asking
from musiclm_jax.serving import markup
from musiclm_jax.serving import service as service_lib
from musiclm_jax.systems.musiclm import settings as settings_lib
from musiclm_jax.tokens import conditioning

_STORY = '''- at: 0:00
  prompt: a slow air on a harp
- at: 0:10
  prompt: a lively reel on fiddles
'''
_FONTS = ('ui-sans-serif', 'system-ui', 'sans-serif')
_MONO = ('ui-monospace', 'Consolas', 'monospace')
# Settings that the page passes on as its inputs hold them. Those that it has no
# input for, like top-k, keep their defaults; the API takes them all.
_ASKED = ('seconds', 'seed', 'samples', 'best_of', 'vary',
          'temperature_semantic', 'temperature_coarse', 'temperature_fine',
          'guidance_semantic', 'guidance_coarse')
# name -> (title, what it is for)
_RECORDINGS = dict(
    melody=('Melody', 'Hum, whistle or play what it should follow.'),
    like=('A song to be near to', 'Alone, or beside the prompt or story.'),
    continue_from=('A recording to go on from', 'The result begins with its '
                   'whole seconds; the length above is of what is new.'))
# (setting, label, stage, condition, what the condition is in words): a slider is
# shown where the stage can also draw without the condition, which guiding needs.
_GUIDANCE = (
    ('guidance_semantic', 'Guidance, semantic tokens', 'semantic', 'mulan',
     'the prompt'),
    ('guidance_coarse', 'Guidance, coarse tokens', 'coarse', 'mulan',
     'the prompt'),
    ('guidance_melody', 'Guidance, melody', 'semantic', 'melody',
     'a given melody'))
# On a narrow screen the result is below the inputs, out of sight, so the page is
# scrolled to it when somebody asks for music.
_SHOW = """() => document.querySelector('#right').scrollIntoView(
    {behavior: 'smooth', block: 'nearest'})"""
# Not every browser can play a WAV that still grows, and one that has failed does
# not try again by itself, so at the end its player is given the whole file.
_MEND = """() => document.querySelectorAll('#players audio').forEach(player => {
  if (player.error) player.src = player.src.replace('/stream/', '/audio/');
})"""
# Events are for the page alone: no client calls them by name, and none waits for
# another, because a request waits in the server's own queue.
_PRIVATE: dict[str, Any] = dict(api_visibility='private', concurrency_limit=None)


def theme() -> gr.themes.Base:
  """Colours and the fonts of the reader's system: nothing is fetched."""
  base = gr.themes.Base(
      primary_hue='violet', neutral_hue='slate', radius_size='md', font=_FONTS,
      font_mono=_MONO)
  return base.set(  # Gradio's own are too pale to be read easily
      body_text_color_subdued='*neutral_500',
      button_primary_background_fill='*primary_600',
      button_primary_background_fill_hover='*primary_700',
      input_placeholder_color='*neutral_500',
      input_placeholder_color_dark='*neutral_400')


def build(service: service_lib.Service, folder: pathlib.Path) -> gr.Blocks:
  """The page.

  Args:
    service: the service.Service.
    folder: where Gradio puts the files that are sent.

  Returns:
    gr.Blocks.
  """
  actions = actions_lib.Actions(service, folder)
  with gr.Blocks(title='MusicLM', analytics_enabled=False) as page:
    gr.HTML(markup.head(service.bundle.identity), elem_id='head')
    with gr.Row(equal_height=False):
      with gr.Column(scale=5, min_width=320):
        inputs = _inputs(service, actions)
      with gr.Column(scale=5, min_width=320, elem_id='right'):
        outputs = dict(
            status=gr.HTML('', elem_id='status'),
            players=gr.HTML(markup.nothing(), elem_id='players'),
            pictures=gr.HTML('', elem_id='pictures'))
        gr.HTML(markup.before())
        outputs['history'] = gr.HTML('', elem_id='history')
    outputs.update(
        make=inputs.pop('make'), stop=inputs.pop('stop'), job=gr.State(''),
        held=gr.BrowserState([], storage_key='musiclm',
                             secret=secrets.token_hex(8)))
    _connect(page, actions, inputs, outputs)
  page.queue(default_concurrency_limit=None, api_open=False)
  return page


def _inputs(service: service_lib.Service,
            actions: actions_lib.Actions) -> dict[str, Any]:
  """The left column: {name: component}."""
  found: dict[str, Any] = dict(mode=gr.State('prompt'))
  with gr.Tabs():
    with gr.Tab('Prompt', id='prompt') as prompt_tab:
      found['prompt'] = gr.Textbox(
          label='What should it sound like?', lines=3, max_lines=6,
          placeholder=service_lib.EXAMPLES[0], elem_id='prompt')
      with gr.Row(elem_id='examples'):
        for example in service_lib.EXAMPLES:
          gr.Button(example, size='sm', min_width=0).click(
              None, None, found['prompt'], show_progress='hidden',
              js=f'() => {example!r}', **_PRIVATE)
    with gr.Tab('Story', id='story') as story_tab:
      found['story'] = gr.Code(
          _STORY, language='yaml', lines=8, max_lines=16, elem_id='story',
          label='Timed prompts', buttons=[])
      verdict = gr.HTML('', elem_id='told')
  for tab, mode in ((prompt_tab, 'prompt'), (story_tab, 'story')):
    tab.select(lambda mode=mode: mode, None, found['mode'],
               show_progress='hidden', **_PRIVATE)
  usual = _usual(service)
  found['seconds'] = gr.Slider(
      1, service.limits.max_seconds, usual.seconds, step=1,
      label='Length in seconds', elem_id='seconds')
  with gr.Row(equal_height=True):
    found['seed'] = gr.Number(
        usual.seed, label='Seed', precision=0, elem_id='seed', scale=2,
        min_width=90)
    gr.Button('New seed', min_width=90, scale=1, elem_id='another').click(
        None, None, found['seed'], show_progress='hidden',
        js='() => Math.floor(Math.random() * 1e6)', **_PRIVATE)
    found['samples'] = gr.Number(
        1, minimum=1, maximum=service.limits.max_samples, step=1, precision=0,
        label='Samples', elem_id='samples', scale=2, min_width=90)
  with gr.Row():
    found['make'] = gr.Button(
        'Make music', variant='primary', elem_id='make', min_width=120)
    found['stop'] = gr.Button(
        'Cancel', interactive=False, elem_id='stop', min_width=120)
  _story_checks(actions, found['story'], story_tab, verdict, found['seconds'])
  _recordings(service, actions, found)
  with gr.Accordion('Advanced', open=False, elem_id='advanced'):
    _advanced(service, found)
  return found


def _usual(service: service_lib.Service) -> settings_lib.Settings:
  """The Settings that the page begins with: those of the bundle."""
  return settings_lib.make(defaults=service.bundle.defaults)


def _advanced(service: service_lib.Service, found: dict[str, Any]) -> None:
  """Settings that have a good default."""
  codec, usual = service.bundle.tokens.codec, _usual(service)
  if service.limits.max_samples > 1:
    found['best_of'] = gr.Slider(
        0, service.limits.max_samples, usual.best_of, step=1,
        label='Best of', elem_id='best_of', info='Draws so many and keeps '
        'those nearest to what was asked for; they are heard at the end. 0 '
        'keeps all.')
    found['vary'] = gr.Radio(
        [('all but the prompt', 'semantics'), ('sound alone', 'acoustics')],
        value=usual.vary, label='Samples differ in', elem_id='vary')
  found['levels'] = gr.Slider(
      codec.coarse_codebooks, codec.num_codebooks,
      usual.levels or codec.num_codebooks, step=1, label='Codec levels',
      elem_id='levels', info='Fewer are faster and rougher.')
  for stage in settings_lib.STAGES:
    name = f'temperature_{stage}'
    found[name] = gr.Slider(
        0, 2, getattr(usual, name), step=0.05,
        label=f'Temperature, {stage} tokens')
  for name, label, stage, condition, text in _GUIDANCE:
    optional = conditioning.optional(service.bundle.stored_metadata(stage))
    found[name] = gr.Slider(
        0, 8, getattr(usual, name), step=0.25, elem_id=name, label=label,
        visible=condition in optional and (
            condition != 'melody' or service.takes_melody),
        info=f'How much {text} is heeded: 0 not at all, 1 as learned.')
  found['format'] = gr.Radio(
      list(asking.FORMATS), value=asking.FORMATS[0], label='File')


def _story_checks(actions: actions_lib.Actions, story: gr.Code, tab: gr.Tab,
                  verdict: gr.HTML, seconds: gr.Slider) -> None:
  """Checks a story as it is written, and sets the length that it will have."""
  def check(text: str) -> tuple[str, Any]:
    line, length = actions.check_story(text)
    return line, gr.skip() if length is None else length

  for event in (story.change, tab.select):
    event(check, story, [verdict, seconds], show_progress='hidden', **_PRIVATE)


def _recordings(service: service_lib.Service, actions: actions_lib.Actions,
                found: dict[str, Any]) -> None:
  """The recordings, each with a line that says whether it can be used."""
  for name, (title, text) in _RECORDINGS.items():
    usable = name != 'melody' or service.takes_melody
    with gr.Accordion(title, open=False, elem_id=f'{name}-part'):
      gr.HTML(markup.note(text if usable else actions_lib.NO_MELODY))
      found[name] = gr.Audio(
          sources=['upload', 'microphone'], type='filepath', label=title,
          show_label=False, editable=False, elem_id=name, buttons=[],
          visible=usable)
      if name == 'like':
        found['like_weight'] = gr.Slider(
            0, 1, _usual(service).like_weight, step=0.05, elem_id='like_weight',
            label='Its weight beside the prompt')
      verdict = gr.HTML('', elem_id=f'{name}-line')
      found[name].change(
          lambda path, name=name: actions.check_recording(path, name),
          found[name], verdict, show_progress='hidden', **_PRIVATE)


def _connect(page: gr.Blocks, actions: actions_lib.Actions,
             inputs: dict[str, Any], outputs: dict[str, Any]) -> None:
  """Buttons, and what the page does when it is opened."""
  names, most_levels = list(inputs), inputs['levels'].maximum
  shown = list(outputs.values())

  def changes(step: actions_lib.Step) -> dict[Any, Any]:
    """Values of components from a step of an action."""
    values = {outputs[k]: v for k, v in step.items() if k in outputs}
    if 'busy' in step:
      values[outputs['make']] = gr.update(interactive=not step['busy'])
      values[outputs['stop']] = gr.update(interactive=step['busy'])
    return values

  async def make(*given):
    *values, held = given
    asked = _asked(dict(zip(names, values)), most_levels)
    async for step in actions.generate(asked, held):
      yield changes(step)

  async def restore(held):
    async for step in actions.restore(held):
      yield changes(step)

  following: dict[str, Any] = dict(show_progress='hidden', **_PRIVATE)
  for asks in (outputs['make'].click, inputs['prompt'].submit):
    asks(None, None, None, js=_SHOW, **following)
    asks(make, [*inputs.values(), outputs['held']], shown, **following).then(
        None, None, None, js=_MEND, **following)
  outputs['stop'].click(actions.cancel, outputs['job'], None, **following)
  page.load(restore, outputs['held'], shown, **following).then(
      None, None, None, js=_MEND, **following)


def _asked(values: Mapping[str, Any], most_levels: int) -> dict[str, Any]:
  """A request as of `asking.read`, from the values of the inputs."""
  mode = values['mode'] if values['mode'] in asking.TEXTS else 'prompt'
  asked = {name: values.get(name) for name in (*_ASKED, 'format')}
  # The slider's end means all levels, and 0 says so. The bundle may have a
  # default of fewer, which would be taken if nothing was said.
  asked['levels'] = values['levels'] if values['levels'] != most_levels else 0
  recordings = {name: values[name] for name in asking.SOUNDS if values[name]}
  # The slider has a value even without a melody, and a request that guides a
  # melody that it does not have is refused.
  if 'melody' in recordings:
    asked['guidance_melody'] = values['guidance_melody']
  # A recording needs no text, so an empty one is left out beside it. Alone it is
  # sent, because the answer then says what is missing.
  text = values[mode] or ''
  if text.strip() or not recordings:
    asked[mode] = text
    if 'like' in recordings:
      asked['like_weight'] = values['like_weight']
  return {**asked, **recordings}
