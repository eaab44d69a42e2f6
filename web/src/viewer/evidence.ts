import type { EvidenceMap } from '../api/types';
import { floatsOf } from './base64';

export const FOR = [217, 84, 15] as const;
export const AGAINST = [30, 110, 200] as const;
const STRONGEST_ALPHA = 200;
const STEPS = 12;

/** One picture a side, to be drawn over `box` of the image. */
export interface EvidenceLayers {
  columns: number;
  rows: number;
  for: Uint8ClampedArray<ArrayBuffer>;
  against: Uint8ClampedArray<ArrayBuffer>;
}

/**
 * Colours of a feature map, each cell in `STEPS` × `STEPS` pixels.
 *
 * Values are interpolated among cells that were looked at alone, and coloured afterwards: colours interpolated between
 * an unseen cell and one of no evidence would draw a line that nothing stands behind. `scale` is common to all findings.
 */
export function layersOf(map: Pick<EvidenceMap, 'rows' | 'columns' | 'cells'>, scale: number): EvidenceLayers {
  const values = floatsOf(map.cells);
  const [rows, columns] = [map.rows * STEPS, map.columns * STEPS];
  const layers = {
    rows,
    columns,
    for: new Uint8ClampedArray(4 * rows * columns),
    against: new Uint8ClampedArray(4 * rows * columns),
  };
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const value = between(values, map.rows, map.columns, (row + 0.5) / STEPS - 0.5, (column + 0.5) / STEPS - 0.5);
      const alpha = scale > 0 ? Math.min(1, Math.abs(value) / scale) * STRONGEST_ALPHA : 0;
      const [side, colour] = value > 0 ? [layers.for, FOR] : [layers.against, AGAINST];
      side.set([...colour, Math.round(alpha)], 4 * (row * columns + column));
    }
  }
  return layers;
}

/** Bilinear at a place between cell middles; 0 within a cell that was not looked at. */
export function between(values: Float32Array, rows: number, columns: number, row: number, column: number): number {
  const within = (at: number, most: number) => Math.min(most - 1, Math.max(0, at));
  const own = values[within(Math.round(row), rows) * columns + within(Math.round(column), columns)]!;
  if (Number.isNaN(own)) return 0;
  let [sum, weights] = [0, 0];
  for (const top of [Math.floor(row), Math.floor(row) + 1]) {
    for (const left of [Math.floor(column), Math.floor(column) + 1]) {
      const value = values[within(top, rows) * columns + within(left, columns)]!;
      const weight = (1 - Math.abs(row - top)) * (1 - Math.abs(column - left));
      if (!Number.isNaN(value)) [sum, weights] = [sum + weight * value, weights + weight];
    }
  }
  return weights > 0 ? sum / weights : own;
}

/** The largest of all findings and images: a finding of which the images say little looks pale. */
export function commonScale(maps: readonly { map: Pick<EvidenceMap, 'scale'> | null }[]): number {
  return Math.max(0, ...maps.map(({ map }) => map?.scale ?? 0));
}
