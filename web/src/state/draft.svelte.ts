import type { Problem } from '../api/types';

export interface DraftFile {
  id: number;
  file: File;
  path: string;
}

export interface DraftNote {
  id: number;
  kind: string;
  text: string;
}

export interface DraftValue {
  id: number;
  code: string;
  value: string;
  unit: string;
  time: string;
}

/** A study that is being put together. It lives as long as the page does, and nowhere else. */
class Draft {
  files: DraftFile[] = $state.raw([]);
  notes: DraftNote[] = $state([]);
  values: DraftValue[] = $state([]);
  age = $state('');
  sex = $state('');
  problem: Problem | null = $state(null);
  /** Of this draft: sent again after a break it is taken once. */
  key = newKey();
  #last = 0;

  get empty(): boolean {
    return !this.files.length && !this.notes.some((note) => note.text.trim()) && !this.values.some((one) => one.value.trim());
  }

  id(): number {
    return (this.#last += 1);
  }

  addFiles(found: { file: File; path: string }[]): void {
    const known = new Set(this.files.map((one) => `${one.path} ${one.file.size} ${one.file.lastModified}`));
    const fresh = found.filter(({ file, path }) => !known.has(`${path} ${file.size} ${file.lastModified}`));
    this.files = [...this.files, ...fresh.map((one) => ({ ...one, id: this.id() }))];
    this.changed();
  }

  removeFile(id: number): void {
    this.files = this.files.filter((one) => one.id !== id);
    this.changed();
  }

  /** Another content is another request. */
  changed(): void {
    this.problem = null;
    this.key = newKey();
  }

  clear(): void {
    [this.files, this.notes, this.values, this.age, this.sex] = [[], [], [], '', ''];
    this.changed();
  }

  form(): FormData {
    const form = new FormData();
    const notes = this.sentNotes.map(({ kind, text }) => ({ kind, text }));
    const observations = this.sentValues.map(({ code, value, unit, time }) => ({
      code,
      value: value.trim(),
      ...(unit ? { unit } : {}),
      ...(time ? { time } : {}),
    }));
    const patient = { ...(this.age.trim() ? { age: this.age.trim() } : {}), ...(this.sex ? { sex: this.sex } : {}) };
    const request = {
      ...(notes.length ? { notes } : {}),
      ...(observations.length ? { observations } : {}),
      ...(Object.keys(patient).length ? { patient } : {}),
    };
    form.append('request', JSON.stringify(request));
    for (const { file } of this.files) form.append('images', file, file.name);
    return form;
  }

  get sentNotes(): DraftNote[] {
    return this.notes.filter((note) => note.text.trim());
  }

  get sentValues(): DraftValue[] {
    return this.values.filter((one) => one.code && one.value.trim());
  }
}

function newKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

export const draft = new Draft();
