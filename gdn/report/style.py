"""The page's style and its one script, which nothing on the page needs: without it there is no
slider, and the profile stays where it is."""

from __future__ import annotations

import base64
import hashlib

STYLE = """
:root{color-scheme:light dark;--fg:#222;--bg:#fff;--soft:#f3f3f3;--line:#ccc;--axis:#555;
--warn:#fff3cd;--blue:#0072b2}
@media(prefers-color-scheme:dark){:root{--fg:#e4e4e4;--bg:#16181b;--soft:#24272b;--line:#444;
--axis:#aaa;--warn:#3d3415;--blue:#56b4e9}}
*{box-sizing:border-box}
body{font:15px/1.5 system-ui,sans-serif;margin:1.5em auto;max-width:1240px;padding:0 1em;
color:var(--fg);background:var(--bg);overflow-wrap:anywhere}
a{color:var(--blue)}.scroll{overflow-x:auto}table{border-collapse:collapse;margin:1em 0}
td,th{border:1px solid var(--line);padding:.25em .6em;text-align:right;font-size:14px;
overflow-wrap:normal}
td:first-child,th:first-child{text-align:left}th{background:var(--soft)}
.p{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(270px,100%),1fr));gap:14px}
figure{margin:0}figure img{width:100%;display:block}
figcaption,svg text{font-size:12px;fill:var(--fg)}svg .t{font-weight:600}
svg{max-width:100%;height:auto}.axis{fill:none;stroke:var(--axis)}
.bar{display:flex;gap:.5em;align-items:center}
.bar i{flex:1;height:.7em;border:1px solid var(--line)}
.z{cursor:zoom-in;display:block}.z input{position:absolute;opacity:0}
.z input:focus-visible+img{outline:3px solid var(--blue)}
.z input:checked+img{position:fixed;inset:0;width:100vw;height:100vh;object-fit:contain;
background:#000;z-index:9;cursor:zoom-out}
.warn{background:var(--warn);border-left:4px solid #e69f00;padding:.4em .8em;margin:.4em 0}
.key span{margin-right:1em;white-space:nowrap}
.key i{display:inline-block;width:.8em;height:.8em;margin-right:.3em;border-radius:50%;
border:2px solid}
section{border-top:1px solid var(--line);margin-top:1.5em}
dt{font-weight:600}dd{margin:0 0 .3em 0}details{margin:.6em 0}summary{cursor:pointer}
code{background:var(--soft);padding:.1em .3em}pre{background:var(--soft);padding:.6em;
white-space:pre-wrap}
.top{display:flex;flex-wrap:wrap;gap:14px;align-items:center;margin-bottom:14px}
.compare{width:560px;max-width:100%;margin:1em 0}.stage{position:relative;cursor:crosshair}
.stage img{width:100%;display:block}.stage img+img{position:absolute;inset:0;height:100%}
.stage i{position:absolute;left:0;right:0;border-top:1px solid #56b4e9}
.compare label{display:flex;gap:.6em}.compare input{flex:1;min-width:0}
.profile{flex:1 1 400px;max-width:640px;display:block}.profile path{fill:none}
@media(max-width:600px){.profile text{font-size:16px}}
.profile .noisy{stroke:#8c8c8c;stroke-width:.8}
.profile .denoised{stroke:var(--blue);stroke-width:1.6}
.profile .band{fill:var(--blue);opacity:.25}
"""

SCRIPT = """
for (const section of document.querySelectorAll('section')) {
  const box = section.querySelector('.compare'), chart = section.querySelector('.profile');
  const [noisy, denoised] = section.querySelectorAll('figure img');
  if (!box || !denoised) continue;
  const stage = box.querySelector('.stage'), range = box.querySelector('input');
  const before = new Image(), after = new Image(), line = document.createElement('i');
  before.src = noisy.src; after.src = denoised.src;
  before.alt = 'before'; after.alt = 'after';
  stage.append(before, after);
  const slide = () => { after.style.clipPath = `inset(0 0 0 ${range.value}%)`; };
  range.addEventListener('input', slide);
  slide();
  box.hidden = false;
  if (!chart) continue;
  stage.append(line);
  const rows = +chart.dataset.rows, columns = +chart.dataset.columns;
  const bytes = name => Uint8Array.from(atob(chart.dataset[name]), c => c.charCodeAt(0));
  const data = {noisy: bytes('noisy'), denoised: bytes('denoised'), spread: bytes('spread')};
  const x = k => (52 + (k + 0.5) / columns * 580).toFixed(1);
  const y = v => (166 - Math.min(255, Math.max(0, v)) / 255 * 156).toFixed(1);
  const draw = row => {
    const of = name => Array.from(data[name].subarray(row * columns, (row + 1) * columns));
    const noise = of('noisy'), clean = of('denoised'), spread = of('spread');
    const points = values => values.map((v, k) => x(k) + ' ' + y(v));
    const set = (name, d) => chart.querySelector('.' + name).setAttribute('d', d);
    set('noisy', 'M' + points(noise).join('L'));
    set('denoised', 'M' + points(clean).join('L'));
    const upper = points(clean.map((v, k) => v + spread[k]));
    const lower = points(clean.map((v, k) => v - spread[k])).reverse();
    set('band', 'M' + upper.concat(lower).join('L') + 'Z');
    line.style.top = 100 * (row + 0.5) / rows + '%';
    chart.querySelector('.where').textContent = `row at ${(100 * (row + .5) / rows).toFixed(0)} %`;
  };
  draw(Math.floor(rows / 2));
  stage.addEventListener('click', event => {
    const area = stage.getBoundingClientRect();
    const row = Math.floor((event.clientY - area.top) / area.height * rows);
    draw(Math.min(rows - 1, Math.max(0, row)));
  });
}
"""


def policy() -> str:
    """The page's own rule for browsers: nothing is fetched, and no script runs but SCRIPT. So a
    file's name cannot bring one in."""
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    rule = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'"
    )
    return f'<meta http-equiv="Content-Security-Policy" content="{rule}">'
