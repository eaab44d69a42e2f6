import { describe, expect, test } from 'vitest';
import { fitting, gridOf, isUpright, matrixOf, mirrored, onCanvas, onImage, turned, UPRIGHT, zoomed } from '../src/viewer/geometry';
import { angleOf, lengthOf } from '../src/viewer/measures';

const grid = gridOf({ rows: 100, columns: 200, spacing_mm: null });
const canvas = { width: 400, height: 400 };
const near = ({ x, y }: { x: number; y: number }) => ({ x: Number(x.toFixed(6)), y: Number(y.toFixed(6)) });

describe('geometry', () => {
  test('an image that fits lies in the middle and touches two edges', () => {
    const matrix = matrixOf(fitting(UPRIGHT, grid, canvas), grid, canvas);
    expect(near(onCanvas(matrix, { x: 0, y: 0 }))).toEqual({ x: 0, y: 100 });
    expect(near(onCanvas(matrix, { x: 200, y: 100 }))).toEqual({ x: 400, y: 300 });
  });

  test('a quarter turn is clockwise, and its upper left corner comes to the upper right', () => {
    const view = fitting(turned(UPRIGHT), grid, canvas);
    const matrix = matrixOf(view, grid, canvas);
    expect(near(onCanvas(matrix, { x: 0, y: 0 }))).toEqual({ x: 300, y: 0 });
    expect(isUpright(view)).toBe(false);
  });

  test('mirrored, left and right change places', () => {
    const matrix = matrixOf(mirrored(fitting(UPRIGHT, grid, canvas)), grid, canvas);
    expect(near(onCanvas(matrix, { x: 0, y: 0 }))).toEqual({ x: 400, y: 100 });
  });

  test('from the canvas to the image is the way back, however the image lies', () => {
    let view = zoomed(fitting(UPRIGHT, grid, canvas), 3.7, canvas, { x: 12, y: 350 });
    for (let turn = 0; turn < 4; turn++) {
      for (const one of [view, mirrored(view)]) {
        const matrix = matrixOf(one, grid, canvas);
        expect(near(onImage(matrix, onCanvas(matrix, { x: 13.5, y: 71.25 })))).toEqual({ x: 13.5, y: 71.25 });
      }
      view = turned(view);
    }
  });

  test('what lies under the pointer stays there while zooming', () => {
    const at = { x: 90, y: 220 };
    const before = fitting(UPRIGHT, grid, canvas);
    const point = onImage(matrixOf(before, grid, canvas), at);
    const after = zoomed(before, 2.5, canvas, at);
    expect(near(onCanvas(matrixOf(after, grid, canvas), point))).toEqual(at);
  });

  test('pixels that are not square are shown in their proportions', () => {
    const tall = gridOf({ rows: 100, columns: 200, spacing_mm: [0.4, 0.2] });
    const matrix = matrixOf({ ...UPRIGHT, zoom: 1 }, tall, canvas);
    expect(onCanvas(matrix, { x: 0, y: 100 }).y - onCanvas(matrix, { x: 0, y: 0 }).y).toBe(200);
  });
});

describe('measures', () => {
  test('a length uses the spacing of rows and of columns', () => {
    expect(lengthOf([{ x: 0, y: 0 }, { x: 30, y: 40 }], [0.1, 0.2])).toBeCloseTo(Math.hypot(6, 4));
    expect(lengthOf([{ x: 0, y: 0 }, { x: 30, y: 40 }], null)).toBe(50);
  });

  test('an angle is that of the patient, not of the grid', () => {
    const corner = [{ x: 10, y: 0 }, { x: 0, y: 0 }, { x: 10, y: 10 }];
    expect(angleOf(corner, null)).toBeCloseTo(45);
    expect(angleOf(corner, [0.2, 0.1])).toBeCloseTo(63.435, 3);
    expect(angleOf([{ x: -1, y: 0.1 }, { x: 0, y: 0 }, { x: -1, y: -0.1 }], null)).toBeCloseTo(11.421, 3);
  });
});
