import { PAGE } from './api/addresses';

/** Which page is shown: the service sends the same document for each of these addresses. */
export type Place =
  | { page: 'worklist' | 'new' | 'model' | 'operations' | 'sessions' | 'login' | 'unknown' }
  | { page: 'study'; id: string };

export function placeOf(path: string, base = PAGE): Place {
  const rest = `${path}/`.startsWith(base) ? path.slice(base.length).replace(/\/$/, '') : null;
  if (rest === '') return { page: 'worklist' };
  if (rest === 'new' || rest === 'model' || rest === 'operations' || rest === 'sessions' || rest === 'login') return { page: rest };
  const study = /^studies\/([\w-]+)$/.exec(rest ?? '');
  return study ? { page: 'study', id: study[1]! } : { page: 'unknown' };
}

class Router {
  place: Place = $state(placeOf(location.pathname));

  constructor() {
    addEventListener('popstate', () => (this.place = placeOf(location.pathname)));
    addEventListener('click', (event) => this.#follow(event));
  }

  go(path: string): void {
    history.pushState(null, '', path);
    this.place = placeOf(location.pathname);
    scrollTo(0, 0);
  }

  /** Links within the page change it without loading it anew: a draft, and where the reader was, stay. */
  #follow(event: MouseEvent): void {
    if (event.defaultPrevented || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    const link = (event.target as Element | null)?.closest?.('a[href]');
    const href = link?.getAttribute('href');
    if (!href?.startsWith(PAGE) || link?.hasAttribute('target')) return;
    event.preventDefault();
    this.go(href);
  }
}

export const router = new Router();
