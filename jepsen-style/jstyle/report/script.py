"""What the page does when it is touched: hints, jumps, choosing among orders, a hair line over the strips.

Rule: a constant; nothing of a history is ever part of it. Texts are read from attributes and set as text.
"""

from __future__ import annotations

from typing import Final

SCRIPT: Final = """
'use strict';
const tip = document.getElementById('tip');
function place(event) {
  const box = tip.getBoundingClientRect();
  const x = Math.min(event.clientX + 14, innerWidth - box.width - 8);
  const below = event.clientY + 18;
  tip.style.left = Math.max(x, 8) + 'px';
  tip.style.top = (below + box.height > innerHeight ? event.clientY - box.height - 12 : below) + 'px';
}
document.addEventListener('mousemove', (event) => {
  const found = event.target instanceof Element ? event.target.closest('[data-tip]') : null;
  tip.style.display = found ? 'block' : 'none';
  if (found) {
    if (tip.textContent !== found.dataset.tip) tip.textContent = found.dataset.tip;
    place(event);
  }
});
function jump(box, where, behavior) {
  const left = Math.max(Number(where.x) - box.clientWidth / 2, 0);
  const top = Math.max(Number(where.y) - box.clientHeight / 2, 0);
  box.scrollTo({ left, top, behavior });
}
for (const box of document.querySelectorAll('.lanes')) jump(box, box.dataset, 'instant');
for (const button of document.querySelectorAll('[data-jump]')) {
  button.addEventListener('click', () => {
    const box = button.closest('.linear').querySelector('.lanes');
    box.scrollIntoView({ block: 'nearest' });
    jump(box, button.dataset, 'smooth');
  });
}
for (const button of document.querySelectorAll('[data-show]')) {
  button.addEventListener('click', () => {
    const view = button.closest('.linear');
    for (const other of view.querySelectorAll('[data-show]'))
      other.setAttribute('aria-pressed', String(other === button));
    for (const part of view.querySelectorAll('[data-prefix]'))
      part.classList.toggle('hidden', part.dataset.prefix !== button.dataset.show);
  });
}
for (const strips of document.querySelectorAll('.strips')) {
  const hair = document.createElement('div');
  hair.className = 'hair';
  strips.appendChild(hair);
  strips.addEventListener('mousemove', (event) => {
    const box = strips.getBoundingClientRect();
    hair.style.left = (event.clientX - box.left) + 'px';
    hair.style.display = 'block';
  });
  strips.addEventListener('mouseleave', () => { hair.style.display = 'none'; });
}
"""
