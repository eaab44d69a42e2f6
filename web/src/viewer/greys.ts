import type { ImageInformation } from '../api/types';
import { bytesOf } from './base64';

/** A grey for each word from `from` on. */
export interface Greys {
  from: number;
  greys: Uint8Array;
}

export interface Window {
  center: number;
  width: number;
}

type Shown = Pick<ImageInformation, 'table' | 'padding' | 'quantity' | 'photometric'>;

/** The greys that the model's own reading gives each word. */
export function tableOf(image: Pick<ImageInformation, 'table'>): Greys {
  const { first, greys } = image.table;
  if (first === null || greys === null) return { from: 0, greys: Uint8Array.from({ length: 256 }, (_, i) => i) };
  return { from: first, greys: bytesOf(greys) };
}

/** Greys of a linear window (DICOM PS3.3 C.11.2.1.2.1); padding is black whatever the window. */
export function windowed(image: Shown, table: Greys, window: Window): Greys {
  const width = Math.max(1, window.width);
  const reversed = image.quantity !== null && image.photometric === 'MONOCHROME1';
  const greys = new Uint8Array(table.greys.length);
  for (let i = 0; i < greys.length; i++) {
    const word = table.from + i;
    if (isPadding(image, word)) continue;
    const grey = ((quantityOf(image, table, i) - (window.center - 0.5)) / Math.max(1, width - 1) + 0.5) * 255;
    const shown = Math.min(255, Math.max(0, Math.round(grey)));
    greys[i] = reversed ? 255 - shown : shown;
  }
  return { from: table.from, greys };
}

/** The linear window nearest to a table: where the reader's own window begins, so that the picture does not jump. */
export function nearestWindow(image: Shown, table: Greys): Window {
  const quarter = quantityAt(image, table, 64);
  const most = quantityAt(image, table, 191);
  const width = Math.max(1, Math.abs(most - quarter) * 2);
  return { center: (quarter + most) / 2, width };
}

function quantityAt(image: Shown, table: Greys, grey: number): number {
  let best = 0;
  let distance = Infinity;
  for (let i = 0; i < table.greys.length; i++) {
    const away = Math.abs(table.greys[i]! - grey);
    if (away < distance && !isPadding(image, table.from + i)) [best, distance] = [i, away];
  }
  return quantityOf(image, table, best);
}

/** What a window is about: where a word is no measure of anything, the grey that it is shown in. */
export function quantityOf(image: Pick<Shown, 'quantity'>, table: Greys, at: number): number {
  return image.quantity ? image.quantity.slope * (table.from + at) + image.quantity.intercept : table.greys[at]!;
}

/** How far apart the quantities of the image lie. */
export function rangeOf(image: Pick<Shown, 'quantity'>, table: Greys): number {
  return image.quantity ? Math.abs(image.quantity.slope) * table.greys.length : 256;
}

function isPadding(image: Pick<Shown, 'padding'>, word: number): boolean {
  return image.padding !== null && word >= image.padding.low && word <= image.padding.high;
}

/** Opaque pixels, in the byte order of a canvas on this machine, for each grey; padding stays black, inverted too. */
export function colours({ from, greys }: Greys, inverted: boolean, image: Pick<Shown, 'padding'>): { from: number; pixels: Uint32Array } {
  const pixels = new Uint32Array(greys.length);
  for (let i = 0; i < greys.length; i++) {
    const grey = inverted && !isPadding(image, from + i) ? 255 - greys[i]! : greys[i]!;
    pixels[i] = (0xff000000 | (grey << 16) | (grey << 8) | grey) >>> 0;
  }
  return { from, pixels };
}
