/** How an image lies on its canvas. Nothing of this changes the image: it is display only. */

export interface Point {
  x: number;
  y: number;
}

export interface Size {
  width: number;
  height: number;
}

export interface View {
  /** Canvas pixels for one pixel of the image across. */
  zoom: number;
  /** Of the image's middle from the canvas's middle, in canvas pixels. */
  shift: Point;
  quarterTurns: 0 | 1 | 2 | 3;
  mirrored: boolean;
}

/** x' = a x + c y + e, y' = b x + d y + f, as a canvas takes it. */
export type Matrix = readonly [number, number, number, number, number, number];

export interface Grid extends Size {
  /** Height of a pixel by its width: 1 where they are square or their size is not known. */
  aspect: number;
}

export function gridOf(image: { rows: number; columns: number; spacing_mm: [number, number] | null }): Grid {
  const aspect = image.spacing_mm ? image.spacing_mm[0] / image.spacing_mm[1] : 1;
  return { width: image.columns, height: image.rows, aspect };
}

/** A change of a view, for whatever image lies on whatever canvas: linked images change alike. */
export type Step = (view: View, grid: Grid, canvas: Size) => View;

export const UPRIGHT: View = { zoom: 1, shift: { x: 0, y: 0 }, quarterTurns: 0, mirrored: false };

/** From pixels of the image to those of the canvas. */
export function matrixOf(view: View, grid: Grid, canvas: Size): Matrix {
  const [cos, sin] = [[1, 0], [0, 1], [-1, 0], [0, -1]][view.quarterTurns]! as [number, number];
  const across = view.mirrored ? -view.zoom : view.zoom;
  const down = view.zoom * grid.aspect;
  const [a, b, c, d] = [cos * across, sin * across, -sin * down, cos * down];
  const middle = { x: grid.width / 2, y: grid.height / 2 };
  return [
    a, b, c, d,
    canvas.width / 2 + view.shift.x - a * middle.x - c * middle.y,
    canvas.height / 2 + view.shift.y - b * middle.x - d * middle.y,
  ];
}

export function onCanvas([a, b, c, d, e, f]: Matrix, { x, y }: Point): Point {
  return { x: a * x + c * y + e, y: b * x + d * y + f };
}

export function onImage([a, b, c, d, e, f]: Matrix, { x, y }: Point): Point {
  const determinant = a * d - b * c;
  return { x: (d * (x - e) - c * (y - f)) / determinant, y: (a * (y - f) - b * (x - e)) / determinant };
}

export const actual: Step = (view) => ({ ...view, zoom: 1, shift: { x: 0, y: 0 } });

export function fitting(view: View, grid: Grid, canvas: Size): View {
  const sideways = view.quarterTurns % 2 === 1;
  const height = grid.height * grid.aspect;
  const [across, down] = sideways ? [height, grid.width] : [grid.width, height];
  return { ...view, zoom: Math.min(canvas.width / across, canvas.height / down), shift: { x: 0, y: 0 } };
}

/** Zoomed by `factor` so that what lies under `at` stays there. */
export function zoomed(view: View, factor: number, canvas: Size, at?: Point): View {
  const zoom = Math.min(64, Math.max(0.02, view.zoom * factor));
  const ratio = zoom / view.zoom;
  const from = at ? { x: at.x - canvas.width / 2, y: at.y - canvas.height / 2 } : { x: 0, y: 0 };
  const shift = { x: from.x + (view.shift.x - from.x) * ratio, y: from.y + (view.shift.y - from.y) * ratio };
  return { ...view, zoom, shift };
}

export function moved(view: View, by: Point): View {
  return { ...view, shift: { x: view.shift.x + by.x, y: view.shift.y + by.y } };
}

export function turned(view: View): View {
  return { ...view, quarterTurns: ((view.quarterTurns + 1) % 4) as View['quarterTurns'] };
}

export function mirrored(view: View): View {
  return { ...view, mirrored: !view.mirrored };
}

export function isUpright(view: View): boolean {
  return view.quarterTurns === 0 && !view.mirrored;
}
