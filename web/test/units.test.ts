import { describe, expect, test } from 'vitest';
import { written } from '../src/parts/units';

describe('units', () => {
  test('are written as a laboratory writes them', () => {
    expect(['umol/L', 'mm[Hg]', '10*3/uL', '[pH]', 'a', 'mg/dL'].map(written)).toEqual(['µmol/L', 'mmHg', '10³/µL', '', 'years', 'mg/dL']);
  });
});
