/** A proxy may serve the page below a prefix: all addresses come from where this module lies, `…/read/assets/`. */
const LIES_AT: string = import.meta.url;

/** Path of the page, with a slash at its end. */
export const PAGE = pageOf(LIES_AT);

export function pageOf(module: string): string {
  return new URL('..', module).pathname;
}

export function toPage(path = ''): string {
  return PAGE + path;
}

/** A path of the service, such as `v1/studies`. */
export function toService(path: string): string {
  return `${PAGE.replace(/[^/]+\/$/, '')}${path}`;
}
