import { toService } from '../api/addresses';
/** Whether the service can be reached, as the last request found it. */
class Connection {
  state: 'good' | 'lost' | 'busy' = $state('good');
  /** Goes up when the service answers again: what waits for it asks anew. */
  returned = $state(0);
  #timer: ReturnType<typeof setTimeout> | undefined;
  #wait = 2;

  constructor() {
    addEventListener('offline', () => this.lost());
    addEventListener('online', () => void this.#probe());
  }

  lost(): void {
    this.state = 'lost';
    this.#later(this.#wait);
  }

  answered(status: number, retryAfter: string | null): void {
    if (status === 503) {
      this.state = 'busy';
      this.#later(Number(retryAfter) || this.#wait);
    } else if (status !== 502 && status !== 504) this.#good();
  }

  #good(): void {
    clearTimeout(this.#timer);
    [this.#timer, this.#wait] = [undefined, 2];
    if (this.state !== 'good') this.returned += 1;
    this.state = 'good';
  }

  #later(seconds: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#probe(), seconds * 1000);
    this.#wait = Math.min(30, this.#wait * 2);
  }

  async #probe(): Promise<void> {
    try {
      const response = await fetch(toService('readyz'), { cache: 'no-store' });
      if (response.ok) this.#good();
      else this.answered(503, response.headers.get('Retry-After'));
    } catch {
      this.lost();
    }
  }
}

export const connection = new Connection();
