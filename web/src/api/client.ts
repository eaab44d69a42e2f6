import { connection } from '../state/connection.svelte';
import { session } from '../state/session.svelte';
import type { Problem } from './types';

/** The service refused, and says why. */
export class Refused extends Error {
  constructor(readonly problem: Problem) {
    super(problem.detail || problem.title);
  }
}

/** No answer came: nothing is known of what became of the request. */
export class Unreachable extends Error {}

export interface Asked {
  method?: 'GET' | 'POST' | 'DELETE';
  json?: unknown;
  signal?: AbortSignal;
  /** Asked by a clock, not by the reader: it must not keep the session of an empty chair alive. */
  background?: boolean;
}

/** The answer of one route. Where the session has ended the reader signs in, and the request is sent again. */
export async function ask(path: string, asked: Asked = {}): Promise<Response> {
  for (;;) {
    const csrf = session.csrf;
    const response = await sent(path, asked, csrf);
    if (response.status === 401) {
      await session.renewed(csrf);
      continue;
    }
    if (!asked.background) session.used();
    connection.answered(response.status, response.headers.get('Retry-After'));
    if (response.ok) return response;
    throw new Refused(await problemOf(response));
  }
}

export async function askJson<T>(path: string, asked: Asked = {}): Promise<T> {
  return (await (await ask(path, asked)).json()) as T;
}

async function sent(path: string, { method = 'GET', json, signal, background }: Asked, csrf: string | null): Promise<Response> {
  const body = json === undefined ? {} : { body: JSON.stringify(json) };
  const all = {
    ...(background ? { 'Consilium-Background': '1' } : {}),
    ...(json === undefined ? {} : { 'Content-Type': 'application/json' }),
    ...(method !== 'GET' && csrf ? { 'Consilium-CSRF': csrf } : {}),
  };
  try {
    return await fetch(path, { method, headers: all, ...body, ...(signal ? { signal } : {}), credentials: 'same-origin', cache: 'no-store' });
  } catch (error) {
    if (signal?.aborted) throw error;
    connection.lost();
    throw new Unreachable();
  }
}

export async function problemOf(response: Response): Promise<Problem> {
  const text = await response.text().catch(() => '');
  return parsedProblem(response.status, response.statusText, text);
}

/** A problem document, or what is known where something between answered in its place. */
export function parsedProblem(status: number, statusText: string, text: string): Problem {
  try {
    const found: unknown = JSON.parse(text);
    if (typeof found === 'object' && found !== null && 'title' in found) return { detail: '', ...(found as object), status } as Problem;
  } catch {
    // No JSON: below.
  }
  return { title: statusText || `HTTP ${status}`, status, detail: '' };
}
