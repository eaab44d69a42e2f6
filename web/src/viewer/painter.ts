import type { ImageInformation } from '../api/types';
import type { EvidenceLayers } from './evidence';
import { gridOf, matrixOf, type Grid, type Matrix, type Size, type View } from './geometry';
import { colours, type Greys } from './greys';
import { extremes, UnreadablePixels, type Words } from './words';

// On a canvas that is kept in the graphics card's memory putting four million pixels takes 150 ms; read often, it is not.
const IN_MEMORY = { willReadFrequently: true } as const;

interface Loaded {
  words: Words;
  image: ImageInformation;
  grid: Grid;
}

interface Layers {
  sides: Record<'for' | 'against', HTMLCanvasElement>;
  box: readonly [number, number, number, number];
}

/** Draws one image on one canvas, and its evidence on another above it. Holds at most one image, and none after `clear`. */
export class Painter {
  #image: CanvasRenderingContext2D;
  #evidence: CanvasRenderingContext2D;
  #source: CanvasRenderingContext2D = document.createElement('canvas').getContext('2d', { ...IN_MEMORY })!;
  #pixels: ImageData | null = null;
  #loaded: Loaded | null = null;
  #layers: Layers | null = null;
  #step = 1;

  constructor(
    private readonly canvas: HTMLCanvasElement,
    private readonly overlay: HTMLCanvasElement,
  ) {
    this.#image = canvas.getContext('2d', { ...IN_MEMORY, alpha: false })!;
    this.#evidence = overlay.getContext('2d')!;
  }

  get size(): Size {
    return { width: this.canvas.width, height: this.canvas.height };
  }

  /** Nothing of an earlier image is left, on the screen or in memory. */
  clear(): void {
    [this.#loaded, this.#pixels, this.#layers] = [null, null, null];
    this.#source.canvas.width = this.#source.canvas.height = 1;
    this.#image.resetTransform();
    this.#image.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.#clearEvidence();
  }

  resize({ width, height }: Size): void {
    for (const canvas of [this.canvas, this.overlay]) {
      canvas.width = width;
      canvas.height = height;
    }
  }

  load(words: Words, image: ImageInformation, table: Greys): void {
    this.clear();
    const { low, high } = extremes(words);
    if (low < table.from || high >= table.from + table.greys.length) {
      throw new UnreadablePixels(`words from ${low} to ${high}, outside the table of greys`);
    }
    this.#loaded = { words, image, grid: gridOf(image) };
  }

  /** With `step` above 1 only every so many pixels, for a picture that changes while the reader drags. */
  shade(greys: Greys, inverted: boolean, step = 1): void {
    if (!this.#loaded) return;
    const { words, image, grid } = this.#loaded;
    const [width, height] = [Math.ceil(grid.width / step), Math.ceil(grid.height / step)];
    const pixels = this.#buffer(width, height);
    const { from, pixels: table } = colours(greys, inverted, image);
    const target = new Uint32Array(pixels.data.buffer);
    if (step === 1) for (let i = 0; i < target.length; i++) target[i] = table[words[i]! - from]!;
    else {
      for (let row = 0, i = 0; row < height; row++) {
        let word = row * step * grid.width;
        for (let column = 0; column < width; column++, word += step) target[i++] = table[words[word]! - from]!;
      }
    }
    this.#source.putImageData(pixels, 0, 0);
    this.#step = step;
  }

  #buffer(width: number, height: number): ImageData {
    const source = this.#source.canvas;
    if (source.width !== width || source.height !== height) [source.width, source.height] = [width, height];
    if (this.#pixels?.width !== width || this.#pixels.height !== height) this.#pixels = new ImageData(width, height);
    return this.#pixels;
  }

  explain(layers: EvidenceLayers | null, box: readonly [number, number, number, number] = [0, 0, 1, 1]): void {
    if (!layers) {
      this.#layers = null;
      return;
    }
    const picture = (side: 'for' | 'against') => {
      const context = document.createElement('canvas').getContext('2d')!;
      [context.canvas.width, context.canvas.height] = [layers.columns, layers.rows];
      context.putImageData(new ImageData(layers[side], layers.columns, layers.rows), 0, 0);
      return context.canvas;
    };
    this.#layers = { sides: { for: picture('for'), against: picture('against') }, box };
  }

  draw(view: View, sides: { for: boolean; against: boolean }): void {
    this.#image.resetTransform();
    this.#image.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.#clearEvidence();
    if (!this.#loaded || !this.#pixels) return;
    const { grid } = this.#loaded;
    const matrix = matrixOf(view, grid, this.size);
    this.#image.setTransform(...(view.zoom === 1 ? onWholePixels(matrix) : matrix));
    // One to one each pixel is the grey of its word; otherwise greys are interpolated, never words.
    this.#image.imageSmoothingEnabled = view.zoom !== 1;
    const { width, height } = this.#source.canvas;
    this.#image.drawImage(this.#source.canvas, 0, 0, width * this.#step, height * this.#step);
    if (this.#layers) this.#drawEvidence(this.#layers, view, grid, sides);
  }

  #clearEvidence(): void {
    this.#evidence.resetTransform();
    this.#evidence.globalCompositeOperation = 'source-over';
    this.#evidence.clearRect(0, 0, this.overlay.width, this.overlay.height);
  }

  #drawEvidence({ sides, box }: Layers, view: View, grid: Grid, shown: { for: boolean; against: boolean }): void {
    const context = this.#evidence;
    const [top, left, height, width] = box;
    const place = (side: HTMLCanvasElement) => {
      context.save();
      context.setTransform(...matrixOf(view, grid, this.size));
      context.beginPath();
      context.rect(0, 0, grid.width, grid.height);
      context.clip();
      context.drawImage(side, left, top, width, height);
      context.restore();
    };
    if (shown.against) {
      place(sides.against);
      // Striped: told from the other side without colour, too.
      context.globalCompositeOperation = 'destination-in';
      context.fillStyle = stripes(context);
      context.fillRect(0, 0, this.overlay.width, this.overlay.height);
      context.globalCompositeOperation = 'source-over';
    }
    if (shown.for) place(sides.for);
  }
}

/** Between whole pixels even nearest sampling may take a neighbour. */
function onWholePixels([a, b, c, d, e, f]: Matrix): Matrix {
  return [a, b, c, d, Math.round(e), Math.round(f)];
}

function stripes(context: CanvasRenderingContext2D): CanvasPattern {
  const tile = document.createElement('canvas').getContext('2d')!;
  tile.canvas.width = tile.canvas.height = 8;
  tile.fillStyle = '#0004';
  tile.fillRect(0, 0, 8, 8);
  tile.strokeStyle = '#000';
  tile.lineWidth = 3;
  for (const at of [-8, 0, 8]) {
    tile.beginPath();
    tile.moveTo(at - 1, 9);
    tile.lineTo(at + 9, -1);
    tile.stroke();
  }
  return context.createPattern(tile.canvas, 'repeat')!;
}
