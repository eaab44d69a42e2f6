import type { WordWeight } from '../api/types';

export interface Segment {
  text: string;
  weight: number;
  /** What the model read in its place, where it did not read the text. */
  readAs: string;
}

/** A note cut where weighed words begin and end; offsets count UTF-16 units, as JavaScript's strings do. */
export function segments(text: string, words: readonly WordWeight[]): Segment[] {
  const found: Segment[] = [];
  let end = 0;
  const plain = (to: number) => to > end && found.push({ text: text.slice(end, to), weight: 0, readAs: '' });
  for (const word of [...words].sort((one, other) => one.start_utf16 - other.start_utf16)) {
    if (word.start_utf16 < end || word.end_utf16 > text.length) continue;
    plain(word.start_utf16);
    const own = text.slice(word.start_utf16, word.end_utf16);
    found.push({ text: own, weight: word.weight, readAs: word.text === own ? '' : word.text });
    end = word.end_utf16;
  }
  plain(text.length);
  return found;
}
