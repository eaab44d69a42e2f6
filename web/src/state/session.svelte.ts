import { toPage } from '../api/addresses';
import type { Problem, Session } from '../api/types';

const SIGNED_OUT: Session = {
  signed_in: false,
  name: null,
  method: null,
  scopes: [],
  groups: [],
  csrf: null,
  expires: null,
  idle_s: null,
  methods: [],
  settings: { ohif: null, locale: null, letter_keys: true },
};

/** Who reads. No token is ever here: the cookie is the browser's, and no script can read it. */
class Reading {
  current: Session = $state(SIGNED_OUT);
  /** Null until the service has said whether there is a session. */
  state: 'unknown' | 'in' | 'out' | 'ended' = $state('unknown');
  #waiting: (() => void)[] = [];
  #asked = Date.now();

  constructor() {
    setInterval(() => this.#endWhereIdle(), 10_000);
  }

  /** The service counts the time without a request from now on. */
  used(): void {
    this.#asked = Date.now();
  }

  /** What is on the screen is hidden when the session ends, not when somebody next asks for something. */
  #endWhereIdle(): void {
    const { expires, idle_s: idle } = this.current;
    const now = Date.now();
    const over = (idle !== null && now - this.#asked > idle * 1000 + 5000) || (expires !== null && now > Date.parse(expires));
    if (this.state === 'in' && over) this.state = 'ended';
  }

  get csrf(): string | null {
    return this.current.csrf;
  }

  may(scope: string): boolean {
    return this.current.scopes.includes(scope) || this.current.scopes.includes('admin');
  }

  async load(): Promise<void> {
    const response = await fetch(toPage('session'), { cache: 'no-store', credentials: 'same-origin' });
    if (!response.ok) throw new Error(`${response.status}`);
    this.used();
    this.#take((await response.json()) as Session);
  }

  /** Exchange an API key; what is wrong with it, or null. */
  async signIn(apiKey: string): Promise<Problem | null> {
    const response = await fetch(toPage('session'), {
      method: 'POST',
      credentials: 'same-origin',
      headers: { 'Content-Type': 'application/json', ...(this.csrf ? { 'Consilium-CSRF': this.csrf } : {}) },
      body: JSON.stringify({ api_key: apiKey }),
    });
    if (!response.ok) return (await response.json().catch(() => ({ title: response.statusText, status: response.status, detail: '' }))) as Problem;
    await this.load();
    return null;
  }

  async signOut(): Promise<void> {
    await fetch(toPage('session'), { method: 'DELETE', headers: this.csrf ? { 'Consilium-CSRF': this.csrf } : {} });
    // Nothing of what was open stays in memory.
    location.assign(toPage('login'));
  }

  /** Wait until the reader has signed in again after a request with `csrf` was refused. */
  async renewed(csrf: string | null): Promise<void> {
    if (this.state === 'in' && this.csrf !== csrf) return;
    if (this.state !== 'out') this.state = 'ended';
    await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  #take(session: Session): void {
    const before = this.current;
    if (!session.signed_in) {
      this.current = session;
      if (this.state !== 'ended') this.state = 'out';
      return;
    }
    if (this.state === 'ended' && before.signed_in && before.name !== session.name) {
      // Another reader: drafts and pictures of the one before are not theirs.
      location.assign(toPage());
      return;
    }
    this.current = session;
    this.state = 'in';
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}

export const session = new Reading();
