/** Keys that act without Ctrl, Alt or Meta. Letters can be switched off or changed (WCAG 2.1.4). */

export const ACTIONS = [
  'finding1', 'finding2', 'finding3', 'finding4', 'finding5', 'finding6', 'finding7', 'finding8', 'finding9', 'finding10',
  'present', 'absent', 'unknown', 'undo',
  'invert', 'fit', 'actual', 'overlay', 'turn', 'mirror', 'window', 'pan', 'length', 'angle', 'next', 'previous',
] as const;
export type Action = (typeof ACTIONS)[number];
export type Keymap = Record<Action, string>;

export const DEFAULT_KEYS: Keymap = {
  finding1: 'q', finding2: 'w', finding3: 'e', finding4: 'r', finding5: 't',
  finding6: 'a', finding7: 's', finding8: 'd', finding9: 'f', finding10: 'g',
  present: 'y', absent: 'n', unknown: 'u', undo: 'Backspace',
  invert: 'i', fit: 'h', actual: 'j', overlay: 'o', turn: 'k', mirror: 'm',
  window: 'c', pan: 'p', length: 'l', angle: 'v', next: 'PageDown', previous: 'PageUp',
};

/** A key's name as a keyboard event gives it: letters in lower case. */
export function keyName(key: string): string {
  return key.length === 1 ? key.toLowerCase() : key;
}

export function isCharacter(key: string): boolean {
  return [...key].length === 1;
}

/** What a key does; null where it does nothing, or is a character while these are switched off. */
export function actionOf(keys: Keymap, key: string, characters: boolean): Action | null {
  const name = keyName(key);
  if (!characters && isCharacter(name)) return null;
  return ACTIONS.find((action) => keys[action] === name) ?? null;
}

/** The map with `action` on `key`; what had the key before gets the action's old one, so that no key acts twice. */
export function remapped(keys: Keymap, action: Action, key: string): Keymap {
  const name = keyName(key);
  const other = ACTIONS.find((one) => keys[one] === name && one !== action);
  return { ...keys, ...(other ? { [other]: keys[action] } : {}), [action]: name };
}

/** A map that was stored earlier: unknown actions are dropped, missing and doubled ones take their default. */
export function restored(stored: unknown): Keymap {
  if (typeof stored !== 'object' || stored === null) return DEFAULT_KEYS;
  const given = stored as Record<string, unknown>;
  const keys = ACTIONS.map((action) => [action, typeof given[action] === 'string' ? given[action] : DEFAULT_KEYS[action]]);
  const found = Object.fromEntries(keys) as Keymap;
  return new Set(Object.values(found)).size === ACTIONS.length ? found : DEFAULT_KEYS;
}

/** Whether a key pressed there is typing or a control's own. */
export function isTyping(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  if (target.isContentEditable || ['TEXTAREA', 'SELECT'].includes(target.tagName)) return true;
  return target instanceof HTMLInputElement && !['checkbox', 'radio', 'button', 'submit'].includes(target.type);
}
