import { toService } from './addresses';
import { connection } from '../state/connection.svelte';
import { session } from '../state/session.svelte';
import { parsedProblem, Refused, Unreachable } from './client';
import type { StudyAnswer } from './types';

export interface Progress {
  sent: number;
  total: number;
}

/** Hand a study over. `key` makes a second try of the same draft safe: the service takes it once. */
export async function uploadStudy(
  form: () => FormData,
  key: string,
  signal: AbortSignal,
  onProgress: (progress: Progress) => void,
): Promise<StudyAnswer> {
  for (;;) {
    const csrf = session.csrf;
    const request = await posted(toService('v1/studies'), form(), key, csrf, signal, onProgress);
    if (request.status === 401) {
      await session.renewed(csrf);
      continue;
    }
    session.used();
    connection.answered(request.status, request.getResponseHeader('Retry-After'));
    if (request.status >= 200 && request.status < 300) return JSON.parse(request.responseText) as StudyAnswer;
    throw new Refused(parsedProblem(request.status, request.statusText, request.responseText));
  }
}

/** `fetch` does not say how much of a body has been sent. */
function posted(
  path: string,
  form: FormData,
  key: string,
  csrf: string | null,
  signal: AbortSignal,
  onProgress: (progress: Progress) => void,
): Promise<XMLHttpRequest> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open('POST', path);
    request.setRequestHeader('Idempotency-Key', key);
    if (csrf) request.setRequestHeader('Consilium-CSRF', csrf);
    request.upload.onprogress = ({ loaded, total }) => onProgress({ sent: loaded, total });
    request.onload = () => resolve(request);
    request.onerror = () => {
      connection.lost();
      reject(new Unreachable());
    };
    request.onabort = () => reject(new DOMException('', 'AbortError'));
    signal.addEventListener('abort', () => request.abort(), { once: true });
    request.send(form);
  });
}
