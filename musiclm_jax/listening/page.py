"""The page that raters see: one HTML file, for phones first."""

import html

from musiclm_jax.listening import design
from musiclm_jax.listening import script

STYLE = '''
:root { color-scheme: light dark; --back: #f6f5f2; --card: #fff;
  --ink: #1d1c1a; --soft: #5d5a54; --line: #d8d5cd; --a: #1b5fae; --b: #a8480f;
  --a-soft: #e4eefa; --b-soft: #fbeade; --none: #5d5a54; --none-soft: #ecebe6;
  --good: #fff; --wrong: #a1161d; }
@media (prefers-color-scheme: dark) { :root { --back: #161614; --card: #21211e;
  --ink: #efede7; --soft: #aeaaa0; --line: #3d3c37; --a: #86b9f5; --b: #f2a772;
  --a-soft: #1c2c40; --b-soft: #3b2719; --none: #c4c0b6; --none-soft: #33322d;
  --good: #161614; --wrong: #ff9b96; } }
* { box-sizing: border-box; }
[hidden] { display: none !important; }
body { margin: 0; background: var(--back); color: var(--ink);
  font: 16px/1.45 system-ui, -apple-system, "Segoe UI", sans-serif;
  -webkit-text-size-adjust: 100%; }
main { max-width: 46rem; margin: 0 auto; padding: 14px 14px 28px; }
h1 { font-size: 1.5rem; margin: 1.2rem 0 .6rem; letter-spacing: -.01em; }
p { margin: 0 0 .8rem; } li { margin: 0 0 .45rem; }
ul { padding-left: 1.2rem; margin: 0 0 1.2rem; }
.soft { color: var(--soft); }
.where { display: flex; align-items: center; gap: 12px; font-size: .85rem;
  color: var(--soft); margin: 0 0 10px; font-variant-numeric: tabular-nums; }
.bar { flex: 1; height: 6px; border-radius: 3px; background: var(--line);
  overflow: hidden; }
.bar i { display: block; height: 100%; width: 0; background: var(--ink);
  border-radius: 3px; transition: width .3s; }
#caption { margin: 0 0 10px; padding: 12px 14px; background: var(--card);
  border: 1px solid var(--line); border-radius: 12px; font-size: 1.05rem;
  overflow-wrap: anywhere; max-height: 32vh; overflow-y: auto; }
#question { font-size: .92rem; margin: 0 0 10px; }
.players { display: grid; grid-template-columns: 1fr 1fr; gap: 10px;
  margin: 0 0 12px; }
.player { background: var(--card); border: 1px solid var(--line);
  border-radius: 12px; padding: 10px 10px 6px; }
.player.on { border-color: var(--own); box-shadow: 0 0 0 1px var(--own); }
.a { --own: var(--a); --own-soft: var(--a-soft); }
.b { --own: var(--b); --own-soft: var(--b-soft); }
.none { --own: var(--none); --own-soft: var(--none-soft); }
.play { display: flex; align-items: center; justify-content: center; gap: 10px;
  width: 100%; min-height: 58px; border: 0; border-radius: 9px;
  background: var(--own); color: var(--good); font: inherit; font-weight: 700;
  font-size: 1.3rem; cursor: pointer; touch-action: manipulation; }
.play svg { width: 20px; height: 20px; fill: currentColor; }
.play .pause, .on .play .go { display: none; }
.on .play .pause { display: block; }
.player input { width: 100%; height: 26px; margin: 4px 0 0; cursor: pointer;
  accent-color: var(--own); }
.heard { font-size: .8rem; color: var(--soft); text-align: center;
  min-height: 1.2em; font-variant-numeric: tabular-nums; }
.answers { border: 0; padding: 0; margin: 0 0 10px; display: grid; gap: 7px;
  min-width: 0; }
legend { padding: 0; font-size: .85rem; color: var(--soft);
  margin: 0 0 6px; min-height: 1.3em; }
.answers label { position: relative; display: flex; align-items: center;
  justify-content: center; min-height: 48px; padding: 6px 12px;
  text-align: center; border: 1px solid var(--line); border-radius: 10px;
  background: var(--card); font-weight: 600; cursor: pointer;
  color: var(--own); touch-action: manipulation; }
.answers input { position: absolute; opacity: 0; inset: 0; width: 100%;
  height: 100%; margin: 0; cursor: inherit; }
.answers label:has(:checked) { background: var(--own-soft);
  border-color: var(--own); box-shadow: inset 0 0 0 1px var(--own); }
.answers label:has(:focus-visible), button:focus-visible,
textarea:focus-visible, summary:focus-visible { outline: 3px solid var(--own,
  var(--ink)); outline-offset: 2px; }
.answers:disabled label { opacity: .45; cursor: default; }
kbd { display: none; font: inherit; font-size: .75rem; color: var(--soft); }
summary { cursor: pointer; color: var(--soft); font-size: .92rem;
  padding: 8px 0; }
textarea { width: 100%; min-height: 4.5em; padding: 10px; font: inherit;
  color: inherit; background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; }
.main { display: block; width: 100%; min-height: 54px; margin: 8px 0 0;
  border: 0; border-radius: 10px; background: var(--ink); color: var(--back);
  font: inherit; font-weight: 700; font-size: 1.05rem; cursor: pointer;
  touch-action: manipulation; }
.main:disabled { opacity: .35; cursor: default; }
#problem { position: sticky; bottom: 10px; margin: 10px 0 0; padding: 12px 14px;
  border: 1px solid var(--wrong); border-radius: 10px; color: var(--wrong);
  background: var(--card); font-weight: 600; }
@media (min-width: 640px) {
  main { padding: 28px 20px; }
  .answers { grid-template-columns: repeat(5, 1fr); }
  .answers legend { grid-column: 1 / -1; }
  .answers label { flex-direction: column; min-height: 72px; padding: 8px 4px; }
}
@media (max-width: 639px) and (max-height: 720px) {
  .play { min-height: 48px; } .answers label { min-height: 44px; }
  .answers { gap: 5px; } .players { margin-bottom: 6px; } }
@media (hover: hover) and (min-width: 640px) { kbd { display: block; } }
@media (prefers-reduced-motion: reduce) { .bar i { transition: none; } }
'''

_BODY = '''
<main>
<section id="intro" hidden>
<h1>Listening test</h1>
<p>You will hear pairs of short pieces of music, and say of each pair:</p>
<p><b>{question}</b></p>
<ul>
<li>Use headphones if you can, and set the volume so that it is pleasant.</li>
<li>Listen to A and to B; you may go back and forth as often as you like.</li>
<li>There are no wrong answers. &ldquo;No preference&rdquo; is one, too.</li>
<li>Each answer is kept at once. You may close the page and go on later, in
this browser.</li>
</ul>
<p class="soft">Your answers and comments are kept without your name. One cookie
remembers where you are.</p>
<button class="main" id="begin">Begin</button>
</section>
<section id="trial" hidden>
<div class="where"><span id="count"></span><span class="bar"><i></i></span></div>
<p id="caption" tabindex="-1"></p>
<p id="question">{question}</p>
<div class="players">{players}</div>
<fieldset class="answers" id="answers" disabled>
<legend id="hint" aria-live="polite"></legend>{answers}
</fieldset>
<details id="more"><summary>Add a comment (optional)</summary>
<textarea id="comment" maxlength="2000" aria-label="Comment"></textarea>
</details>
<button class="main" id="next" disabled>Next</button>
</section>
<section id="done" hidden>
<h1>Thank you</h1>
<p id="thanks"></p>
<p class="soft">You can close this page.</p>
</section>
<p id="problem" role="alert" hidden></p>
<noscript><p>This page needs JavaScript to play and to keep answers.</p></noscript>
</main>
'''

_PLAYER = '''
<div class="player {side}" id="player-{side}">
<button class="play" id="play-{side}" aria-label="Play {name}">
<svg class="go" viewBox="0 0 20 20" aria-hidden="true"><path d="M4 2l14 8-14 8z"/>
</svg><svg class="pause" viewBox="0 0 20 20" aria-hidden="true">
<path d="M4 2h4v16H4zM12 2h4v16h-4z"/></svg>{name}</button>
<input type="range" id="seek-{side}" min="0" max="1000" value="0"
aria-label="Place in {name}">
<div class="heard" id="heard-{side}"></div>
<audio id="audio-{side}" preload="auto"></audio>
</div>'''

_ANSWER = '''
<label class="{side}"><input type="radio" name="answer" value="{value}">
<span>{words}</span><kbd>{key}</kbd></label>'''


def content(question: str) -> str:
  """The whole page."""
  players = ''.join(_PLAYER.format(side=side, name=side.upper())
                    for side in 'ab')
  answers = ''.join(
      _ANSWER.format(value=value, words=words, key=key,
                     side='a' if value < 0 else 'b' if value else 'none')
      for key, (value, words) in enumerate(design.ANSWERS.items(), 1))
  return (
      '<!doctype html><html lang="en"><meta charset="utf-8">'
      '<meta name="viewport" content="width=device-width, initial-scale=1">'
      '<link rel="icon" href="data:,"><title>Listening test</title>'
      f'<style>{STYLE}</style>' +
      _BODY.format(question=html.escape(question), players=players,
                   answers=answers) +
      f'<script>{script.SCRIPT}</script></html>\n')
