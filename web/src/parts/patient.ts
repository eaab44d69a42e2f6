import type { Patient } from '../api/types';
import { t, word } from '../i18n/index.svelte';

/** Age in years, of small children in months. */
export function ageOf(age: number): string {
  return age < 2 ? t('months', { age: Math.floor(12 * age) }) : t('years', { age: Math.floor(age) });
}

/** A name as people write it; DICOM has `Family^Given^Middle^Prefix^Suffix`. */
export function labelOf(patient: Patient | null): string {
  return patient?.label?.replace(/\^+/, ', ').replace(/\^+/g, ' ') ?? t('patient.unnamed');
}

export function sexAndAge(patient: Patient | null): string {
  const sex = patient?.sex && patient.sex !== 'U' ? word('sex', patient.sex) : '';
  return [sex, patient?.age == null ? '' : ageOf(patient.age)].filter(Boolean).join(', ');
}
