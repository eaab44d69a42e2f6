import { describe, expect, test } from 'vitest';
import { colours, nearestWindow, rangeOf, tableOf, windowed } from '../src/viewer/greys';

const lut = (first: number, greys: number[]) => ({ kind: 'lut' as const, first, greys: btoa(String.fromCharCode(...greys)) });
const ramp = Array.from({ length: 256 }, (_, i) => i);
const image = (changes = {}) => ({ table: lut(0, ramp), padding: null, quantity: { slope: 1, intercept: 0 }, photometric: 'MONOCHROME2', ...changes });

describe('greys', () => {
  test('the table is the one that was sent', () => {
    expect(tableOf(image({ table: lut(-2, [0, 7, 255]) }))).toEqual({ from: -2, greys: new Uint8Array([0, 7, 255]) });
    expect([...tableOf({ table: { kind: 'identity8', first: null, greys: null } }).greys]).toEqual(ramp);
  });

  test('a window is that of DICOM PS3.3 C.11.2.1.2.1', () => {
    const shown = image({ table: lut(0, Array<number>(4096).fill(0)) });
    const { greys } = windowed(shown, tableOf(shown), { center: 2048, width: 4096 });
    expect([greys[0], greys[2047], greys[2048], greys[4095]]).toEqual([0, 127, 128, 255]);
    const narrow = windowed(shown, tableOf(shown), { center: 100, width: 1 }).greys;
    expect([narrow[99], narrow[100]]).toEqual([0, 255]);
  });

  test('MONOCHROME1 is reversed, and padding is black in both', () => {
    for (const [photometric, first, last] of [['MONOCHROME2', 0, 255], ['MONOCHROME1', 255, 0]] as const) {
      const shown = image({ photometric, padding: { low: 250, high: 251 } });
      const { greys } = windowed(shown, tableOf(shown), { center: 128, width: 256 });
      expect([greys[0], greys[249] !== 0, greys[250], greys[251], greys[255]]).toEqual([first, true, 0, 0, last]);
    }
  });

  test('a window is about the quantity, not the word', () => {
    const shown = image({ quantity: { slope: 2, intercept: -100 } });
    const { greys } = windowed(shown, tableOf(shown), { center: 100, width: 100 });
    expect([greys[74], greys[100], greys[125]]).toEqual([0, 129, 255]);
  });

  test('where a word measures nothing a window is about the greys shown', () => {
    const shown = image({ table: lut(0, [200, 100, 0]), quantity: null, photometric: 'PALETTE COLOR' });
    expect([...windowed(shown, tableOf(shown), { center: 100.5, width: 101 }).greys]).toEqual([255, 128, 0]);
    expect(rangeOf(shown, tableOf(shown))).toBe(256);
  });

  test('the window that a table is made of is found again', () => {
    const shown = image({ table: lut(0, Array<number>(4096).fill(0)) });
    const table = windowed(shown, tableOf(shown), { center: 1800, width: 2200 });
    const { center, width } = nearestWindow(shown, table);
    expect(Math.abs(center - 1800)).toBeLessThan(12);
    expect(Math.abs(width - 2200)).toBeLessThan(30);
  });

  test('inverting leaves padding black', () => {
    const table = { from: 4, greys: new Uint8Array([0, 1, 255, 0]) };
    const padded = { padding: { low: 7, high: 9 } };
    expect([...colours(table, false, padded).pixels]).toEqual([0xff000000, 0xff010101, 0xffffffff, 0xff000000]);
    expect([...colours(table, true, padded).pixels]).toEqual([0xffffffff, 0xfffefefe, 0xff000000, 0xff000000]);
  });
});
