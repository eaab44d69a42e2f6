/** A made-up chest film: nothing of it comes from a patient. */

export function film(rows, columns, seed = 1, mass = false) {
  let state = seed;
  const random = () => ((state = (state * 1664525 + 1013904223) >>> 0) / 2 ** 32) - 0.5;
  const words = new Uint16Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      words[row * columns + column] = Math.max(0, Math.min(4095, Math.round(grey(row / rows, column / columns, mass) + 60 * random())));
    }
  }
  return words;
}

function grey(y, x, mass) {
  const body = ellipse(y, x, 0.62, 0.5, 0.62, 0.47);
  if (body < 0) return 90;
  const lungs = Math.max(ellipse(y, x, 0.46, 0.3, 0.31, 0.145), ellipse(y, x, 0.45, 0.69, 0.33, 0.16));
  const heart = ellipse(y, x, 0.6, 0.55, 0.15, 0.15);
  const spine = Math.abs(x - 0.5) < 0.045 ? 520 : 0;
  const lung = lungs > 0 ? -1500 * Math.min(1, lungs * 2.4) : 0;
  const ribs = lungs > 0 ? 210 * Math.max(0, Math.sin(40 * (y + 0.55 * (x - 0.5) ** 2 * (x < 0.5 ? 1.6 : 1.6)))) ** 3 : 0;
  const clavicle = Math.abs(y - 0.16 - 0.12 * Math.abs(x - 0.5)) < 0.012 && Math.abs(x - 0.5) < 0.34 ? 300 : 0;
  const shadow = mass ? 1100 * Math.max(0, ellipse(y, x, 0.62, 0.3, 0.09, 0.08)) : 0;
  return 2350 + 500 * Math.min(1, body * 3) + lung + ribs + spine + clavicle + shadow + (heart > 0 ? 900 * Math.min(1, heart * 3) : 0);
}

function ellipse(y, x, middleY, middleX, radiusY, radiusX) {
  return 1 - Math.hypot((y - middleY) / radiusY, (x - middleX) / radiusX);
}
