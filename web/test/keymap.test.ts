import { describe, expect, test } from 'vitest';
import { ACTIONS, actionOf, DEFAULT_KEYS, remapped, restored } from '../src/keys/keymap';

describe('keys', () => {
  test('every action has a key of its own', () => {
    expect(new Set(Object.values(DEFAULT_KEYS)).size).toBe(ACTIONS.length);
  });

  test('two keystrokes: a finding, then what it is', () => {
    expect(['q', 'W', 'e'].map((key) => actionOf(DEFAULT_KEYS, key, true))).toEqual(['finding1', 'finding2', 'finding3']);
    expect(['y', 'N', 'u'].map((key) => actionOf(DEFAULT_KEYS, key, true))).toEqual(['present', 'absent', 'unknown']);
  });

  test('characters can be switched off, other keys stay', () => {
    expect(actionOf(DEFAULT_KEYS, 'y', false)).toBeNull();
    expect(actionOf(DEFAULT_KEYS, 'PageDown', false)).toBe('next');
  });

  test('a key that is given to another action is exchanged, never shared', () => {
    const keys = remapped(DEFAULT_KEYS, 'present', 'n');
    expect([keys.present, keys.absent]).toEqual(['n', 'y']);
    expect(new Set(Object.values(keys)).size).toBe(ACTIONS.length);
  });

  test('what was stored is taken only where it is whole', () => {
    expect(restored({ present: 'z', gone: 'x' }).present).toBe('z');
    expect(restored({ present: 'n' })).toEqual(DEFAULT_KEYS);
    expect(restored('text')).toEqual(DEFAULT_KEYS);
  });
});
