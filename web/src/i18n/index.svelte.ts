import type { Locale } from '../state/preferences.svelte';
import germanAddress from './de.json?url';
import type en from './en.json';
import englishAddress from './en.json?url';

export type Key = keyof typeof en;
type Catalogue = Record<Key, string>;

const ADDRESSES: Record<Locale, string> = { de: germanAddress, en: englishAddress };
const known: Partial<Record<Locale, Catalogue>> = {};
let catalogue = $state.raw({} as Catalogue);

/** Show the page in `locale` from now on; false where its catalogue cannot be fetched, and the page stays as it is. */
export async function speak(locale: Locale): Promise<boolean> {
  if (!known[locale]) {
    const response = await fetch(ADDRESSES[locale]).catch(() => null);
    if (!response?.ok) return false;
    known[locale] = (await response.json()) as Catalogue;
  }
  catalogue = known[locale]!;
  return true;
}

/** A sentence of the reader's language, with `{name}` replaced. */
export function t(key: Key, values: Record<string, string | number> = {}): string {
  return catalogue[key].replace(/\{(\w+)\}/g, (_, name: string) => String(values[name] ?? ''));
}

/** What the service sends as a code, in words where the catalogue has some. */
export function word(group: string, code: string): string {
  const key = `${group}.${code.replaceAll(' ', '_')}`;
  return key in catalogue ? t(key as Key) : code;
}
