import { preferences } from '../state/preferences.svelte';

// Days before months, and months in letters: 3/5 is read in two ways.
const TAGS = { en: 'en-GB', de: 'de-DE' };

function tag(): string {
  return TAGS[preferences.locale];
}

function parsed(iso: string | null | undefined): Date | null {
  const date = iso ? new Date(iso) : null;
  return date && !Number.isNaN(date.getTime()) ? date : null;
}

export function day(iso: string | null | undefined): string {
  return parsed(iso)?.toLocaleDateString(tag(), { day: 'numeric', month: 'short', year: 'numeric' }) ?? '–';
}

export function moment(iso: string | null | undefined): string {
  return parsed(iso)?.toLocaleString(tag(), { day: 'numeric', month: 'short', year: 'numeric', hour: '2-digit', minute: '2-digit' }) ?? '–';
}

export function clock(time: Date): string {
  return time.toLocaleTimeString(tag());
}

/** Three significant digits, as a laboratory's sheet has them. */
export function figure(value: number): string {
  return value.toLocaleString(tag(), { maximumSignificantDigits: 3 });
}

export function number(value: number, digits = 1): string {
  return value.toLocaleString(tag(), { maximumFractionDigits: digits });
}

export function fixed(value: number, digits: number): string {
  return value.toLocaleString(tag(), { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

export function signed(value: number): string {
  return `${value < 0 ? '−' : '+'}${fixed(Math.abs(value), 2)}`;
}

/** In whole percent, in tenths near 0 and 1; never 0 or 100 where it is not. */
export function percent(share: number): string {
  if (share > 0 && share < 0.001) return `<\u00a0${fixed(0.1, 1)}\u00a0%`;
  if (share > 0.999 && share < 1) return `>\u00a0${fixed(99.9, 1)}\u00a0%`;
  const nearAnEnd = share > 0 && share < 1 && (share < 0.01 || share > 0.99);
  return `${fixed(100 * share, nearAnEnd ? 1 : 0)}\u00a0%`;
}

export function bytes(count: number): string {
  if (count < 1024) return `${count} B`;
  const unit = count < 1024 ** 2 ? 'kB' : 'MB';
  return `${number(count / (unit === 'kB' ? 1024 : 1024 ** 2))} ${unit}`;
}
