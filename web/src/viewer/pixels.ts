import { toService } from '../api/addresses';
import { ask } from '../api/client';
import type { ImageInformation } from '../api/types';
import { decodeWords, hexDigest, UnreadablePixels, type Words } from './words';

const MOST_BYTES = 384 * 1024 ** 2;

/** Words of the images that were lately shown, while one study is open: paging through a stack asks for each once. */
export class Pixels {
  #kept = new Map<string, Promise<Words>>();
  #sizes = new Map<string, number>();
  #bytes = 0;
  #stopped = new AbortController();

  words(study: string, image: ImageInformation): Promise<Words> {
    const name = `${study}/${image.number}`;
    const known = this.#kept.get(name);
    if (known) {
      this.#kept.delete(name);
      this.#kept.set(name, known);
      return known;
    }
    const asked = this.#fetched(study, image);
    this.#kept.set(name, asked);
    this.#sizes.set(name, image.rows * image.columns * (image.bits > 8 ? 2 : 1));
    this.#bytes += this.#sizes.get(name)!;
    // What failed is asked for again the next time.
    asked.catch(() => this.#forget(name));
    for (const oldest of this.#kept.keys()) {
      if (this.#bytes <= MOST_BYTES || oldest === name) break;
      this.#forget(oldest);
    }
    return asked;
  }

  close(): void {
    this.#stopped.abort();
    this.#kept.clear();
  }

  async #fetched(study: string, image: ImageInformation): Promise<Words> {
    const response = await ask(toService(`v1/studies/${study}/images/${image.number}`), { signal: this.#stopped.signal });
    const words = decodeWords(await response.arrayBuffer(), response.headers.get('Consilium-Encoding') ?? 'raw', image);
    // Of the right size, another patient's image would look like this one's.
    const digest = await hexDigest(words);
    if (digest !== image.words_digest) throw new UnreadablePixels(`SHA-256 ${digest.slice(0, 12)}…, expected ${image.words_digest.slice(0, 12)}…`);
    return words;
  }

  #forget(name: string): void {
    if (!this.#kept.delete(name)) return;
    this.#bytes -= this.#sizes.get(name)!;
  }
}
