import { describe, expect, test } from 'vitest';
import de from '../src/i18n/de.json';
import en from '../src/i18n/en.json';

const placeholders = (text: string) => [...text.matchAll(/\{(\w+)\}/g)].map(([, name]) => name).sort();

const sources = import.meta.glob<string>('../src/**/*.{ts,svelte}', { query: '?raw', import: 'default', eager: true });

describe('catalogues', () => {
  test('both languages have the same sentences in the same order', () => {
    expect(Object.keys(de)).toEqual(Object.keys(en));
  });

  test('both have the same placeholders', () => {
    for (const [key, text] of Object.entries(en)) expect(placeholders(de[key as keyof typeof de]), key).toEqual(placeholders(text));
  });

  test('every sentence is used', () => {
    const source = Object.values(sources).join('\n');
    const groups = [...source.matchAll(/(?:`|word\(')([\w.]+?)(?:\.\$\{|')/g)].map(([, group]) => `${group}.`);
    const unused = Object.keys(en).filter((key) => !source.includes(`'${key}'`) && !groups.some((group) => key.startsWith(group)));
    expect(unused).toEqual([]);
  });
});
