import { DEFAULT_KEYS, restored, type Keymap } from '../keys/keymap';

export type Theme = 'dark' | 'light';
export type Locale = 'en' | 'de';

const NAME = 'consilium.preferences';

/** What a reader set for themselves. It names no patient, and is the only thing that the page leaves in the browser. */
class Preferences {
  theme: Theme = $state('dark');
  locale: Locale = $state(navigator.language.startsWith('de') ? 'de' : 'en');
  letterKeys = $state(true);
  keys: Keymap = $state(DEFAULT_KEYS);
  #chosen: Record<string, unknown> = {};

  constructor() {
    try {
      this.#chosen = JSON.parse(localStorage.getItem(NAME) ?? '{}') as Record<string, unknown>;
    } catch {
      // Storage is switched off or holds something else: the defaults stand.
    }
    const { theme, locale, letterKeys, keys } = this.#chosen;
    if (theme === 'light' || theme === 'dark') this.theme = theme;
    if (locale === 'en' || locale === 'de') this.locale = locale;
    if (typeof letterKeys === 'boolean') this.letterKeys = letterKeys;
    if (keys !== undefined) this.keys = restored(keys);
  }

  /** A site's defaults, which give way to what the reader chose. */
  siteDefaults(settings: { locale: string | null; letter_keys: boolean }): void {
    if (!('locale' in this.#chosen) && (settings.locale === 'en' || settings.locale === 'de')) this.locale = settings.locale;
    if (!('letterKeys' in this.#chosen)) this.letterKeys = settings.letter_keys;
  }

  set<K extends 'theme' | 'locale' | 'letterKeys' | 'keys'>(name: K, value: Preferences[K]): void {
    (this as Pick<Preferences, K>)[name] = value;
    this.#chosen[name] = value;
    try {
      localStorage.setItem(NAME, JSON.stringify(this.#chosen));
    } catch {
      // Without storage a choice lasts until the page is closed.
    }
  }
}

export const preferences = new Preferences();
