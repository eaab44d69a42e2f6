const tabs = [...document.querySelectorAll('[role=tab]')];
const choose = chosen => tabs.forEach(tab => {
  tab.setAttribute('aria-selected', tab === chosen);
  tab.tabIndex = tab === chosen ? 0 : -1;
  document.getElementById(tab.getAttribute('aria-controls')).hidden = tab !== chosen;
});
tabs.forEach((tab, i) => {
  tab.addEventListener('click', () => choose(tab));
  tab.addEventListener('keydown', event => {
    const step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
    if (step) { const next = tabs[(i + step + tabs.length) % tabs.length]; next.focus(); choose(next); }
  });
});
const shown = {for: true, against: true, opacity: 70};
const all = selector => document.querySelectorAll(selector);
const paint = change => {
  Object.assign(shown, change);
  for (const side of ['for', 'against']) {
    all(`.overlay.${side}`).forEach(overlay => { overlay.style.opacity = shown[side] ? shown.opacity / 100 : 0; });
    all(`.toggle[value=${side}]`).forEach(toggle => { toggle.checked = shown[side]; });
  }
  all('.opacity').forEach(slider => { slider.value = shown.opacity; });
};
all('.toggle').forEach(toggle => toggle.addEventListener('change', () => paint({[toggle.value]: toggle.checked})));
all('.opacity').forEach(slider => slider.addEventListener('input', () => paint({opacity: slider.value})));
