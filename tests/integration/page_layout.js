// What is cut off, overlaps, or is too small on the page (on its open dialog, where there is one): a sentence each.
() => {
  const found = new Set();
  const dialog = document.querySelector('dialog[open]');
  const top = dialog ?? document.body;
  const name = (one) => `${one.tagName.toLowerCase()}${[...one.classList].map((each) => '.' + each).join('')} "${(one.textContent || one.value || '').trim().replace(/\s+/g, ' ').slice(0, 40)}"`;
  const opacity = (one) => getComputedStyle(one).opacity;
  const unseen = (one) => one.closest('.hidden, .skip, option') || (!dialog && one.closest('dialog')) || !one.checkVisibility({ visibilityProperty: true })
    || getComputedStyle(one.closest('thead') ?? one).clipPath !== 'none' || opacity(one) === '0';

  const texts = [];
  const walker = document.createTreeWalker(top, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const { currentNode: node } = walker;
    const owner = node.parentElement;
    if (!node.data.trim() || unseen(owner)) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    texts.push(...[...range.getClientRects()].filter(({ width, height }) => width > 1 && height > 1).map((box) => ({ owner, box })));
  }
  const controls = [...top.querySelectorAll('button, .button, input, select, textarea, a, summary')].filter((one) => !unseen(one));
  const pictures = [...top.querySelectorAll('canvas, svg')].filter((one) => !unseen(one) && !one.parentElement.closest('svg'));
  const boxes = [...controls, ...pictures].map((owner) => ({ owner, box: owner.getBoundingClientRect() }));

  const width = document.documentElement.scrollWidth;
  if (width > innerWidth) found.add(`the page is ${width} px wide in a window of ${innerWidth}`);
  for (const { owner, box } of [...texts, ...boxes]) {
    if ((box.left < -1 || box.right > innerWidth + 1) && !owner.closest('.scroll')) found.add(`beyond the window: ${name(owner)}`);
    for (let around = owner.parentElement; around && around !== document.body; around = around.parentElement) {
      const { overflowX, overflowY } = getComputedStyle(around);
      if (overflowX === 'visible' && overflowY === 'visible') continue;
      const frame = around.getBoundingClientRect();
      const beyond = box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1 || box.bottom > frame.bottom + 1;
      if (beyond && !/auto|scroll/.test(overflowX + overflowY)) found.add(`cut off: ${name(owner)} by ${name(around)}`);
      break;
    }
  }
  texts.forEach((one, at) => {
    for (const other of texts.slice(at + 1)) {
      if (one.owner === other.owner) continue;
      const across = Math.min(one.box.right, other.box.right) - Math.max(one.box.left, other.box.left);
      const down = Math.min(one.box.bottom, other.box.bottom) - Math.max(one.box.top, other.box.top);
      if (across > 2 && down > 4) found.add(`overlap: ${name(one.owner)}, ${name(other.owner)}`);
    }
  });
  const pen = document.createElement('canvas').getContext('2d');
  for (const one of controls) {
    const box = one.getBoundingClientRect();
    const style = getComputedStyle(one);
    const inner = box.width - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    pen.font = style.font;
    if (one.matches('button, .button') && one.scrollWidth > one.clientWidth + 1) found.add(`wider than its control: ${name(one)}`);
    if (one.matches('select') && pen.measureText(one.selectedOptions[0]?.text ?? '').width > inner - 16) found.add(`wider than its control: ${one.selectedOptions[0].text}`);
    if (one.matches('input[placeholder]') && pen.measureText(one.placeholder).width > inner) found.add(`wider than its control: ${one.placeholder}`);
    const target = (one.closest('label') ?? one).getBoundingClientRect();
    const inLine = one.matches('a:not(.button)') && style.display === 'inline';
    if ((target.width < 24 || target.height < 24) && !inLine) found.add(`a target of less than 24 px: ${name(one)}`);
  }
  return [...found];
}
