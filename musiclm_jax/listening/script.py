"""What the raters' page does: plays, waits until both are heard, sends."""

SCRIPT = '''
'use strict';
const $ = id => document.getElementById(id);
const sides = ['a', 'b'];
const audio = side => $('audio-' + side);
let shown = null;  // what the server said last
let sending = false;

function problem(text) {
  $('problem').textContent = text;
  $('problem').hidden = !text;
}

async function ask(path, body) {
  const options = body === undefined ? {} : {
    method: 'POST', body: JSON.stringify(body),
    headers: {'Content-Type': 'application/json'}};
  let reply;
  try {
    reply = await fetch(path, options);
  } catch {
    throw new Error('There is no connection. Your answer is still here: ' +
                    'please try again.');
  }
  const said = await reply.json().catch(() => ({}));
  if (!reply.ok)
    throw new Error(said.error || 'Something went wrong; please try again.');
  return said;
}

// Seconds that were played, each counted once however often.
function heard(side) {
  const played = audio(side).played;
  let total = 0;
  for (let i = 0; i < played.length; i++)
    total += played.end(i) - played.start(i);
  return total;
}

// The player's clock is coarse at the ends of what it played. The server allows
// a little more.
const missing = side => Math.max(0, shown.hear_seconds - heard(side) - 0.3);

function look() {
  if (!shown || shown.state != 'trial') return;
  for (const side of sides) {
    const sound = audio(side), left = missing(side);
    $('player-' + side).classList.toggle('on', !sound.paused);
    $('play-' + side).setAttribute('aria-label',
        (sound.paused ? 'Play ' : 'Pause ') + side.toUpperCase());
    if (sound.duration)
      $('seek-' + side).value = 1000 * sound.currentTime / sound.duration;
    const text = left ? Math.ceil(left) + ' s to hear' : 'heard';
    if ($('heard-' + side).textContent != text)
      $('heard-' + side).textContent = text;
  }
  const waiting = sides.some(missing);
  const hint = waiting ? 'Listen to both, then choose.' : 'Choose one.';
  if ($('hint').textContent != hint) $('hint').textContent = hint;
  $('answers').disabled = waiting;
  $('next').disabled = waiting || sending ||
      !document.querySelector('[name=answer]:checked');
}

function show(said) {
  const fresh = !shown || shown.trial != said.trial;
  shown = said;
  for (const name of ['intro', 'trial', 'done'])
    $(name).hidden = name != {new: 'intro'}[said.state] && name != said.state;
  if (said.state == 'done') {
    sides.forEach(side => audio(side).pause());
    $('thanks').textContent = said.rated ?
        'All ' + said.rated + ' of your answers are kept.' :
        'All answers that were needed have been given already.';
  }
  if (said.state != 'trial' || !fresh) return;
  $('count').textContent = (said.rated + 1) + ' of ' + said.total;
  document.querySelector('.bar i').style.width =
      100 * said.rated / said.total + '%';
  $('caption').textContent = said.caption;
  $('caption').hidden = !said.caption;
  for (const choice of document.querySelectorAll('[name=answer]'))
    choice.checked = false;
  $('comment').value = '';
  $('more').open = false;
  for (const side of sides) {
    audio(side).src = '/sound/' + said.trial + '/' + side + '.wav';
    audio(side).load();
    $('seek-' + side).value = 0;
  }
  scrollTo(0, 0);
  look();
}

function play(side) {
  const sound = audio(side);
  if (!sound.paused) return sound.pause();
  audio(side == 'a' ? 'b' : 'a').pause();
  sound.play().catch(error => {
    if (error.name != 'AbortError')
      problem(side.toUpperCase() + ' could not be played; please load the ' +
              'page again.');
  });
}

async function send() {
  const choice = document.querySelector('[name=answer]:checked');
  if ($('next').disabled || sending || !choice) return;
  sending = true;
  look();
  try {
    const said = await ask('/api/answer', {
      trial: shown.trial, answer: Number(choice.value),
      comment: $('comment').value,
      heard_a: heard('a'), heard_b: heard('b')});
    problem('');
    show(said);
    $('caption').focus({preventScroll: true});
  } catch (error) {
    problem(error.message);
  } finally {
    sending = false;
    look();
  }
}

async function begin() {
  $('begin').disabled = true;
  try {
    await ask('/api/begin', {});
    const said = await ask('/api/where');
    if (said.state == 'new')
      throw new Error('This test needs a cookie to know where you are; ' +
                      'please allow it for this page.');
    problem('');
    show(said);
  } catch (error) {
    problem(error.message);
  } finally {
    $('begin').disabled = false;
  }
}

for (const side of sides) {
  $('play-' + side).onclick = () => play(side);
  $('seek-' + side).oninput = event => {
    const sound = audio(side);
    if (sound.duration)
      sound.currentTime = event.target.value / 1000 * sound.duration;
  };
  for (const event of ['timeupdate', 'play', 'pause', 'ended', 'seeked',
                       'loadedmetadata'])
    audio(side).addEventListener(event, look);
  audio(side).addEventListener('error', () => problem(
      side.toUpperCase() + ' could not be loaded; please load the page again.'));
}
$('answers').addEventListener('change', look);
$('begin').onclick = begin;
$('next').onclick = send;
document.addEventListener('keydown', event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat ||
      event.target.matches('textarea') || $('trial').hidden) return;
  const key = event.key.toLowerCase();
  if (sides.includes(key)) {
    play(key);
  } else if ('12345'.includes(key) && !$('answers').disabled) {
    document.querySelectorAll('[name=answer]')[key - 1].checked = true;
    look();
  } else if (key == 'enter' && !event.target.matches('button, summary')) {
    send();
  } else {
    return;
  }
  event.preventDefault();
});
ask('/api/where').then(show, error => problem(error.message));
'''
