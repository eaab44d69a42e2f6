import type { ImageInformation } from '../api/types';

/** Stored words of one image, row by row. */
export type Words = Uint8Array | Uint16Array | Int8Array | Int16Array;

/** What was received is not the image that the study describes. */
export class UnreadablePixels extends Error {}

type Shape = Pick<ImageInformation, 'rows' | 'columns' | 'bits' | 'signed'>;

/** Words of a body as the service sends it: little endian, as browsers are, raw or as differences within each row. */
export function decodeWords(body: ArrayBuffer, encoding: string, shape: Shape): Words {
  const { rows, columns, bits, signed } = shape;
  const size = bits > 8 ? 2 : 1;
  const expected = rows * columns * size;
  if (body.byteLength !== expected) {
    throw new UnreadablePixels(`${body.byteLength} bytes, expected ${expected}`);
  }
  const words = size === 2 ? (signed ? new Int16Array(body) : new Uint16Array(body)) : signed ? new Int8Array(body) : new Uint8Array(body);
  if (encoding === 'delta') addUp(words, columns);
  else if (encoding !== 'raw') throw new UnreadablePixels(`encoding ${encoding}, expected raw or delta`);
  return words;
}


/** Each word but a row's first is the difference from its left neighbour; typed arrays wrap around as the sender does. */
function addUp(words: Words, columns: number): void {
  for (let row = 0; row < words.length; row += columns) {
    const end = row + columns;
    for (let i = row + 1; i < end; i++) words[i] = words[i]! + words[i - 1]!;
  }
}

export async function hexDigest(words: Words): Promise<string> {
  const digest = await crypto.subtle.digest('SHA-256', words as Words & { buffer: ArrayBuffer });
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

export function extremes(words: Words): { low: number; high: number } {
  let low = words[0]!;
  let high = low;
  for (let i = 1; i < words.length; i++) {
    const word = words[i]!;
    if (word < low) low = word;
    else if (word > high) high = word;
  }
  return { low, high };
}
