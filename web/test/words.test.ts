import { describe, expect, test } from 'vitest';
import { decodeWords, extremes, hexDigest, UnreadablePixels } from '../src/viewer/words';

const shape = { rows: 2, columns: 3, bits: 16, signed: false };
const sixteen = (...words: number[]) => new Uint16Array(words).buffer;

describe('words', () => {
  test('raw words are read little endian', () => {
    const body = new Uint8Array([1, 0, 0, 1, 255, 255, 2, 0, 3, 0, 4, 0]).buffer;
    expect([...decodeWords(body, 'raw', shape)]).toEqual([1, 256, 65535, 2, 3, 4]);
  });

  test('differences are added up within each row, and wrap around', () => {
    const body = sixteen(10, 65535, 1, 65535, 2, 0);
    expect([...decodeWords(body, 'delta', shape)]).toEqual([10, 9, 10, 65535, 1, 1]);
  });

  test('signed words stay signed', () => {
    const words = decodeWords(new Int16Array([-5, 3, 1, 0, -1, 32767]).buffer, 'delta', { ...shape, signed: true });
    expect([...words]).toEqual([-5, -2, -1, 0, -1, 32766]);
  });

  test('words of eight bits', () => {
    expect([...decodeWords(new Uint8Array([1, 2, 253, 9, 9, 9]).buffer, 'delta', { ...shape, bits: 8 })]).toEqual([1, 3, 0, 9, 18, 27]);
    expect([...decodeWords(new Uint8Array([255, 2, 0, 0, 0, 0]).buffer, 'raw', { ...shape, bits: 8, signed: true })]).toEqual([-1, 2, 0, 0, 0, 0]);
  });

  test('a body of another length is refused', () => {
    expect(() => decodeWords(sixteen(1, 2, 3), 'raw', shape)).toThrow(new UnreadablePixels('6 bytes, expected 12'));
  });

  test('an encoding that is not known is refused', () => {
    expect(() => decodeWords(sixteen(1, 2, 3, 4, 5, 6), 'zstd', shape)).toThrow(UnreadablePixels);
  });

  test('the digest is that of the little-endian bytes', async () => {
    expect(await hexDigest(new Uint16Array([0x6261, 0x0063]))).toBe('dc1114cd074914bd872cc1f9a23ec910ea2203bc79779ab2e17da25782a624fc');
  });

  test('lowest and highest word', () => {
    expect(extremes(new Int16Array([3, -7, 12, 0]))).toEqual({ low: -7, high: 12 });
  });
});
