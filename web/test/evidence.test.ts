import { describe, expect, test } from 'vitest';
import { between, commonScale, layersOf } from '../src/viewer/evidence';

const cells = (...values: number[]) => btoa(String.fromCharCode(...new Uint8Array(new Float32Array(values).buffer)));
const alphas = (layer: Uint8ClampedArray) => [...layer].filter((_, i) => i % 4 === 3);

describe('evidence', () => {
  test('between the middles of two cells evidence is linear', () => {
    const values = new Float32Array([1, 3]);
    expect(between(values, 1, 2, 0, 0)).toBe(1);
    expect(between(values, 1, 2, 0, 0.25)).toBe(1.5);
    expect(between(values, 1, 2, 0, 1.4)).toBe(3);
  });

  test('a cell that was not looked at has no evidence and lends its neighbour none', () => {
    const values = new Float32Array([NaN, 2]);
    expect(between(values, 1, 2, 0, 0.2)).toBe(0);
    expect(between(values, 1, 2, 0, 0.6)).toBe(2);
  });

  test('each side has a picture of its own, on the common scale', () => {
    const layers = layersOf({ rows: 1, columns: 2, cells: cells(1, -2) }, 4);
    expect(Math.max(...alphas(layers.for))).toBe(50);
    expect(Math.max(...alphas(layers.against))).toBe(100);
  });

  test('around what was not looked at there is no line of the other colour', () => {
    const layers = layersOf({ rows: 1, columns: 2, cells: cells(NaN, 3) }, 3);
    expect(Math.max(...alphas(layers.against))).toBe(0);
  });

  test('one scale for all maps', () => {
    expect(commonScale([{ map: { scale: 0.2 } }, { map: null }, { map: { scale: 1.5 } }])).toBe(1.5);
    expect(commonScale([])).toBe(0);
  });
});
