import { describe, expect, test } from 'vitest';
import { isRecord } from '../src/parts/dropped';
import { pastedValues } from '../src/parts/pasted';
import { segments } from '../src/parts/segments';
import { written } from '../src/parts/units';

const word = (start_utf16: number, end_utf16: number, text: string, weight = 1) => ({ note: 0, start_utf16, end_utf16, text, weight });

describe('notes', () => {
  test('a note is cut where weighed words begin and end, and nothing of it is lost', () => {
    const note = 'Fever 🫁 and cough.';
    const found = segments(note, [word(13, 18, 'cough', -1), word(0, 5, 'Fever')]);
    expect(found.map((one) => one.text)).toEqual(['Fever', ' 🫁 and ', 'cough', '.']);
    expect(found.map((one) => one.weight)).toEqual([1, 0, -1, 0]);
  });

  test('what the model read in place of a word is named', () => {
    expect(segments('Dr. Weber', [word(4, 9, '[NAME]', 0)]).at(-1)).toEqual({ text: 'Weber', weight: 0, readAs: '[NAME]' });
  });

  test('a word outside the note, or upon another, is left out', () => {
    expect(segments('cough', [word(0, 5, 'cough'), word(2, 4, 'ug'), word(3, 99, 'x')]).map((one) => one.text)).toEqual(['cough']);
  });
});

describe('pasted values', () => {
  const variable = (name: string, display: string, code: string, unit: string) => ({
    name, display, kind: 'numeric' as const, unit, categories: [], reference: null, reference_female: null, reference_male: null,
    codes: [{ code, system: 'LOINC', unit, display }],
  });
  const variables = [variable('crp', 'C-reactive protein', '1988-5', 'mg/L'), variable('sodium', 'Sodium', '2951-2', 'mmol/L'), variable('sodium_urine', 'Sodium in urine', '2955-3', 'mmol/L')];

  test('name or code, value and unit, however they are set apart', () => {
    expect(pastedValues('CRP\t112\tmg/L\r\n1988-5;11,2;mg/dL\nSodium: 138', variables)).toEqual({
      values: [
        { code: '1988-5', value: '112', unit: 'mg/L' },
        { code: '1988-5', value: '11.2', unit: 'mg/dL' },
        { code: '2951-2', value: '138', unit: 'mmol/L' },
      ],
      left: [],
    });
  });

  test('a limit stays a limit, and the longer name is taken', () => {
    expect(pastedValues('crp < 0.3\nsodium in urine 40 mmol/L', variables).values).toEqual([
      { code: '1988-5', value: '<0.3', unit: 'mg/L' },
      { code: '2955-3', value: '40', unit: 'mmol/L' },
    ]);
  });

  test('a line that is not understood is left, not guessed', () => {
    expect(pastedValues('Natrium 138\nsodium high\nsodiumx 3', variables)).toEqual({ values: [], left: ['Natrium 138', 'sodium high', 'sodiumx 3'] });
  });
});

test('files that a computer adds to folders are no records', () => {
  expect(['a/.DS_Store', 'Thumbs.db', 'x/DICOMDIR', 'IM0001', 'x/film.dcm'].map(isRecord)).toEqual([false, false, false, true, true]);
});

test('powers of ten in units are raised', () => {
  expect(['10*9/L', '10*12/L', 'mg/L', '%'].map(written)).toEqual(['10⁹/L', '10¹²/L', 'mg/L', '%']);
});
