import { word } from '../i18n/index.svelte';
import units from '../../../consilium/formats/lab_units.json';

/** A unit of UCUM as a laboratory writes it: `umol/L` is µmol/L, `a` years. */
export function written(unit: string): string {
  return word('unit', (units as Record<string, string>)[unit] ?? unit);
}
