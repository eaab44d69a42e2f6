import type { Point } from './geometry';

export type Tool = 'window' | 'pan' | 'zoom' | 'length' | 'angle';

export interface Measure {
  kind: 'length' | 'angle';
  points: Point[];
}

export type Spacing = [number, number] | null;

export const POINTS = { length: 2, angle: 3 } as const;

/** Distance in millimetres, or in pixels where their size is not known. */
export function lengthOf([from, to]: Point[], spacing: Spacing): number {
  const [row, column] = spacing ?? [1, 1];
  return Math.hypot((to!.x - from!.x) * column, (to!.y - from!.y) * row);
}

/** At the second of three points, in degrees. Without spacing, pixels are taken as square. */
export function angleOf([from, vertex, to]: Point[], spacing: Spacing): number {
  const [row, column] = spacing ?? [1, 1];
  const first = Math.atan2((from!.y - vertex!.y) * row, (from!.x - vertex!.x) * column);
  const second = Math.atan2((to!.y - vertex!.y) * row, (to!.x - vertex!.x) * column);
  const apart = Math.abs(first - second) % (2 * Math.PI);
  return (Math.min(apart, 2 * Math.PI - apart) * 180) / Math.PI;
}
