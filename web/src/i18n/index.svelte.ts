import type { Locale } from '../state/preferences.svelte';
import germanAddress from './de.json?url';
import en from './en.json';

export type Key = keyof typeof en;
type Catalogue = Record<Key, string>;

// English comes with the page; another language is fetched by who reads it.
const ADDRESSES: Record<Exclude<Locale, 'en'>, string> = { de: germanAddress };
const known: Partial<Record<Locale, Catalogue>> = { en };
let catalogue: Catalogue = $state.raw(en);

/** Show the page in `locale` from now on. Where its catalogue cannot be fetched the page stays as it is. */
export async function speak(locale: Locale): Promise<void> {
  if (locale !== 'en' && !known[locale]) {
    const response = await fetch(ADDRESSES[locale]).catch(() => null);
    if (!response?.ok) return;
    known[locale] = (await response.json()) as Catalogue;
  }
  catalogue = known[locale]!;
}

/** A sentence of the reader's language, with `{name}` replaced. */
export function t(key: Key, values: Record<string, string | number> = {}): string {
  return catalogue[key].replace(/\{(\w+)\}/g, (_, name: string) => String(values[name] ?? ''));
}

/** What the service sends as a code, in words where the catalogue has some. */
export function word(group: string, code: string): string {
  const key = `${group}.${code.replaceAll(' ', '_')}`;
  return key in en ? t(key as Key) : code;
}
